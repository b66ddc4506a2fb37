"""Names -> things: models, SAEs and engines, from a folder or the Hub."""

from pathlib import Path
from typing import Any

import torch

from sternpost.engines.loading import load_model, pick_device, warnings_of
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, SAEError
from sternpost.files import sha256_file, sha256_text
from sternpost.jobs.settings import RunSettings
from sternpost.sae import SAE, adopt, read_sae
from sternpost.sae.read import finite
from sternpost.types import Hookpoint

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_sae(name: Any, sae_id: str | None = None, *,
             hookpoint: int | str | Hookpoint | None = None, revision: str | None = None,
             device: str = "auto", dtype: Any = "auto") -> SAE:
    """An SAE from a folder of ours, sparsify's or SAELens', from the Hub, or from an object.

    `sae_id`: the SAE's folder below a root that holds several. `hookpoint`: the block whose output
    it reads, where the file does not say. `dtype` "auto": float32 on a CPU, else as stored. Raises
    SAEError.
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
    if path.is_file():
        return path.parent
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        return path
    from huggingface_hub import snapshot_download  # an HTTP client: only where one is needed

    try:
        return Path(snapshot_download(name, revision=revision,
                                      allow_patterns=f"{sae_id}/*" if sae_id else None))
    except Exception as error:
        raise SAEError(f"No SAE folder at {name}, and the Hub gives none by that name: "
                       f"{str(error).splitlines()[0]}. Give a folder, or check HF_ENDPOINT and "
                       "HF_HUB_OFFLINE.") from error


def sae_from_option(option: str, hookpoint: int | None = None, device: str = "auto") -> SAE:
    """The SAE that `--sae REPO_OR_DIR[:SAE_ID]` names."""
    name, sae_id = option, None
    if not Path(option).exists() and ":" in option:
        name, _, sae_id = option.rpartition(":")
    return load_sae(name, sae_id, hookpoint=hookpoint, device=device)


def load_engine(settings: RunSettings) -> tuple[TransformersEngine, list[str]]:
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
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download  # as above

        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    files = sorted(file for pattern in ("config.json", "*.safetensors", "*.bin", "tokenizer.json",
                                        "tokenizer.model", "*.jinja", "tokenizer_config.json")
                   for file in folder.glob(pattern))
    return {file.name: sha256_file(file) for file in files}


def template_sha256(engine: Any) -> str | None:
    """sha256 of the chat template in use; None for an engine without one."""
    template = getattr(engine, "template", None)
    return None if template is None else sha256_text(template.source)
