"""A folder -> SAE: finds the file, its layout, the hookpoint, and the files that we add beside."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sternpost.errors import HookpointError, SAEError
from sternpost.sae.autoencoder import SAE, FeatureStats
from sternpost.sae.files import (
    PICKLES,
    config_of,
    home_of,
    is_weights,
    json_object,
    listed,
    load,
    load_tensors,
    named,
)
from sternpost.sae.layouts import Found, layout_of
from sternpost.types import Hookpoint


def read_sae(root: Path, sae_id: str | None = None,
             hookpoint: "int | str | Hookpoint | None" = None) -> SAE:
    """The SAE in `root`, a folder or file, or in its subfolder or file `sae_id`; float tensors as
    stored, on the CPU.

    Raises SAEError: no folder, no known layout, several SAEs and no `sae_id`, broken files.
    """
    file = _file(root, sae_id)
    cfg = config_of(file)
    tensors, notes = load(file)
    beside = file.with_name("thresholds.safetensors")
    if beside.is_file():
        tensors |= load_tensors(beside)
    found = Found(tensors, cfg, str(_own(file)), file.name, notes)
    layout = layout_of(found)
    at = Hookpoint.parse(hookpoint) if hookpoint is not None else _hookpoint(cfg, file)
    return _with_norms(layout.read(found, at), file.parent)


def saes_under(root: Path) -> list[str]:
    """Ids (relative folders or files) of all SAEs below `root`, sorted."""
    return list(_below(root))


def _below(root: Path) -> dict[str, Path]:
    files = [file.relative_to(root) for pattern in ("*.safetensors", "*.npz", "*.pt", "*.pth",
                                                    "*.json") for file in root.rglob(pattern)
             if file.is_file()]
    return {key: root / file for key, file in named(files).items()}


def _own(file: Path) -> Path:
    """Where an SAE lies: its folder, or the file where that holds several."""
    alone = sum(is_weights(other) and other.is_file() for other in file.parent.iterdir()) == 1
    return Path(home_of(file)) if alone else file


def _file(root: Path, sae_id: str | None) -> Path:
    if not root.exists():
        raise SAEError(f"No SAE folder at {root}. Give a folder with {_READ}.")
    if root.is_file():
        return root
    place = root / sae_id if sae_id else root
    if not place.exists():
        raise SAEError(f"{root} has no SAE {sae_id!r}. It has: {_listing(root)}.")
    if place.is_file():
        return place
    saes = _below(place)
    here = {key: file for key, file in saes.items() if Path(home_of(file)) == place}
    known = [file for file in here.values() if file.suffix not in PICKLES] or list(here.values())
    if len(known) == 1:
        return known[0]
    if len(saes) == 1:
        return next(iter(saes.values()))
    bare = [file for file in place.iterdir() if is_weights(file) and file.is_file()]
    if not saes and len(bare) == 1:  # without its cfg.json, which will be asked for
        return bare[0]
    raise SAEError(_nothing_there(root, place, saes))


_READ = ("cfg.json and sae.safetensors (sparsify, ours) or sae_weights.safetensors (SAELens), "
         "params.npz (Gemma Scope), ae.pt (dictionary_learning) or another public layout")


def _nothing_there(root: Path, place: Path, saes: Mapping[str, Path]) -> str:
    if saes:
        first = (place / next(iter(saes))).relative_to(root).as_posix()
        return (f"{place} holds {len(saes)} SAEs: {_listing(place)}. Name one: "
                f"load_sae({str(root)!r}, {first!r}), or --sae {root}:{first}")
    if place != root and saes_under(root):
        return f"{place} holds no SAE. {root} has: {_listing(root)}."
    return f"{place} holds no SAE in a layout that is read: {_READ}."


def _listing(root: Path) -> str:
    return listed(saes_under(root))


_HF_OUTPUT = re.compile(r"(?:\w+\.)*layers\.(\d+)\.output")
_ENDINGS = re.compile(r"(\.sae)?\.(pt|pth|npz|safetensors)$")


def _hookpoint(cfg: Mapping[str, Any], file: Path) -> Hookpoint:
    """What the file says, else the nearest name on its path, the file's own first."""
    metadata, trainer = (part if isinstance(part := cfg.get(key), dict) else {}
                         for key in ("metadata", "trainer"))
    said = (cfg.get("hookpoint"), cfg.get("hook_name"), cfg.get("hook_point"),
            metadata.get("hook_name"), cfg.get("hook_point_in"), cfg.get("hf_hook_point_in"),
            trainer.get("layer"))
    for name in said:
        if name is not None:
            output = _HF_OUTPUT.fullmatch(str(name))
            return Hookpoint(int(output[1])) if output else Hookpoint.parse(name)
    whole = file.absolute()
    for name in (_ENDINGS.sub("", whole.name), *(folder.name for folder in whole.parents)):
        if not name.isdigit() and (found := Hookpoint.find(name)) is not None:
            return found
    raise HookpointError(f"{_own(file)} does not say which block's output the SAE reads. Give it: "
                         "load_sae(..., hookpoint=6) for the output of block 6 (0-based), or put "
                         '"hookpoint": "layers.6" into its cfg.json.')


def _with_norms(sae: SAE, folder: Path) -> SAE:
    """Adds what `save.py` writes beside the weights, where it is there."""
    file = folder / "norms.json"
    if file.is_file():
        norm = json_object(file).get("residual_norm")
        if not isinstance(norm, int | float) or not 0 < norm < math.inf:
            raise SAEError(f"{file} says \"residual_norm\": {norm!r}; it should be a positive "
                           "number. Remove the file, or save the SAE again.")
        sae = replace(sae, residual_norm=float(norm))
    file = folder / "features.safetensors"
    if file.is_file():
        stats = load_tensors(file)
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
