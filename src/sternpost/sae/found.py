"""What lies on disk of one SAE, and what every library's rule is made of.

All sparsifiers come down to two: the k largest, or what exceeds its feature's threshold. ReLU is a
threshold of 0; a gated SAE is the magnitude's pre-activation with a threshold (arXiv 2404.16014,
section 3.2); BatchTopK is used with the threshold that it was trained to keep. Scales are folded
into the rows, so that one unit of activation is what the writing library's `encode` says it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sternpost.errors import SAEError

Tensors = Mapping[str, Tensor]
Parts = dict[str, Any]
"""Fields of an SAE."""
EPS = 1e-8


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

    def prefixes(self, d_sae: int) -> tuple[int, ...] | None:
        """Of a Matryoshka SAE: ours says where each prefix ends, dictionary_learning its size."""
        ends = self.cfg.get("prefixes")
        if "group_sizes" in self.tensors:
            ends = self.tensors["group_sizes"].flatten().cumsum(0).tolist()
        if ends is None:
            return None
        if not isinstance(ends, list) or [*ends, d_sae] != sorted({0, *ends, d_sae})[1:] + [d_sae]:
            raise SAEError(f"{self.name}: Matryoshka prefixes are {ends!r}; they should rise to "
                           f"its number of features, {d_sae}.")
        return tuple(int(end) for end in ends)


Rule = Callable[[Found, Parts], Parts]
"""What else an SAE is, from its four tensors: its sparsifier, and what is to be folded."""


def topk(found: Found, k: Any) -> Parts:
    if isinstance(k, Tensor):
        k = int(k)
    if not isinstance(k, int):
        raise SAEError(f"{found.name} does not say how many features are active a token. Put "
                       "\"k\": 64, or what it was trained with, into a cfg.json beside it.")
    return {"kind": "topk", "k": k}


def by_threshold(values: Tensor) -> Parts:
    return {"kind": "jumprelu", "threshold": values}


def relu(parts: Parts) -> Parts:
    return by_threshold(torch.zeros_like(parts["b_enc"]))


def gated(found: Found, parts: Parts, magnitude: str, gate: str) -> Parts:
    """acts = ReLU(p exp(r) + b_mag) where p + b_gate > 0, p = W_enc (x - b_dec)."""
    d_sae = len(parts["b_enc"])
    scale = found.tensor("r_mag", d_sae).exp()
    bias = found.tensor(magnitude, d_sae)
    return {"W_enc": parts["W_enc"] * scale[:, None], "b_enc": bias,
            **by_threshold(bias - found.tensor(gate, d_sae) * scale)}


def times_norm(parts: Parts) -> Parts:
    """Activations times the norm of their decoder row: the rows become unit vectors."""
    norm = parts["W_dec"].norm(dim=-1).clamp(min=EPS)  # a row of zeros stays one
    out = {"W_enc": parts["W_enc"] * norm[:, None], "b_enc": parts["b_enc"] * norm,
           "W_dec": parts["W_dec"] / norm[:, None]}
    if parts.get("threshold") is not None:
        out["threshold"] = parts["threshold"] * norm
    return out


def refuse_transcoder(found: Found, *signs: Any) -> None:
    if any(signs):
        raise SAEError(f"{found.name} is a transcoder: it predicts another place than it reads, so "
                       "its features cannot be written back. Use an SAE of the residual stream.")
