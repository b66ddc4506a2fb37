"""SAELens' SAEs, before and since version 6."""

from collections.abc import Mapping
from typing import Any

from sternpost.errors import SAEError
from sternpost.sae.found import Found, Parts, by_threshold, gated, relu, times_norm, topk

_BEFORE_6 = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index",
             "activation_fn_str": "activation_fn"}
_BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")
_PER_TOKEN = ("layer_norm", "constant_norm_rescale")


def saelens(found: Found, parts: Parts) -> Parts:
    """By architecture; before version 6 the keys were flat and an architecture seldom named."""
    cfg = {_BEFORE_6.get(key, key): value for key, value in found.cfg.items()}
    metadata = cfg.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise SAEError(f"{found.name}: \"metadata\" in cfg.json is not a JSON object: "
                       f"{metadata!r}.")
    per_token = _saelens_options(cfg, metadata, found)
    kind = cfg.get("architecture", "standard")
    activation = cfg.get("activation_fn", "relu")
    k = cfg.get("k", (cfg.get("activation_fn_kwargs") or {}).get("k"))
    if kind == "standard" and activation == "topk":
        kind = "topk"
    out: Parts = {"subtract_b_dec": bool(cfg.get("apply_b_dec_to_input", True)),
                  "per_token": per_token,
                  "centred": cfg["centred"] if "centred" in cfg else
                  is_centred({**cfg, **metadata}, found.name)}
    if kind == "gated":
        out |= gated(found, parts, "b_mag", "b_gate")
    elif kind in ("topk", "jumprelu", "standard", *_BATCH_TOPK):
        if kind == "topk":
            out |= topk(found, k)
        elif kind == "standard" and activation == "relu":
            out |= relu(parts)
        elif kind != "standard":
            key = "threshold" if "threshold" in found.tensors else "topk_threshold"
            out |= by_threshold(found.each(key if kind in _BATCH_TOPK else "threshold",
                                         len(parts["b_enc"])))
        else:
            raise SAEError(f"{found.name}: activation {activation!r} is not read; relu and topk "
                           "are.")
    else:
        raise SAEError(f"{found.name}: SAELens architecture {kind!r} is not read; standard, gated, "
                       f"jumprelu, topk, {' and '.join(_BATCH_TOPK)} are.")
    if cfg.get("rescale_acts_by_decoder_norm", False) and kind in ("topk", *_BATCH_TOPK):
        out |= times_norm(parts)  # thresholds are of the result
    if kind == "topk" and "threshold" in found.tensors:  # ours, beside the weights
        out["threshold"] = found.tensor("threshold", len(parts["b_enc"]))
    if cfg.get("finetuning_scaling_factor") and "scaling_factor" in found.tensors:
        scale = found.tensor("scaling_factor", len(parts["b_enc"]))
        out["W_dec"] = out.get("W_dec", parts["W_dec"]) * scale[:, None]
    return out


def _saelens_options(cfg: Mapping[str, Any], metadata: Mapping[str, Any],
                     found: Found) -> str | None:
    """How tokens are normalised; refuses what is not the residual stream."""
    if cfg.get("reshape_activations", "none") not in ("none", None) or \
            metadata.get("hook_head_index", cfg.get("hook_head_index")) is not None:
        raise SAEError(f"{found.name} reads attention heads, not the residual stream. Use a "
                       "hook_resid_post or hook_resid_pre SAE.")
    normalise = cfg.get("normalize_activations", "none")
    # expected_average_only_in is folded into the weights when training ends; encode ignores it.
    if normalise in ("none", "expected_average_only_in", None, False, True):
        return None
    if normalise not in _PER_TOKEN:
        raise SAEError(f"{found.name}: normalize_activations={normalise!r} is not read; none, "
                       f"expected_average_only_in, {' and '.join(_PER_TOKEN)} are.")
    return normalise


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
