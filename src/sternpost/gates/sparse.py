"""A sparse logistic probe over SAE features.

    a_f  = activation of feature f, read by its own encoder row and threshold (no SAE forward)
    risk = sigmoid(sum over few f of v_f * a_f + b)

Covered: harm that the SAE gives features; each of them can be looked at. Not covered: harm in the
SAE's error. Overall: as for the residual gate, with reasons that a person can read.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sternpost.errors import GateError
from sternpost.gates.logistic import fit_logistic
from sternpost.gates.scores import dot, dots, sigmoid
from sternpost.sae import SAE
from sternpost.types import Hookpoint


@dataclass(frozen=True, eq=False)
class SparseGate:
    """A fitted sparse gate, with all that it needs of the SAE."""

    kind: ClassVar[str] = "sparse"
    categories = ()
    hookpoint: Hookpoint
    features: Int[Tensor, " n"]
    """Ids of the features in their SAE."""
    rows: Float[Tensor, "n d_model"]
    """Encoder rows, the SAE's centring folded in."""
    bias: Float[Tensor, " n"]
    thresholds: Float[Tensor, " n"]
    v: Float[Tensor, " n"]
    b: float
    threshold: float = 1.0

    def acts(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, "row n"]:
        """Activations of the gate's features, on the CPU."""
        return Readers(self.rows, self.bias, self.thresholds).acts(h)

    def risk(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """P(harm) of each row."""
        return sigmoid(dot(self.acts(h), self.v) + self.b)

    def risks(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, "row 1"]:
        """The same as a column: no categories."""
        return self.risk(h)[:, None]


class Readers(NamedTuple):
    """What reads features off the stream, in place of their SAE."""

    rows: Tensor
    """[n, d_model]"""
    bias: Tensor
    thresholds: Tensor

    def acts(self, h: Tensor) -> Tensor:
        """[row, n] activations, float32, on the CPU; of each row by itself."""
        return self.open((dots(h, self.rows) + self.bias.cpu()).float())

    def all_acts(self, h: Tensor) -> Tensor:
        """The same by one matrix product, for many features: equal but for rounding."""
        return self.open(h.float().cpu() @ self.rows.T + self.bias)

    def open(self, pre: Tensor) -> Tensor:
        """Activations of pre-activations."""
        return torch.where(pre > self.thresholds.cpu(), pre, 0.0).relu()


def fit_sparse(h: Float[Tensor, "row d_model"], harmful: Bool[np.ndarray, " row"],
               clusters: np.ndarray, sae: SAE, seed: int = 0) -> SparseGate:
    """The gate that tells the harmful rows of `h` from the others by few features, calibrated."""
    acts = readers(sae, torch.arange(sae.d_sae)).all_acts(h)
    seen = acts.gt(0).any(0).nonzero().flatten()
    found = fit_logistic(acts[:, seen].double().numpy(), harmful, clusters, seed, sparse=True)
    weight = torch.tensor(found.weight, dtype=torch.float32)
    used = weight.nonzero().flatten()
    return SparseGate(sae.hookpoint, seen[used], *readers(sae, seen[used]), weight[used],
                      found.bias)


def readers(sae: SAE, rows: Tensor) -> Readers:
    """What reads these rows of `sae`, float32. Raises GateError for an SAE that scales tokens."""
    if sae.per_token is not None:
        raise GateError(f"This SAE scales each token ({sae.per_token}), so its features are no "
                        "straight lines in the stream. Use a gate that reads the stream itself: "
                        "residual, cosine or nullspace.")
    W, bias = sae.W_enc[rows].float().cpu(), sae.b_enc[rows].float().cpu()
    if sae.subtract_b_dec:
        bias = bias - W @ sae.b_dec.float().cpu()
    if sae.centred:
        W = W - W.mean(1, keepdim=True)
    thresholds = torch.zeros(len(rows)) if sae.threshold is None \
        else sae.threshold[rows].float().cpu()
    return Readers(W, bias, thresholds)
