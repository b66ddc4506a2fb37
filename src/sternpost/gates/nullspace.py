"""A soft gate in the null space of benign streams (AlphaSteer, arXiv 2506.07022).

    P    = I - V V^T         V: directions in which benign streams are large, those whose second
                             moment is at least `share` of the largest
    w    = argmin |H_m P w - 1|^2 + ridge |w|^2,  w in the span of P    H_m: the harmful streams
    risk = min(max(w . h, 0), 1)

The published map h' = h + value * (r w^T) h is rank one, so two vectors a layer hold it: w here,
and r, the direction that a writer turns up. The risk is meant to be used as a dose, not as a
probability: it is near 0 on benign rows and near 1 on harmful ones.

Covered: harm that stands where benign streams hardly reach; any dose between. Not covered: harm
inside the directions that benign prompts use, and benign prompts of kinds that the null space was
not found on. Overall: it is as good as the benign set is broad.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sternpost.errors import GateError
from sternpost.gates.logistic import folds
from sternpost.gates.scores import dot
from sternpost.types import Hookpoint

SHARES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)
"""Shares of the largest benign second moment tried."""
RIDGE = 1.0
"""In mean squared lengths of a projected harmful row."""


@dataclass(frozen=True, eq=False)
class NullspaceGate:
    """A fitted null-space gate."""

    kind: ClassVar[str] = "nullspace"
    categories = ()
    hookpoint: Hookpoint
    w: Float[Tensor, " d_model"]
    """What reads the dose; with a direction to write, the whole map."""
    share: float
    """Directions at or above this share of the largest benign second moment are not read."""
    threshold: float = 1.0

    def risk(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """The dose of each row, in [0, 1]."""
        return dot(h, self.w).clamp(0.0, 1.0)

    def risks(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, "row 1"]:
        """The same as a column: no categories."""
        return self.risk(h)[:, None]


def fit_nullspace(h: Float[Tensor, "row d_model"], harmful: Bool[np.ndarray, " row"],
                  clusters: np.ndarray, hookpoint: Hookpoint, seed: int = 0) -> NullspaceGate:
    """The gate whose share tells out-of-fold rows apart best (class-balanced squared error)."""
    x = h.double().cpu().numpy()
    doses = np.zeros((len(SHARES), len(x)))
    for rest, held in folds(harmful, clusters, seed):
        doses[:, held] = np.clip(_readers(x[rest], harmful[rest]) @ x[held].T, 0, 1)
    wrong = (doses - harmful) ** 2
    losses = wrong[:, harmful].mean(1) + wrong[:, ~harmful].mean(1)
    best = int(losses.argmin())
    w = _readers(x, harmful)[best]
    if not w.any():
        raise GateError("Benign streams fill every direction that harmful ones use, so this gate "
                        "has nothing to read. Read another layer, or fit another kind of gate.")
    return NullspaceGate(hookpoint, torch.tensor(w, dtype=torch.float32), SHARES[best])


def _readers(x: np.ndarray, harmful: np.ndarray) -> np.ndarray:
    """[share, d_model]: w of each share."""
    _, s, V = np.linalg.svd(x[~harmful], full_matrices=False)  # s^2: second moments, largest first
    bad = x[harmful]
    return np.stack([_reader(bad, V[s ** 2 >= share * s[0] ** 2]) for share in SHARES])


def _reader(bad: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Ridge regression of 1 on the harmful rows less their part in `top`, by its dual."""
    z = bad - (bad @ top.T) @ top
    gram = z @ z.T
    ridge = RIDGE * float(np.trace(gram)) / len(z)
    if ridge <= 1e-12 * float((bad ** 2).sum(1).mean()):  # rounding alone is left
        return np.zeros(bad.shape[1])
    return z.T @ np.linalg.solve(gram + ridge * np.eye(len(z)), np.ones(len(z)))
