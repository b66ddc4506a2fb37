"""Public layouts on disk -> SAE: each a few lines that name the tensors and the equation.

| layout        | files                                 | encoder     | decoder     |
|---------------|---------------------------------------|-------------|-------------|
| sparsify >= 1 | cfg.json, sae.safetensors             | [d_sae, d]  | [d_sae, d]  |
| SAELens >= 6  | cfg.json, sae_weights.safetensors     | [d, d_sae]  | [d_sae, d]  |

Ours is sparsify's with more keys in `cfg.json` and more files beside it (see `save.py`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sternpost.errors import SAEError
from sternpost.sae.autoencoder import SAE
from sternpost.types import Hookpoint

Tensors = Mapping[str, Tensor]


def sparsify_sae(cfg: Mapping[str, Any], tensors: Tensors, name: str, at: Hookpoint) -> SAE:
    """sparsify: pre = W_enc (x - b_dec) + b_enc whatever `normalize_decoder` says, then top-k.

    Our own folders may say more, see `save.py`.
    """
    if cfg.get("signed"):
        raise SAEError(f"{name} keeps the largest absolute pre-activations (\"signed\"), which is "
                       "not read; a TopK SAE that keeps the largest ones is.")
    kind = str(cfg.get("activation", "topk")).removeprefix("sternpost-")
    if kind not in ("topk", "jumprelu"):
        raise SAEError(f"{name}: activation {kind!r} is not read yet; topk and jumprelu are.")
    if cfg.get("transcode") or cfg.get("skip_connection") or "W_skip" in tensors:
        raise SAEError(f"{name} is a transcoder: it predicts another place than it reads, so its "
                       "features cannot be written back. Use an SAE of the residual stream.")
    return SAE(W_enc=_tensor(tensors, "encoder.weight", name),
               W_dec=_tensor(tensors, "W_dec", name),
               b_enc=_tensor(tensors, "encoder.bias", name), b_dec=_tensor(tensors, "b_dec", name),
               hookpoint=at, kind=kind, k=cfg.get("k", 32) if kind == "topk" else None,
               threshold=tensors.get("threshold"), subtract_b_dec=cfg.get("subtract_b_dec", True),
               centred=cfg.get("centred", False), name=name)


def saelens_sae(cfg: Mapping[str, Any], tensors: Tensors, name: str, at: Hookpoint) -> SAE:
    """SAELens: pre = (x - b_dec * apply_b_dec_to_input) @ W_enc + b_enc, then by architecture.

    `rescale_acts_by_decoder_norm` multiplies pre by |W_dec[f]| and divides the row by it: folded
    here, exactly, so that row f of `W_dec` is what one unit of activation writes.
    """
    kind, metadata = cfg.get("architecture"), cfg.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise SAEError(f"{name}: \"metadata\" in cfg.json is not a JSON object: {metadata!r}.")
    if kind not in ("topk", "jumprelu"):
        raise SAEError(f"{name}: SAELens architecture {kind!r} is not read yet; topk and jumprelu "
                       "are.")
    _refuse_saelens_options(cfg, name)
    W_enc, W_dec = _tensor(tensors, "W_enc", name).mT.contiguous(), _tensor(tensors, "W_dec", name)
    b_enc = _tensor(tensors, "b_enc", name)
    if kind == "topk" and cfg.get("rescale_acts_by_decoder_norm", False):
        norm = W_dec.norm(dim=-1).clamp(min=1e-8)  # a row of zeros stays one
        W_enc, b_enc, W_dec = W_enc * norm[:, None], b_enc * norm, W_dec / norm[:, None]
    return SAE(W_enc=W_enc, W_dec=W_dec, b_enc=b_enc, b_dec=_tensor(tensors, "b_dec", name),
               hookpoint=at, kind=kind, k=cfg.get("k") if kind == "topk" else None,
               threshold=_tensor(tensors, "threshold", name) if kind == "jumprelu" else None,
               subtract_b_dec=bool(cfg.get("apply_b_dec_to_input", True)),
               centred=is_centred(metadata, name), name=name)


def _refuse_saelens_options(cfg: Mapping[str, Any], name: str) -> None:
    normalise = cfg.get("normalize_activations", "none")
    # expected_average_only_in is folded into the weights when training ends; encode ignores it.
    if normalise not in ("none", "expected_average_only_in", None):
        raise SAEError(f"{name}: normalize_activations={normalise!r} rescales every token, which "
                       "is not read yet; 'none' is.")
    metadata = cfg.get("metadata") or {}
    if cfg.get("reshape_activations", "none") not in ("none", None) or \
            metadata.get("hook_head_index") is not None:
        raise SAEError(f"{name} reads attention heads, not the residual stream. Use a "
                       "hook_resid_post or hook_resid_pre SAE.")


# TransformerLens centres the weights that write to the stream only where every reader is a
# LayerNorm; for RMSNorm models it ignores the flag. Everything else it can do to a model
# (fold_ln, center_unembed, fold_value_biases) leaves the residual stream as it is.
_LAYER_NORM = ("gpt2", "gpt-neo", "gpt-j", "pythia", "opt-", "bloom", "stablelm", "phi-1", "phi-2")
_RMS_NORM = ("llama", "mistral", "mixtral", "gemma", "qwen", "phi-3", "phi-4", "olmo-2", "smollm")


def is_centred(metadata: Mapping[str, Any], name: str) -> bool:
    """Whether the SAE was trained on a stream with its mean taken off. Raises SAEError where the
    model's family, and so the correction, is unknown."""
    options = metadata.get("model_from_pretrained_kwargs") or {}
    if not options.get("center_writing_weights"):
        return False
    model = str(metadata.get("model_name", "")).lower()
    if any(family in model for family in _LAYER_NORM):
        return True
    if any(family in model for family in _RMS_NORM):
        return False
    raise SAEError(f"{name} was trained with center_writing_weights=True on {model or 'a model'!r};"
                   " whether that changes its residual stream is known for LayerNorm families "
                   f"({', '.join(_LAYER_NORM)}) and RMSNorm ones ({', '.join(_RMS_NORM)}) only.")


_DIMS = {"W_enc": 2, "W_dec": 2, "encoder.weight": 2}


def _tensor(tensors: Tensors, key: str, name: str) -> Tensor:
    if key not in tensors:
        has = ", ".join(sorted(tensors)) or "none"
        raise SAEError(f"{name} has no tensor {key!r}; it has {has}.")
    tensor, dims = tensors[key], _DIMS.get(key, 1)
    if tensor.dim() != dims or not tensor.is_floating_point():
        raise SAEError(f"{name}: {key} is {tensor.dtype} of shape {tuple(tensor.shape)}; it should "
                       f"be floating-point numbers in {dims} dimension{'s' * (dims > 1)}.")
    return tensor


Reader = Callable[[Mapping[str, Any], Tensors, str, Hookpoint], SAE]
WEIGHTS: dict[str, Reader] = {"sae.safetensors": sparsify_sae,
                              "sae_weights.safetensors": saelens_sae}


def weights_of(folder: Path) -> tuple[Path, Reader] | None:
    """The weight file of an SAE folder and who reads it; None where there is none."""
    for file, reader in WEIGHTS.items():
        if (folder / file).is_file():
            return folder / file, reader
    return None
