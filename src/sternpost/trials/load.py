"""Names -> things: models, SAEs and engines, from a folder or the Hub."""

import hashlib
import importlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any
from weakref import WeakKeyDictionary

import torch

from sternpost.engines import loading
from sternpost.engines.loading import pick_device, warnings_of
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, SAEError
from sternpost.files import sha256_file, sha256_text
from sternpost.sae import SAE, adopt, read_sae
from sternpost.sae.files import listed, named, wanted_files
from sternpost.sae.read import finite
from sternpost.trials.settings import Settings
from sternpost.types import Hookpoint

SHIPPED = {"dinghy": "sternpost.dinghy"}
"""Models and packs that come with sternpost: name -> package. A folder of that name is ./NAME."""
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_model(name: str | Path, *, revision: str | None = None, device: str = "auto",
               dtype: Any = "auto", trust_remote_code: bool = False,
               **from_pretrained_kwargs: Any) -> tuple[Any, Any]:
    """A causal language model, in evaluation mode, and its tokenizer.

    `name`: a folder, a Hub id, or "dinghy", the small model that comes with sternpost. `device`
    "auto": cuda, mps, cpu, the first that is there; beside a `device_map` it is an error. `dtype`
    "auto": float32 on a CPU, else the checkpoint's. Raises ModelError.
    """
    model, tokenizer = loading.load_model(
        packed_folder(str(name), "model"), revision=revision, device=device, dtype=dtype,
        trust_remote_code=trust_remote_code, **from_pretrained_kwargs)
    _folders[model] = folder_of(str(name), revision)
    return model, tokenizer


def packed_folder(name: str, what: str) -> Path:
    """Where a shipped model ("model") or pack ("pack") of this name lies, else `name` itself."""
    if name not in SHIPPED:
        return Path(name)
    return Path(str(resources.files(SHIPPED[name]))) / what


def trained_on(name: str) -> list[str]:
    """sha256 of the prompts that a shipped model was trained on; nothing is known of others."""
    if name not in SHIPPED:
        return []
    return importlib.import_module(SHIPPED[name]).training_prompts()


def load_sae(name: Any, sae_id: str | None = None, *,
             hookpoint: int | str | Hookpoint | None = None, revision: str | None = None,
             device: str = "auto", dtype: Any = "auto") -> SAE:
    """An SAE from a folder or file in a public layout, from the Hub, or from an object.

    `sae_id`: the SAE's folder or file below a root that holds several. `hookpoint`: the block whose
    output it reads, where the file does not say. `dtype` "auto": float32 on a CPU, else as stored.
    Raises SAEError.
    """
    if not isinstance(name, str | Path):
        return adopt(name, hookpoint)
    sae = finite(read_sae(_folder(str(name), sae_id, revision), sae_id, hookpoint))
    where = pick_device(device)
    if dtype == "auto":
        kind = torch.float32 if where == "cpu" else sae.dtype
    elif isinstance(dtype, torch.dtype):
        kind = dtype
    elif dtype in _DTYPES:
        kind = _DTYPES[dtype]
    else:
        raise InputError(f"dtype is auto, {', '.join(_DTYPES)}; got {dtype!r}.")
    return sae.to(where, kind)


def _folder(name: str, sae_id: str | None, revision: str | None) -> Path:
    path = Path(name).expanduser()
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        return path
    from huggingface_hub import HfApi, snapshot_download  # HTTP: only where one is needed

    try:
        saes = named(map(PurePosixPath, HfApi().list_repo_files(name, revision=revision)))
        wanted = sae_id or (next(iter(saes)) if len(saes) == 1 else None)
        if wanted is not None:
            return Path(snapshot_download(name, revision=revision, allow_patterns=wanted_files(
                wanted, saes.get(wanted))))
    except Exception as error:
        raise SAEError(f"No SAE folder at {name}, and the Hub gives none by that name: "
                       f"{str(error).splitlines()[0]}. Give a folder, or check HF_ENDPOINT and "
                       "HF_HUB_OFFLINE.") from error
    if not saes:
        raise SAEError(f"{name} on the Hub holds no SAE in a layout that is read.")
    raise SAEError(f"{name} on the Hub holds {len(saes)} SAEs: {listed(list(saes))}. Name one: "
                   f"load_sae({name!r}, {next(iter(saes))!r}), or --sae {name}:{next(iter(saes))}")


def sae_from_option(option: str, hookpoint: int | None = None, device: str = "auto") -> SAE:
    """The SAE that `--sae REPO_OR_DIR[:SAE_ID]` names."""
    name, sae_id = option, None
    if not Path(option).exists() and ":" in option:
        name, _, sae_id = option.rpartition(":")
    return load_sae(name, sae_id, hookpoint=hookpoint, device=device)


def load_engine(settings: Settings) -> tuple[TransformersEngine, list[str]]:
    """The model that the settings name, as an Engine, and what there was to warn of."""
    model, tokenizer = load_model(settings.model, revision=settings.revision,
                                  device=settings.device, dtype=settings.dtype)
    warnings = list(warnings_of(model))
    if settings.chat_template is not None:
        tokenizer.chat_template = read_template(settings.chat_template)
        warnings = []
    template = Template(tokenizer, settings.system, settings.template_arguments)
    return TransformersEngine(model, template, settings.rows), warnings


def read_template(path: str) -> str:
    """The chat template in a file. Raises InputError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"No readable chat template at {path}: {error}. Give a Jinja file.") \
            from error
    if not text.strip():
        raise InputError(f"The chat template {path} is empty.")
    return text


def model_hashes(name: str, revision: str | None = None) -> dict[str, str]:
    """sha256 of a model's config, weight and tokenizer files, by name."""
    folder = folder_of(name, revision)
    if folder is None:
        return {}
    return _hashed(folder, (*_WEIGHTS, "tokenizer.json", "tokenizer.model", "*.jinja",
                            "tokenizer_config.json"))


_WEIGHTS = ("config.json", "*.safetensors", "*.bin")
_known: dict[tuple[str, int, int], str] = {}


def weight_hashes(folder: Path) -> dict[str, str]:
    """sha256 of the config and weight files in a model's folder, by name."""
    return _hashed(folder, _WEIGHTS)


def _hashed(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    files = sorted(file for pattern in patterns for file in folder.glob(pattern))
    return {file.name: _hash(file) for file in files}


def _hash(file: Path) -> str:
    """sha256 of a file, computed again only where it changed: weights are large."""
    stat = file.stat()
    key = str(file.resolve()), stat.st_mtime_ns, stat.st_size
    if key not in _known:
        _known[key] = sha256_file(file)
    return _known[key]


def folder_of(name: str, revision: str | None = None) -> Path | None:
    """The local folder of a model: shipped, on disk, or in the Hub's cache; None where there is
    none."""
    folder = packed_folder(name, "model")
    if (folder / "config.json").is_file():
        return folder
    if not name or name.count("/") != 1 or folder.exists():
        return None
    from huggingface_hub import snapshot_download  # as above

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception:  # noqa: BLE001 (not in the cache, whatever the Hub's client calls that)
        return None


_folders: "WeakKeyDictionary[Any, Path | None]" = WeakKeyDictionary()


def loaded_from(model: Any) -> Path | None:
    """The folder whose files a model was loaded from; None where that cannot be known: of a Hub
    model that others loaded, transformers may not say which revision it is."""
    if model in _folders:
        return _folders[model]
    name, commit = (getattr(model.config, key, None) for key in ("_name_or_path", "_commit_hash"))
    if not name or not (commit or Path(name).is_dir()):
        return None
    return folder_of(name, commit)


def commit_of(folder: Path | None) -> str | None:
    """The Hub's commit that a folder of its cache holds; None for another folder."""
    return folder.name if folder is not None and folder.parent.name == "snapshots" else None


def state_sha256(model: Any) -> str:
    """sha256 over a model's tensors in name order: names, types, shapes and bytes."""
    return _tensors_sha256(model.state_dict())


def _tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        body = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {body.dtype} {tuple(body.shape)}\n".encode())
        digest.update(body.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def sae_sha256(sae: SAE) -> str:
    """sha256 over an SAE's tensors."""
    parts = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec,
             "threshold": sae.threshold}
    return _tensors_sha256({name: part for name, part in parts.items() if part is not None})


def template_sha256(engine: Any) -> str | None:
    """sha256 of the chat template in use; None for an engine without one."""
    template = getattr(engine, "template", None)
    return None if template is None else sha256_text(template.source)
