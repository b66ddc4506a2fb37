"""Public layouts on disk -> SAE: a row each that names the tensors, and the equation's variants.

    pre   = W_enc (x - b_dec) + b_enc       without b_dec where a library does not take it off
    x_hat = W_dec acts + b_dec

All sparsifiers come down to two: the k largest, or what exceeds its feature's threshold. ReLU is a
threshold of 0; a gated SAE is the magnitude's pre-activation with a threshold (arXiv 2404.16014,
section 3.2); BatchTopK is used with the threshold that it was trained to keep. Scales are folded
into the rows, so that one unit of activation is what the writing library's `encode` says it is.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sternpost.errors import SAEError
from sternpost.sae.autoencoder import SAE
from sternpost.types import Hookpoint

Tensors = Mapping[str, Tensor]
Parts = dict[str, Any]
"""Fields of an SAE."""
_EPS = 1e-8


@dataclass(frozen=True)
class Found:
    """What lies on disk: the tensors of one SAE, and what is said about them."""

    tensors: Tensors
    cfg: Mapping[str, Any]
    name: str
    """Where it lies, for messages."""
    file: str = ""
    """Name of the file with the tensors."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What that file holds besides tensors."""

    def tensor(self, key: str, *shape: int, because: str = "") -> Tensor:
        """A tensor of that name; its shape must be `shape`, -1 for any size."""
        if key not in self.tensors:
            has = ", ".join(sorted(self.tensors)) or "none"
            raise SAEError(f"{self.name} has no tensor {key!r}; it has {has}.")
        tensor = self.tensors[key]
        fits = tensor.dim() == len(shape) and all(want in (-1, got) for want, got
                                                  in zip(shape, tensor.shape, strict=True))
        if not fits or not tensor.is_floating_point():
            want = ", ".join("any" if size == -1 else str(size) for size in shape)
            raise SAEError(f"{self.name}: {key} is {tensor.dtype} of shape {tuple(tensor.shape)}; "
                           f"it should be floating-point numbers of shape ({want}){because}.")
        return tensor

    def each(self, key: str, d_sae: int) -> Tensor:
        """A tensor of one number a feature, or of one number for all."""
        if key in self.tensors and self.tensors[key].numel() == 1 != d_sae:
            return self.tensors[key].float().reshape(1).expand(d_sae).contiguous()
        return self.tensor(key, d_sae)


Rule = Callable[[Found, Parts], Parts]
"""What else an SAE is, from its four tensors: its sparsifier, and what is to be folded."""


@dataclass(frozen=True)
class Layout:
    """One library's way of storing an SAE."""

    library: str
    known_by: Callable[[Found], bool]
    W_enc: str
    W_dec: str
    b_enc: str | None
    """None: none, or one that `rule` makes."""
    b_dec: str
    rows: tuple[bool, bool]
    """Whether W_enc and W_dec have a row a feature; else a column."""
    subtract: bool
    """Whether b_dec is taken off the input."""
    rule: Rule

    def read(self, found: Found, at: Hookpoint) -> SAE:
        """The SAE. Raises SAEError for a missing tensor, or one of another shape."""
        d_model = found.tensor(self.b_dec, -1).shape[0]
        because = f", as {self.b_dec} has {d_model} numbers"
        matrix = found.tensor(self.W_enc, *((-1, d_model) if self.rows[0] else (d_model, -1)),
                              because=because)
        d_sae = matrix.shape[0 if self.rows[0] else 1]
        because += f" and {self.W_enc} shape {tuple(matrix.shape)}"
        rows = {"W_enc": matrix if self.rows[0] else matrix.mT.contiguous()}
        matrix = found.tensor(self.W_dec, *((d_sae, d_model) if self.rows[1]
                                            else (d_model, d_sae)), because=because)
        rows["W_dec"] = matrix if self.rows[1] else matrix.mT.contiguous()
        parts: Parts = {**rows, "b_dec": found.tensor(self.b_dec, d_model),
                        "b_enc": torch.zeros(d_sae, dtype=matrix.dtype) if self.b_enc is None
                        else found.tensor(self.b_enc, d_sae, because=because),
                        "subtract_b_dec": self.subtract, "name": found.name, "hookpoint": at}
        return SAE(**(parts | self.rule(found, parts)))


def layout_of(found: Found) -> Layout:
    """The layout that these tensors are in. Raises SAEError where there is none."""
    for layout in LAYOUTS:
        if layout.known_by(found):
            return layout
    shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in
                       sorted(found.tensors.items())) or "no tensors"
    raise SAEError(f"{found.name} is in no layout that is read "
                   f"({', '.join(dict.fromkeys(row.library for row in LAYOUTS))}): "
                   f"{found.file or 'it'} holds {shapes}.")


# ---- what rules are made of ----------------------------------------------------------------------

def _topk(found: Found, k: Any) -> Parts:
    if isinstance(k, Tensor):
        k = int(k)
    if not isinstance(k, int):
        raise SAEError(f"{found.name} does not say how many features are active a token. Put "
                       "\"k\": 64, or what it was trained with, into a cfg.json beside it.")
    return {"kind": "topk", "k": k}


def _threshold(values: Tensor) -> Parts:
    return {"kind": "jumprelu", "threshold": values}


def _relu(parts: Parts) -> Parts:
    return _threshold(torch.zeros_like(parts["b_enc"]))


def _gated(found: Found, parts: Parts, magnitude: str, gate: str) -> Parts:
    """acts = ReLU(p exp(r) + b_mag) where p + b_gate > 0, p = W_enc (x - b_dec)."""
    d_sae = len(parts["b_enc"])
    scale = found.tensor("r_mag", d_sae).exp()
    bias = found.tensor(magnitude, d_sae)
    return {"W_enc": parts["W_enc"] * scale[:, None], "b_enc": bias,
            **_threshold(bias - found.tensor(gate, d_sae) * scale)}


def _times_norm(parts: Parts) -> Parts:
    """Activations times the norm of their decoder row: the rows become unit vectors."""
    norm = parts["W_dec"].norm(dim=-1).clamp(min=_EPS)  # a row of zeros stays one
    out = {"W_enc": parts["W_enc"] * norm[:, None], "b_enc": parts["b_enc"] * norm,
           "W_dec": parts["W_dec"] / norm[:, None]}
    if parts.get("threshold") is not None:
        out["threshold"] = parts["threshold"] * norm
    return out


def _refuse_transcoder(found: Found, *signs: Any) -> None:
    if any(signs):
        raise SAEError(f"{found.name} is a transcoder: it predicts another place than it reads, so "
                       "its features cannot be written back. Use an SAE of the residual stream.")


# ---- sparsify, and ours --------------------------------------------------------------------------

def _sparsify(found: Found, parts: Parts) -> Parts:
    """Top-k, whatever `normalize_decoder` says. Our own folders may say more, see save.py."""
    cfg = found.cfg
    if cfg.get("signed"):
        raise SAEError(f"{found.name} keeps the largest absolute pre-activations (\"signed\"), "
                       "which is not read; a TopK SAE that keeps the largest ones is.")
    kind = str(cfg.get("activation", "topk")).removeprefix("sternpost-")
    if kind not in ("topk", "jumprelu"):
        raise SAEError(f"{found.name}: activation {kind!r} is not read; topk and jumprelu are.")
    _refuse_transcoder(found, cfg.get("transcode"), cfg.get("skip_connection"),
                       "W_skip" in found.tensors)
    threshold = found.tensors.get("threshold")
    return {"kind": kind, "k": cfg.get("k", 32) if kind == "topk" else None,
            "threshold": threshold, "subtract_b_dec": cfg.get("subtract_b_dec", True),
            "centred": cfg.get("centred", False)}


# ---- SAELens -------------------------------------------------------------------------------------

_BEFORE_6 = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index",
             "activation_fn_str": "activation_fn"}
_BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")
_PER_TOKEN = ("layer_norm", "constant_norm_rescale")


def _saelens(found: Found, parts: Parts) -> Parts:
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
        out |= _gated(found, parts, "b_mag", "b_gate")
    elif kind in ("topk", "jumprelu", "standard", *_BATCH_TOPK):
        if kind == "topk":
            out |= _topk(found, k)
        elif kind == "standard" and activation == "relu":
            out |= _relu(parts)
        elif kind != "standard":
            key = "threshold" if "threshold" in found.tensors else "topk_threshold"
            out |= _threshold(found.each(key if kind in _BATCH_TOPK else "threshold",
                                         len(parts["b_enc"])))
        else:
            raise SAEError(f"{found.name}: activation {activation!r} is not read; relu and topk "
                           "are.")
    else:
        raise SAEError(f"{found.name}: SAELens architecture {kind!r} is not read; standard, gated, "
                       f"jumprelu, topk, {' and '.join(_BATCH_TOPK)} are.")
    if cfg.get("rescale_acts_by_decoder_norm", False) and kind in ("topk", *_BATCH_TOPK):
        out |= _times_norm(parts)  # thresholds are of the result
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


# ---- dictionary_learning -------------------------------------------------------------------------

def _trainer(found: Found) -> Mapping[str, Any]:
    trainer = found.cfg.get("trainer")
    return trainer if isinstance(trainer, dict) else {}


def _dictionary_topk(found: Found, parts: Parts) -> Parts:
    """AutoEncoderTopK and BatchTopKSAE hold the same tensors; the config tells them apart."""
    kind = str(_trainer(found).get("dict_class", _trainer(found).get("trainer_class", "")))
    d_sae = len(parts["b_enc"])
    if not kind:
        raise SAEError(f"{found.name} may be a TopK or a BatchTopK SAE: {found.file} has the same "
                       "tensors for both. Put dictionary_learning's config.json beside it, or "
                       '{"trainer": {"dict_class": "AutoEncoderTopK"}}.')
    if "batch" in kind.lower():
        return _batch_topk(found, d_sae)
    out = _topk(found, found.tensors.get("k", _trainer(found).get("k")))
    if "threshold" in found.tensors and float(found.tensors["threshold"].max()) >= 0:
        out["threshold"] = found.each("threshold", d_sae)
    return out


def _batch_topk(found: Found, d_sae: int) -> Parts:
    values = found.each("threshold", d_sae)
    if float(values.max()) < 0:
        raise SAEError(f"{found.name}: this BatchTopK SAE has no threshold yet; train it past its "
                       "threshold's start, or load one that has been.")
    return _threshold(values)


def _dictionary_gated(found: Found, parts: Parts) -> Parts:
    return _gated(found, parts, "mag_bias", "gate_bias")


def _dictionary_jumprelu(found: Found, parts: Parts) -> Parts:
    return _threshold(found.each("threshold", len(parts["b_enc"]))) | {
        "subtract_b_dec": bool(found.cfg.get("apply_b_dec_to_input", False))}


# ---- the others ----------------------------------------------------------------------------------

def _openai(found: Found, parts: Parts) -> Parts:
    """With TopK each token is normalised first; with ReLU it is not."""
    kind = found.notes.get("activation", "ReLU")
    state = found.notes.get("activation_state_dict") or {}
    if kind == "ReLU":
        return _relu(parts)
    if kind != "TopK" or state.get("postact_fn", "ReLU") != "ReLU":
        raise SAEError(f"{found.name}: activation {kind!r} with {state!r} is not read; ReLU, and "
                       "TopK with ReLU after it, are.")
    return {**_topk(found, state.get("k")), "per_token": "layer_norm"}


_OTHER_PLACES = re.compile(r"gemma-scope[^/]*-(att|mlp)|(attn|mlp)_out|transcoder|/clt")


def _gemma_scope(found: Found, parts: Parts) -> Parts:
    if other := _OTHER_PLACES.search(found.name):
        raise SAEError(f"{found.name} is no SAE of the residual stream, as {other[0]!r} in its "
                       "path says. Use one of a `res` repository or a `resid_post` folder.")
    _refuse_transcoder(found, "affine_skip_connection" in found.tensors,
                       found.cfg.get("hf_hook_point_out"))
    return _threshold(found.each("threshold", len(parts["b_enc"])))


def _llama_scope(found: Found, parts: Parts) -> Parts:
    """Trained on a stream scaled to norm sqrt(d_model); given back in the model's own units, the
    one threshold being for those and for unit decoder rows."""
    cfg, d_model = found.cfg, len(parts["b_dec"])
    if cfg.get("use_glu_encoder"):
        raise SAEError(f"{found.name} has a gated linear encoder, which is not read.")
    norms = cfg["dataset_average_activation_norm"]
    into, out_of = (math.sqrt(d_model) / norms[side] for side in ("in", "out"))
    scaled = parts | {"b_enc": parts["b_enc"] / into, "b_dec": parts["b_dec"] / out_of,
                      "W_dec": parts["W_dec"] * (into / out_of)}
    if cfg.get("sparsity_include_decoder_norm", True):
        scaled |= _times_norm(scaled)
    value = torch.full_like(parts["b_enc"], float(cfg["jump_relu_threshold"]))
    return {key: scaled[key] for key in ("W_enc", "W_dec", "b_enc", "b_dec")} | _threshold(value)


def _llama_scope_r1(found: Found, parts: Parts) -> Parts:
    """The same scaling, kept in activations; a threshold a feature, for acts times decoder norm."""
    d_model, d_sae = len(parts["b_dec"]), len(parts["b_enc"])
    norms = {key.split(".", 1)[1]: float(value) for key, value in found.tensors.items()
             if key.startswith("dataset_average_activation_norm.")}
    norms = norms or found.cfg.get("dataset_average_activation_norm") or {}
    hook = str(found.cfg.get("hook_point_in"))
    if hook not in norms:
        raise SAEError(f"{found.name}: no dataset_average_activation_norm of {hook!r}; it has "
                       f"{', '.join(map(str, norms)) or 'none'}.")
    _refuse_transcoder(found, found.cfg.get("hook_point_out", hook) != hook)
    scale = math.sqrt(d_model) / float(norms[hook])
    threshold = found.tensor("log_jumprelu_threshold", d_sae).exp()
    if found.cfg.get("sparsity_include_decoder_norm", True):
        threshold = threshold / parts["W_dec"].norm(dim=-1).clamp(min=_EPS)
    return {"W_enc": parts["W_enc"] * scale, "W_dec": parts["W_dec"] / scale,
            "b_dec": parts["b_dec"] / scale, **_threshold(threshold)}


def _qwen_scope(found: Found, parts: Parts) -> Parts:
    """k stands in the repository's name alone."""
    named = re.search(r"L0_(\d+)", found.name)
    return _topk(found, found.cfg.get("k", int(named[1]) if named else None))


def _bussmann(found: Found, parts: Parts) -> Parts:
    """BatchTopK's repository: `sae_type` says which; the encoder's bias is used by some only."""
    cfg, kind = found.cfg, str(found.cfg.get("sae_type", ""))
    out: Parts = {"per_token": "layer_norm" if cfg.get("input_unit_norm") else None}
    if kind in ("topk", "batchtopk") and not cfg.get("use_encoder_bias"):
        out["b_enc"] = torch.zeros_like(parts["b_enc"])
    if cfg.get("activation", "relu") != "relu":
        raise SAEError(f"{found.name}: activation {cfg['activation']!r} is not read; relu is.")
    if kind == "topk":
        return out | _topk(found, cfg.get("top_k"))
    if kind == "batchtopk":
        return out | _topk(found, cfg.get("top_k")) | {"kind": "batchtopk"}
    if kind == "vanilla":
        return out | _relu(parts)
    if kind == "jumprelu":
        return out | _threshold(found.tensor("jumprelu.log_threshold", len(parts["b_enc"])).exp())
    raise SAEError(f"{found.name}: sae_type {kind!r} is not read; topk, batchtopk, vanilla and "
                   "jumprelu are.")


def _has(*keys: str) -> Callable[[Found], bool]:
    return lambda found: set(keys) <= set(found.tensors)


def _file(name: str) -> Callable[[Found], bool]:
    return lambda found: found.file == name


def _lower(found: Found) -> bool:
    return found.file.startswith("params.") and "w_enc" in found.tensors


_LINEAR = ("encoder.weight", "decoder.weight", "encoder.bias")
_PLAIN = ("W_enc", "W_dec", "b_enc", "b_dec")
_IS_GATED = _has("W_enc", "b_gate", "b_mag", "r_mag")

LAYOUTS = (
    Layout("sparsify", _file("sae.safetensors"), "encoder.weight", "W_dec", "encoder.bias", "b_dec",
           (True, True), True, _sparsify),
    Layout("Llama Scope R1", _has("log_jumprelu_threshold", "encoder.weight"), *_LINEAR,
           "decoder.bias", (True, False), False, _llama_scope_r1),
    Layout("SAELens", lambda found: found.file == "sae_weights.safetensors" and _IS_GATED(found),
           "W_enc", "W_dec", None, "b_dec", (False, True), True, _saelens),
    Layout("SAELens", _file("sae_weights.safetensors"), *_PLAIN, (False, True), True, _saelens),
    Layout("Llama Scope", lambda found: "dataset_average_activation_norm" in found.cfg
           and "jump_relu_threshold" in found.cfg, *_LINEAR, "decoder.bias", (True, False), False,
           _llama_scope),
    Layout("Gemma Scope", _lower, "w_enc", "w_dec", "b_enc", "b_dec", (False, True), False,
           _gemma_scope),
    Layout("Gemma Scope", lambda found: found.file.startswith("params."), *_PLAIN, (False, True),
           False, _gemma_scope),
    Layout("OpenAI", _has("pre_bias", "latent_bias"), "encoder.weight", "decoder.weight",
           "latent_bias", "pre_bias", (True, False), True, _openai),
    Layout("Goodfire", _has("encoder_linear.weight"), "encoder_linear.weight",
           "decoder_linear.weight", "encoder_linear.bias", "decoder_linear.bias", (True, False),
           False, lambda found, parts: _relu(parts)),
    Layout("dictionary_learning", _has("gate_bias", "mag_bias"), "encoder.weight",
           "decoder.weight", None, "decoder_bias", (True, False), True, _dictionary_gated),
    Layout("dictionary_learning", _has("group_sizes"), *_PLAIN, (False, True), True,
           lambda found, parts: _batch_topk(found, len(parts["b_enc"]))),
    Layout("dictionary_learning", _has(*_LINEAR, "b_dec"), *_LINEAR, "b_dec", (True, False), True,
           _dictionary_topk),
    Layout("dictionary_learning", _has(*_LINEAR, "bias"), *_LINEAR, "bias", (True, False), True,
           lambda found, parts: _relu(parts)),
    Layout("dictionary_learning", _has(*_LINEAR, "decoder.bias"), *_LINEAR, "decoder.bias",
           (True, False), False, lambda found, parts: _relu(parts)),
    Layout("BatchTopK", lambda found: "sae_type" in found.cfg, *_PLAIN, (False, True), True,
           _bussmann),
    Layout("dictionary_learning", _has("W_enc", "threshold"), *_PLAIN, (False, True), False,
           _dictionary_jumprelu),
    Layout("Qwen Scope", lambda found: _has(*_PLAIN)(found) and found.file.endswith(".sae.pt"),
           *_PLAIN, (True, False), False, _qwen_scope),
)


def sparsify_sae(cfg: Mapping[str, Any], tensors: Tensors, name: str, at: Hookpoint) -> SAE:
    """An SAE from sparsify's config and tensors."""
    return _of("sparsify", Found(tensors, cfg, name, "sae.safetensors"), at)


def saelens_sae(cfg: Mapping[str, Any], tensors: Tensors, name: str, at: Hookpoint) -> SAE:
    """An SAE from SAELens' config and tensors."""
    return _of("SAELens", Found(tensors, cfg, name, "sae_weights.safetensors"), at)


def dictionary_sae(cfg: Mapping[str, Any], tensors: Tensors, name: str, at: Hookpoint) -> SAE:
    """An SAE from the tensors of a class of dictionary_learning, which `name` is."""
    return _of("dictionary_learning",
               Found(tensors, {"trainer": {"dict_class": name}, **cfg}, name), at)


def _of(library: str, found: Found, at: Hookpoint) -> SAE:
    layout = next((row for row in LAYOUTS if row.library == library and row.known_by(found)), None)
    return (layout or layout_of(found)).read(found, at)

