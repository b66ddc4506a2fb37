"""A folder -> SAE: finds the layout, the hookpoint, and the files that we add beside it."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sternpost.errors import HookpointError, SAEError
from sternpost.sae.autoencoder import SAE, FeatureStats
from sternpost.sae.layouts import weights_of
from sternpost.types import Hookpoint


def read_sae(root: Path, sae_id: str | None = None,
             hookpoint: "int | str | Hookpoint | None" = None) -> SAE:
    """The SAE in `root` or in its subfolder `sae_id`, float tensors as stored, on the CPU.

    Raises SAEError: no folder, no known layout, several SAEs and no `sae_id`, broken files.
    """
    folder = _folder(root, sae_id)
    found = weights_of(folder)
    if found is None:
        raise SAEError(_nothing_there(root, folder))
    file, reader = found
    cfg = _config(folder / "cfg.json")
    tensors = dict(_tensors(file))
    if (folder / "thresholds.safetensors").is_file():
        tensors |= _tensors(folder / "thresholds.safetensors")
    at = Hookpoint.parse(hookpoint) if hookpoint is not None else _hookpoint(cfg, folder)
    return _with_norms(reader(cfg, tensors, str(folder), at), folder)


def saes_under(root: Path) -> list[str]:
    """Ids (relative folders) of all SAEs below `root`, sorted."""
    return sorted({file.parent.relative_to(root).as_posix() for file in root.rglob("*.safetensors")
                   if weights_of(file.parent) and (file.parent / "cfg.json").is_file()})


def _folder(root: Path, sae_id: str | None) -> Path:
    if not root.is_dir():
        raise SAEError(f"No SAE folder at {root}. Give a folder with cfg.json and "
                       "sae.safetensors (sparsify, ours) or sae_weights.safetensors (SAELens).")
    folder = root / sae_id if sae_id else root
    if not folder.is_dir():
        raise SAEError(f"{root} has no SAE {sae_id!r}. It has: {_listing(root)}.")
    if weights_of(folder) is None and len(saes := saes_under(folder)) == 1:
        return folder / saes[0]
    return folder


def _nothing_there(root: Path, folder: Path) -> str:
    saes = saes_under(folder)
    if saes:
        first = (folder / saes[0]).relative_to(root).as_posix()
        return (f"{folder} holds {len(saes)} SAEs: {_listing(folder)}. Name one: "
                f"load_sae({str(root)!r}, {first!r}), or --sae {root}:{first}")
    if saes_under(root):
        return f"{folder} holds no SAE. {root} has: {_listing(root)}."
    return (f"{folder} holds no SAE in a layout that is read: cfg.json with sae.safetensors "
            "(sparsify, ours) or sae_weights.safetensors (SAELens).")


def _listing(root: Path) -> str:
    saes = saes_under(root)
    more = f" and {len(saes) - 20} more" if len(saes) > 20 else ""
    return (", ".join(saes[:20]) + more) or "none"


def _config(path: Path) -> Mapping[str, Any]:
    try:
        cfg = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SAEError(f"{path} is missing or not JSON: {error}.") from error
    if not isinstance(cfg, dict):
        raise SAEError(f"{path} is not a JSON object.")
    return cfg


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SAEError(f"{path} is not readable safetensors: {error}.") from error


def _hookpoint(cfg: Mapping[str, Any], folder: Path) -> Hookpoint:
    """What the file says, else the nearest name on its path, the file's own folder first."""
    metadata, trainer = (part if isinstance(part := cfg.get(key), dict) else {}
                         for key in ("metadata", "trainer"))
    said = (cfg.get("hookpoint"), cfg.get("hook_name"), metadata.get("hook_name"),
            cfg.get("hook_point_in"), trainer.get("layer"))
    for name in said:
        if name is not None:
            return Hookpoint.parse(name)
    for part in (folder.absolute(), *folder.absolute().parents):
        if not part.name.isdigit() and (found := Hookpoint.find(part.name)) is not None:
            return found
    raise HookpointError(f"{folder} does not say which block's output the SAE reads. Give it: "
                         "load_sae(..., hookpoint=6) for the output of block 6 (0-based), or put "
                         '"hookpoint": "layers.6" into its cfg.json.')


def _with_norms(sae: SAE, folder: Path) -> SAE:
    """Adds what `save.py` writes beside the weights, where it is there."""
    file = folder / "norms.json"
    if file.is_file():
        norm = _config(file).get("residual_norm")
        if not isinstance(norm, int | float) or not 0 < norm < math.inf:
            raise SAEError(f"{file} says \"residual_norm\": {norm!r}; it should be a positive "
                           "number. Remove the file, or save the SAE again.")
        sae = replace(sae, residual_norm=float(norm))
    file = folder / "features.safetensors"
    if file.is_file():
        stats = _tensors(file)
        for key in ("high", "density", *({"agreement"} & set(stats))):
            if key not in stats or stats[key].shape != (sae.d_sae,):
                raise SAEError(f"{file} has no {key!r} of shape ({sae.d_sae},). Remove the file, "
                               "or save the SAE again.")
        sae = replace(sae, stats=FeatureStats(stats["high"], stats["density"],
                                              stats.get("agreement")))
    return sae


def finite(sae: SAE) -> SAE:
    """`sae`, after a look that all its numbers are finite."""
    for key in ("W_enc", "W_dec", "b_enc", "b_dec"):
        if not torch.isfinite(getattr(sae, key)).all():
            raise SAEError(f"{sae.name}: {key} holds values that are not finite; the file is "
                           "damaged. Download it again.")
    if sae.threshold is not None and sae.threshold.isnan().any():  # infinite: never active
        raise SAEError(f"{sae.name}: threshold holds values that are no numbers; the file is "
                       "damaged. Download it again.")
    return sae
