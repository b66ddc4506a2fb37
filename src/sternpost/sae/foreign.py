"""SAE objects of SAELens, sparsify and dictionary_learning -> SAE, known by their attributes.

None of these libraries is imported. Weights are shared, not copied, where the layout allows it.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from sternpost.errors import HookpointError, SAEError
from sternpost.sae.autoencoder import SAE
from sternpost.sae.layouts import saelens_sae, sparsify_sae
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
    if hasattr(thing, "encoder") and hasattr(thing, "decoder") and hasattr(thing, "k"):
        return _dictionary_topk(thing, hookpoint)
    if hasattr(thing, "W_enc") and hasattr(thing, "threshold") and not hasattr(thing, "k"):
        return _dictionary_jumprelu(thing, hookpoint)
    raise SAEError(f"{type(thing).__name__} is no SAE that sternpost knows. Give what load_sae "
                   "returns, or a TopK or JumpReLU SAE of SAELens, sparsify or "
                   "dictionary_learning.")


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
    keys = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
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


def _dictionary_topk(thing: Any, hookpoint: Any) -> SAE:
    """dictionary_learning's AutoEncoderTopK: top-k; its BatchTopK: one threshold, no top-k."""
    W_enc, W_dec = _data(thing.encoder.weight), _data(thing.decoder.weight).T.contiguous()
    shared = getattr(thing, "threshold", None)
    threshold = None
    if isinstance(shared, Tensor) and float(shared.max()) >= 0:
        threshold = _data(shared).expand(W_enc.shape[0]).to(W_enc)
    batch_topk = "batch" in type(thing).__name__.lower()
    if batch_topk and threshold is None:
        raise SAEError("This BatchTopK SAE has no threshold yet; train it past its threshold's "
                       "start, or load one that has been.")
    return SAE(W_enc=W_enc, W_dec=W_dec, b_enc=_data(thing.encoder.bias), b_dec=_data(thing.b_dec),
               hookpoint=_at(thing, None, hookpoint), kind="jumprelu" if batch_topk else "topk",
               k=None if batch_topk else int(thing.k), threshold=threshold,
               name=type(thing).__name__)


def _dictionary_jumprelu(thing: Any, hookpoint: Any) -> SAE:
    W_enc = _data(thing.W_enc).T.contiguous()
    subtract = bool(getattr(thing, "apply_b_dec_to_input", False))
    return SAE(W_enc=W_enc, W_dec=_data(thing.W_dec), b_enc=_data(thing.b_enc),
               b_dec=_data(thing.b_dec), hookpoint=_at(thing, None, hookpoint), kind="jumprelu",
               threshold=_data(thing.threshold).expand(W_enc.shape[0]), subtract_b_dec=subtract,
               name=type(thing).__name__)
