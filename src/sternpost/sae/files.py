"""Which files below a folder hold an SAE, and what one holds. Nothing in a file is ever run: a
pickle with more in it than tensors, numbers and strings is refused."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sternpost.errors import SAEError

WITH_CFG = ("sae.safetensors", "sae_weights.safetensors")
"""Files that a config explains; they are no SAE without it."""
_WITHOUT = ("params.safetensors", "params.npz")
_FINAL = ("final.safetensors", "pruned.safetensors")
"""In a folder `checkpoints`, below the SAE's own."""
PICKLES = (".pt", ".pth")
_OTHERS = ("trainer_state.pt", "optimizer.pt", "scheduler.pt", "training_state.pt")
BESIDE = ("thresholds.safetensors", "features.safetensors", "norms.json")
"""What save.py adds."""
_CONFIGS = ("cfg.json", "config.json", "hyperparams.json")
_WRAPPERS = ("sae", "state_dict", "model_state_dict")


def is_weights(path: PurePath) -> bool:
    """Whether a file of this name holds an SAE."""
    if path.name in _FINAL:
        return path.parent.name == "checkpoints"
    return path.name in (*WITH_CFG, *_WITHOUT) or (
        path.suffix in PICKLES and path.name not in _OTHERS
        and not path.name.startswith(("rng_state", "pytorch_model")))


def weights_in(folder: Path) -> Path:
    """The weight file of a folder that `save_sae` wrote."""
    return next(folder / name for name in WITH_CFG if (folder / name).is_file())


def named(files: Iterable[PurePath]) -> dict[str, PurePath]:
    """The SAEs among `files` (paths below a root) by their ids: the folder where it holds one SAE
    alone, else the file."""
    files = sorted({PurePath(file) for file in files}, key=str)
    there = set(files)
    kept = [file for file in files if is_weights(file) and (
        file.name not in WITH_CFG or there & {file.with_name(name) for name in _CONFIGS})]
    homes = [home_of(file) for file in kept]
    return {str(home if homes.count(home) == 1 else file): file
            for file, home in zip(kept, homes, strict=True)}


def listed(saes: Sequence[str]) -> str:
    """The first ids, and how many more there are."""
    more = f" and {len(saes) - 20} more" if len(saes) > 20 else ""
    return (", ".join(saes[:20]) + more) or "none"


def wanted_files(sae_id: str, file: PurePath | None) -> list[str]:
    """Patterns of what an SAE needs of a repository, and no more: its folder, or its file (`file`
    where that is known) with the configs beside it and what we add."""
    alone = file or PurePath(sae_id)
    beside = [str(alone.with_name(name)) for name in (*_CONFIGS, *BESIDE)]
    folder = [] if sae_id == "." else [f"{sae_id}/*"]
    return [str(alone), *folder, *beside]


def home_of(file: PurePath) -> PurePath:
    """The folder that is the SAE's own."""
    return file.parent.parent if file.name in _FINAL else file.parent


def config_of(file: Path) -> Mapping[str, Any]:
    """What the config beside a weight file says, or the one above a folder `checkpoints`; {} where
    there is none and none is needed."""
    folders = [file.parent, *([file.parent.parent] if file.parent.name == "checkpoints" else [])]
    found = next((folder / name for folder in folders for name in _CONFIGS
                  if (folder / name).is_file()), None)
    if file.name in WITH_CFG:
        needed = file.with_name("cfg.json")
        found = needed if needed.is_file() or found is None else found
    return {} if found is None else json_object(found)


def json_object(path: Path) -> Mapping[str, Any]:
    """A JSON file with an object in it."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SAEError(f"{path} is missing or not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise SAEError(f"{path} is not a JSON object.")
    return body


def load(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a weight file, on the CPU, and what it holds besides."""
    if file.suffix == ".safetensors":
        return load_tensors(file), {}
    if file.suffix == ".npz":
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays}, {}
        except (OSError, ValueError, BadZipFile, EOFError) as error:
            raise SAEError(f"{file} is not a readable .npz of numbers: {error}. Download it "
                           "again.") from error
    return _pickled(file)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SAEError(f"{path} is not readable safetensors: {error}.") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _pickled(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        body = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise SAEError(f"{file} is damaged, or holds more than tensors, numbers and strings, which "
                       f"is not run: {_first_line(error)}.") from error
    for key in _WRAPPERS:
        if isinstance(body, Mapping) and isinstance(body.get(key), Mapping):
            body = body[key]
    if not isinstance(body, Mapping):
        raise SAEError(f"{file} holds a {type(body).__name__}; a dict of tensors is read.")
    return ({key: value.detach() for key, value in body.items() if isinstance(value, Tensor)},
            {key: value for key, value in body.items() if not isinstance(value, Tensor)})
