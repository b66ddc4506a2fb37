"""A sparse logistic probe over SAE features.

    a_f  = activation of feature f, read by its own encoder row and threshold (no SAE forward)
    risk = sigmoid(sum over few f of v_f * a_f + b)

Covered: harm that the SAE gives features; each of them can be looked at. Not covered: harm in the
SAE's error. Overall: as for the residual gate, with reasons that a person can read.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sternpost.gates.logistic import fit_logistic
from sternpost.sae import SAE
from sternpost.types import Hookpoint


@dataclass(frozen=True, eq=False)
class SparseGate:
    """A fitted sparse gate, with all that it needs of the SAE."""

    kind: ClassVar[str] = "sparse"
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
        """Activations of the gate's features."""
        pre = h.float() @ self.rows.to(h.device).T + self.bias.to(h.device)
        return torch.where(pre > self.thresholds.to(h.device), pre, 0.0).relu()

    def risk(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """P(harm) of each row."""
        logit = self.acts(h) @ self.v.to(h.device) + self.b
        return logit.double().cpu().sigmoid()


def fit_sparse(h: Float[Tensor, "row d_model"], harmful: Bool[np.ndarray, " row"],
               clusters: np.ndarray, sae: SAE, seed: int = 0) -> SparseGate:
    """The gate that tells the harmful rows of `h` from the others by few features, calibrated."""
    every = _gate_of(sae, torch.arange(sae.d_sae), torch.zeros(sae.d_sae), 0.0)
    acts = every.acts(h)
    seen = acts.gt(0).any(0).nonzero().flatten()
    found = fit_logistic(acts[:, seen].double().numpy(), harmful, clusters, seed, sparse=True)
    weight = torch.tensor(found.weight, dtype=torch.float32)
    used = weight.nonzero().flatten()
    return _gate_of(sae, seen[used], weight[used], found.bias)


def _gate_of(sae: SAE, features: Tensor, v: Tensor, b: float) -> SparseGate:
    rows, bias = sae.W_enc[features].float().cpu(), sae.b_enc[features].float().cpu()
    if sae.subtract_b_dec:
        bias = bias - rows @ sae.b_dec.float().cpu()
    if sae.centred:
        rows = rows - rows.mean(1, keepdim=True)
    thresholds = torch.zeros(len(features)) if sae.threshold is None \
        else sae.threshold[features].float().cpu()
    return SparseGate(sae.hookpoint, features.cpu(), rows, bias, thresholds, v, b)
