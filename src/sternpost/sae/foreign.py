"""SAE objects of SAELens, sparsify and dictionary_learning -> SAE, known by their attributes.

None of these libraries is imported. Weights are shared, not copied, where the layout allows it.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sternpost.errors import HookpointError, SAEError
from sternpost.sae.autoencoder import SAE
from sternpost.sae.layouts import dictionary_sae, saelens_sae, sparsify_sae
from sternpost.types import Hookpoint


def adopt(thing: Any, hookpoint: "int | str | Hookpoint | None" = None) -> SAE:
    """`thing` as an SAE of ours. Raises SAEError for an object of unknown make, HookpointError
    where neither it nor `hookpoint` says which block it reads."""
    if isinstance(thing, SAE):
        return thing if hookpoint is None else replace(thing, hookpoint=_at(thing, None, hookpoint))
    cfg = getattr(thing, "cfg", None)
    if cfg is not None and hasattr(thing, "W_enc"):
        return _saelens(thing, cfg, hookpoint)
    if cfg is not None and hasattr(thing, "encoder") and \
            isinstance(getattr(thing, "W_dec", None), Tensor):
        return _sparsify(thing, cfg, hookpoint)
    if isinstance(thing, torch.nn.Module) and _dictionary_names(thing):
        return _dictionary(thing, hookpoint)
    raise SAEError(f"{type(thing).__name__} is no SAE that sternpost knows. Give what load_sae "
                   "returns, or an SAE of SAELens, sparsify or dictionary_learning.")


def _at(thing: Any, said: Any, hookpoint: Any) -> Hookpoint:
    for name in (hookpoint, getattr(thing, "hookpoint", None), said):
        if name is not None:
            return Hookpoint.parse(name)
    raise HookpointError(f"This {type(thing).__name__} does not say which block's output it reads. "
                         "Give it: steer(model, sternpost.load_sae(sae, hookpoint=6), ...) for "
                         "the output of block 6 (0-based).")


def _data(tensor: Tensor) -> Tensor:
    return tensor.detach()


def _saelens(thing: Any, cfg: Any, hookpoint: Any) -> SAE:
    options = cfg.to_dict() if hasattr(cfg, "to_dict") else dict(vars(cfg))
    metadata = options.get("metadata") or {}
    if not isinstance(metadata, dict):
        metadata = dict(vars(metadata))
    options["metadata"] = metadata
    architecture = getattr(cfg, "architecture", options.get("architecture"))
    options["architecture"] = architecture() if callable(architecture) else architecture
    keys = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "b_gate", "b_mag", "r_mag",
            "topk_threshold")
    tensors = {key: _data(getattr(thing, key)) for key in keys
               if isinstance(getattr(thing, key, None), Tensor)}
    said = metadata.get("hook_name") or options.get("hook_name")
    return saelens_sae(options, tensors, type(thing).__name__, _at(thing, said, hookpoint))


def _sparsify(thing: Any, cfg: Any, hookpoint: Any) -> SAE:
    options = cfg.to_dict() if hasattr(cfg, "to_dict") else dict(vars(cfg))
    tensors = {"encoder.weight": _data(thing.encoder.weight),
               "encoder.bias": _data(thing.encoder.bias),
               "W_dec": _data(thing.W_dec), "b_dec": _data(thing.b_dec)}
    if getattr(thing, "W_skip", None) is not None:
        tensors["W_skip"] = _data(thing.W_skip)
    return sparsify_sae(options, tensors, type(thing).__name__, _at(thing, None, hookpoint))


def _dictionary_names(thing: torch.nn.Module) -> bool:
    names = set(dict(thing.named_parameters()))
    return {"encoder.weight", "decoder.weight"} <= names or {"W_enc", "W_dec", "b_enc",
                                                             "b_dec"} <= names


def _dictionary(thing: torch.nn.Module, hookpoint: Any) -> SAE:
    cfg = {name: getattr(thing, name) for name in ("apply_b_dec_to_input",)
           if hasattr(thing, name)}
    tensors = {name: _data(tensor) for name, tensor in thing.state_dict().items()}
    return dictionary_sae(cfg, tensors, type(thing).__name__, _at(thing, None, hookpoint))
