"""The angle to the difference in means, as in conditional activation steering (CAST).

    c    = (mean of h over harmful rows) - (mean over benign rows)
    cos  = c . (h - m) / (|c| |h - m|)        m: the benign mean, or 0
    risk = sigmoid(s * cos + t)               Platt, on out-of-fold cosines

Covered: harm along one direction, however long the stream. Not covered: anything else; benign
prompts of a kind that the means never saw (mathematics, in others' measurements of CAST). Overall:
a baseline. CAST itself takes a principal component for c and a threshold by grid search
(arXiv 2409.05907).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sternpost.gates.logistic import calibrate, folds
from sternpost.gates.scores import check_width, dot, lengths, sigmoid
from sternpost.types import Hookpoint


@dataclass(frozen=True, eq=False)
class CosineGate:
    """A fitted cosine gate."""

    kind: ClassVar[str] = "cosine"
    categories = ()
    hookpoint: Hookpoint
    direction: Float[Tensor, " d_model"]
    """c, at unit length."""
    mean: Float[Tensor, " d_model"]
    """What is taken off the stream first."""
    s: float
    t: float
    threshold: float = 1.0

    def risk(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """P(harm) of each row."""
        return sigmoid(self.s * cosines(h, self.direction, self.mean) + self.t)

    def risks(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, "row 1"]:
        """The same as a column: no categories."""
        return self.risk(h)[:, None]


def cosines(h: Float[Tensor, "row d_model"], direction: Float[Tensor, " d_model"],
            mean: Float[Tensor, " d_model"]) -> Float[Tensor, " row"]:
    """Cosine of each row, less the mean, with a unit direction; 0 for a row that is the mean."""
    check_width(h, len(mean))
    x = h.cpu().double() - mean
    length = lengths(x)
    return torch.where(length > 0, dot(x, direction) / length.clamp(min=1e-300), 0.0)


def fit_cosine(h: Float[Tensor, "row d_model"], harmful: Bool[np.ndarray, " row"],
               clusters: np.ndarray, hookpoint: Hookpoint, seed: int = 0,
               centred: bool = True) -> CosineGate:
    """The gate of the difference in means, calibrated; `centred`: the benign mean taken off."""
    found = np.zeros(len(h))
    for rest, held in folds(harmful, clusters, seed):
        found[held] = cosines(h[held], *_means(h[rest], harmful[rest], centred)).numpy()
    return CosineGate(hookpoint, *_means(h, harmful, centred), *calibrate(found, harmful))


def _means(h: Tensor, harmful: np.ndarray, centred: bool) -> tuple[Tensor, Tensor]:
    """The unit direction, and what is taken off first."""
    bad = h[harmful].double().mean(0)
    good = h[~harmful].double().mean(0)
    direction = (bad - good) / (bad - good).norm().clamp(min=1e-300)
    return direction.float().cpu(), (good if centred else torch.zeros_like(good)).float().cpu()
