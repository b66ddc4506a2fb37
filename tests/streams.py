"""Residual streams whose right answer is known, for gates; an SAE that knows it too."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sternpost.gates import (
    CategoryGate,
    CombinedGate,
    FittedGate,
    fit_cosine,
    fit_feature,
    fit_nullspace,
    fit_residual,
    fit_sparse,
)
from sternpost.sae import SAE
from sternpost.types import Hookpoint

D = 12
HERE = Hookpoint(2)


class Rows(NamedTuple):
    """What a gate is fitted on."""

    h: Tensor
    harmful: np.ndarray
    clusters: np.ndarray


def rows(n: int, seed: int, apart: float = 2.0) -> Rows:
    """Residuals whose first coordinate tells harm; two rows a cluster."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(n, D, generator=generator) * torch.linspace(0.1, 10, D)
    y = np.arange(n) % 4 < 2
    h[:, 0] += torch.tensor(apart * 0.1 * y)
    return Rows(h, y, np.array([f"c{at // 2}" for at in range(n)]))


def planted() -> SAE:
    """A feature for the first coordinate, others random; centred data, b_dec."""
    torch.manual_seed(3)
    W = torch.randn(20, D) / 10
    W[4] = 0
    W[4, 0] = 10.0
    return SAE(W, W.clone(), torch.zeros(20), torch.randn(D) / 100, HERE, k=4,
               threshold=torch.full((20,), 0.1), centred=False)


def every_gate() -> dict[str, FittedGate]:
    """A fitted gate of every kind, and combinations inside combinations."""
    some = rows(300, 0)
    residual, sparse = fit_residual(*some, HERE), fit_sparse(*some, planted())
    cosine, nullspace = fit_cosine(*some, HERE), fit_nullspace(*some, HERE)
    cascade = CombinedGate((cosine, residual, sparse), "cascade", low=0.3, high=0.7)
    return {
        "residual": residual, "sparse": sparse, "feature": fit_feature(*some, planted()),
        "cosine": cosine, "nullspace": nullspace, "cascade": cascade,
        "any": CombinedGate((residual, cosine), "any"),
        "all": CombinedGate((residual, cosine), "all"),
        "weighted": CombinedGate((residual, cosine, cascade), "weighted", (0.5, 0.2, 0.3)),
        "categories": CategoryGate(cascade, (residual, cosine), ("fraud", "theft"), ("arson",))}
