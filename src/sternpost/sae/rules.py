"""What each library's SAEs are beyond their four tensors: a rule a layout; SAELens has a file."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from sternpost.errors import SAEError
from sternpost.sae.found import (
    EPS,
    Found,
    Parts,
    by_threshold,
    gated,
    refuse_transcoder,
    relu,
    times_norm,
    topk,
)

# ---- sparsify, and ours --------------------------------------------------------------------------

def sparsify(found: Found, parts: Parts) -> Parts:
    """Top-k, whatever `normalize_decoder` says. Our own folders may say more, see save.py."""
    cfg = found.cfg
    if cfg.get("signed"):
        raise SAEError(f"{found.name} keeps the largest absolute pre-activations (\"signed\"), "
                       "which is not read; a TopK SAE that keeps the largest ones is.")
    kind = str(cfg.get("activation", "topk")).removeprefix("sternpost-")
    if kind not in ("topk", "jumprelu"):
        raise SAEError(f"{found.name}: activation {kind!r} is not read; topk and jumprelu are.")
    refuse_transcoder(found, cfg.get("transcode"), cfg.get("skip_connection"),
                       "W_skip" in found.tensors)
    threshold = found.tensors.get("threshold")
    return {"kind": kind, "k": cfg.get("k", 32) if kind == "topk" else None,
            "threshold": threshold, "subtract_b_dec": cfg.get("subtract_b_dec", True),
            "centred": cfg.get("centred", False)}


# ---- dictionary_learning -------------------------------------------------------------------------

def _trainer(found: Found) -> Mapping[str, Any]:
    trainer = found.cfg.get("trainer")
    return trainer if isinstance(trainer, dict) else {}


def dictionary_topk(found: Found, parts: Parts) -> Parts:
    """AutoEncoderTopK and BatchTopKSAE hold the same tensors; the config tells them apart."""
    kind = str(_trainer(found).get("dict_class", _trainer(found).get("trainer_class", "")))
    d_sae = len(parts["b_enc"])
    if not kind:
        raise SAEError(f"{found.name} may be a TopK or a BatchTopK SAE: {found.file} has the same "
                       "tensors for both. Put dictionary_learning's config.json beside it, or "
                       '{"trainer": {"dict_class": "AutoEncoderTopK"}}.')
    if "batch" in kind.lower():
        return batch_topk(found, d_sae)
    out = topk(found, found.tensors.get("k", _trainer(found).get("k")))
    if "threshold" in found.tensors and float(found.tensors["threshold"].max()) >= 0:
        out["threshold"] = found.each("threshold", d_sae)
    return out


def batch_topk(found: Found, d_sae: int) -> Parts:
    values = found.each("threshold", d_sae)
    if float(values.max()) < 0:
        raise SAEError(f"{found.name}: this BatchTopK SAE has no threshold yet; train it past its "
                       "threshold's start, or load one that has been.")
    return by_threshold(values)


def dictionary_gated(found: Found, parts: Parts) -> Parts:
    return gated(found, parts, "mag_bias", "gate_bias")


def dictionary_jumprelu(found: Found, parts: Parts) -> Parts:
    return by_threshold(found.each("threshold", len(parts["b_enc"]))) | {
        "subtract_b_dec": bool(found.cfg.get("apply_b_dec_to_input", False))}


# ---- the others ----------------------------------------------------------------------------------

def openai(found: Found, parts: Parts) -> Parts:
    """With TopK each token is normalised first; with ReLU it is not."""
    kind = found.notes.get("activation", "ReLU")
    state = found.notes.get("activation_state_dict") or {}
    if kind == "ReLU":
        return relu(parts)
    if kind != "TopK" or state.get("postact_fn", "ReLU") != "ReLU":
        raise SAEError(f"{found.name}: activation {kind!r} with {state!r} is not read; ReLU, and "
                       "TopK with ReLU after it, are.")
    return {**topk(found, state.get("k")), "per_token": "layer_norm"}


_OTHER_PLACES = re.compile(r"gemma-scope[^/]*-(att|mlp)|(attn|mlp)_out|transcoder|/clt")


def gemma_scope(found: Found, parts: Parts) -> Parts:
    if other := _OTHER_PLACES.search(found.name):
        raise SAEError(f"{found.name} is no SAE of the residual stream, as {other[0]!r} in its "
                       "path says. Use one of a `res` repository or a `resid_post` folder.")
    refuse_transcoder(found, "affine_skip_connection" in found.tensors,
                       found.cfg.get("hf_hook_point_out"))
    return by_threshold(found.each("threshold", len(parts["b_enc"])))


def llama_scope(found: Found, parts: Parts) -> Parts:
    """Trained on a stream scaled to norm sqrt(d_model); given back in the model's own units, the
    one threshold being for those and for unit decoder rows."""
    cfg, d_model = found.cfg, len(parts["b_dec"])
    if cfg.get("use_glu_encoder"):
        raise SAEError(f"{found.name} has a gated linear encoder, which is not read.")
    norms = cfg["dataset_average_activation_norm"]
    if not isinstance(norms, dict) or not {"in", "out"} <= set(norms):
        raise SAEError(f"{found.name}: dataset_average_activation_norm is {norms!r}; it should "
                       'hold "in" and "out", mean norms of the stream.')
    into, out_of = (math.sqrt(d_model) / norms[side] for side in ("in", "out"))
    scaled = parts | {"b_enc": parts["b_enc"] / into, "b_dec": parts["b_dec"] / out_of,
                      "W_dec": parts["W_dec"] * (into / out_of)}
    if cfg.get("sparsity_include_decoder_norm", True):
        scaled |= times_norm(scaled)
    value = torch.full_like(parts["b_enc"], float(cfg["jump_relu_threshold"]))
    return {key: scaled[key] for key in ("W_enc", "W_dec", "b_enc", "b_dec")} | by_threshold(value)


def llama_scope_r1(found: Found, parts: Parts) -> Parts:
    """The same scaling, kept in activations; a threshold a feature, for acts times decoder norm."""
    d_model, d_sae = len(parts["b_dec"]), len(parts["b_enc"])
    norms = {key.split(".", 1)[1]: float(value) for key, value in found.tensors.items()
             if key.startswith("dataset_average_activation_norm.")}
    norms = norms or found.cfg.get("dataset_average_activation_norm") or {}
    hook = str(found.cfg.get("hook_point_in"))
    if hook not in norms:
        raise SAEError(f"{found.name}: no dataset_average_activation_norm of {hook!r}; it has "
                       f"{', '.join(map(str, norms)) or 'none'}.")
    refuse_transcoder(found, found.cfg.get("hook_point_out", hook) != hook)
    scale = math.sqrt(d_model) / float(norms[hook])
    threshold = found.tensor("log_jumprelu_threshold", d_sae).exp()
    if found.cfg.get("sparsity_include_decoder_norm", True):
        threshold = threshold / parts["W_dec"].norm(dim=-1).clamp(min=EPS)
    return {"W_enc": parts["W_enc"] * scale, "W_dec": parts["W_dec"] / scale,
            "b_dec": parts["b_dec"] / scale, **by_threshold(threshold)}


def qwen_scope(found: Found, parts: Parts) -> Parts:
    """k stands in the repository's name alone."""
    named = re.search(r"L0_(\d+)", found.name)
    return topk(found, found.cfg.get("k", int(named[1]) if named else None))


def bussmann(found: Found, parts: Parts) -> Parts:
    """BatchTopK's repository: `sae_type` says which; the encoder's bias is used by some only."""
    cfg, kind = found.cfg, str(found.cfg.get("sae_type", ""))
    out: Parts = {"per_token": "layer_norm" if cfg.get("input_unit_norm") else None}
    if kind in ("topk", "batchtopk") and not cfg.get("use_encoder_bias"):
        out["b_enc"] = torch.zeros_like(parts["b_enc"])
    if cfg.get("activation", "relu") != "relu":
        raise SAEError(f"{found.name}: activation {cfg['activation']!r} is not read; relu is.")
    if kind == "topk":
        return out | topk(found, cfg.get("top_k"))
    if kind == "batchtopk":
        return out | topk(found, cfg.get("top_k")) | {"kind": "batchtopk"}
    if kind == "vanilla":
        return out | relu(parts)
    if kind == "jumprelu":
        return out | by_threshold(found.tensor("jumprelu.log_threshold", len(parts["b_enc"])).exp())
    raise SAEError(f"{found.name}: sae_type {kind!r} is not read; topk, batchtopk, vanilla and "
                   "jumprelu are.")
