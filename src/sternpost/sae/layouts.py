"""Public layouts on disk -> SAE: a row each that names the tensors, and the equation's variants.

    pre   = W_enc (x - b_dec) + b_enc       without b_dec where a library does not take it off
    x_hat = W_dec acts + b_dec

What else an SAE is, its sparsifier and the scales to fold in, is the row's rule (rules.py,
saelens.py), made of the parts in found.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sternpost.errors import SAEError
from sternpost.sae import rules
from sternpost.sae.autoencoder import SAE
from sternpost.sae.found import Found, Parts, Rule, Tensors, relu
from sternpost.sae.saelens import saelens
from sternpost.types import Hookpoint


@dataclass(frozen=True)
class Layout:
    """One library's way of storing an SAE."""

    name: str
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
                        "subtract_b_dec": self.subtract, "name": found.name, "hookpoint": at,
                        "prefixes": found.prefixes(d_sae)}
        return SAE(**(parts | self.rule(found, parts)))


def layout_of(found: Found) -> Layout:
    """The layout that these tensors are in. Raises SAEError where there is none."""
    for layout in LAYOUTS:
        if layout.known_by(found):
            return layout
    shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in
                       sorted(found.tensors.items())) or "no tensors"
    raise SAEError(f"{found.name} is in no layout that is read "
                   f"({', '.join(dict.fromkeys(row.name for row in LAYOUTS))}): "
                   f"{found.file or 'it'} holds {shapes}.")


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
           (True, True), True, rules.sparsify),
    Layout("Llama Scope R1", _has("log_jumprelu_threshold", "encoder.weight"), *_LINEAR,
           "decoder.bias", (True, False), False, rules.llama_scope_r1),
    Layout("SAELens", lambda found: found.file == "sae_weights.safetensors" and _IS_GATED(found),
           "W_enc", "W_dec", None, "b_dec", (False, True), True, saelens),
    Layout("SAELens", _file("sae_weights.safetensors"), *_PLAIN, (False, True), True, saelens),
    Layout("Llama Scope", lambda found: "dataset_average_activation_norm" in found.cfg
           and "jump_relu_threshold" in found.cfg, *_LINEAR, "decoder.bias", (True, False), False,
           rules.llama_scope),
    Layout("Gemma Scope", _lower, "w_enc", "w_dec", "b_enc", "b_dec", (False, True), False,
           rules.gemma_scope),
    Layout("Gemma Scope", lambda found: found.file.startswith("params."), *_PLAIN, (False, True),
           False, rules.gemma_scope),
    Layout("OpenAI", _has("pre_bias", "latent_bias"), "encoder.weight", "decoder.weight",
           "latent_bias", "pre_bias", (True, False), True, rules.openai),
    Layout("Goodfire", _has("encoder_linear.weight"), "encoder_linear.weight",
           "decoder_linear.weight", "encoder_linear.bias", "decoder_linear.bias", (True, False),
           False, lambda found, parts: relu(parts)),
    Layout("dictionary_learning", _has("gate_bias", "mag_bias"), "encoder.weight",
           "decoder.weight", None, "decoder_bias", (True, False), True, rules.dictionary_gated),
    Layout("dictionary_learning", _has("group_sizes"), *_PLAIN, (False, True), True,
           lambda found, parts: rules.batch_topk(found, len(parts["b_enc"]))),
    Layout("dictionary_learning", _has(*_LINEAR, "b_dec"), *_LINEAR, "b_dec", (True, False), True,
           rules.dictionary_topk),
    Layout("dictionary_learning", _has(*_LINEAR, "bias"), *_LINEAR, "bias", (True, False), True,
           lambda found, parts: relu(parts)),
    Layout("dictionary_learning", _has(*_LINEAR, "decoder.bias"), *_LINEAR, "decoder.bias",
           (True, False), False, lambda found, parts: relu(parts)),
    Layout("BatchTopK", lambda found: "sae_type" in found.cfg, *_PLAIN, (False, True), True,
           rules.bussmann),
    Layout("dictionary_learning", _has("W_enc", "threshold"), *_PLAIN, (False, True), False,
           rules.dictionary_jumprelu),
    Layout("Qwen Scope", lambda found: _has(*_PLAIN)(found) and found.file.endswith(".sae.pt"),
           *_PLAIN, (True, False), False, rules.qwen_scope),
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


def _of(name: str, found: Found, at: Hookpoint) -> SAE:
    layout = next((row for row in LAYOUTS if row.name == name and row.known_by(found)), None)
    return (layout or layout_of(found)).read(found, at)
