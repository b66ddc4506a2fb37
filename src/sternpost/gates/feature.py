"""One SAE feature as a gate.

    a    = activation of the feature, read by its own encoder row and threshold (no SAE forward)
    risk = sigmoid(v * a + b)        v > 0; Platt

Covered: harm that one feature stands for; a person can read the whole gate. Not covered: harm of
which the feature knows nothing, and features that are quieter on harm. Overall: the simplest gate
there is, and the one to beat; most features that tell one kind of harm miss another.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from torch import Tensor

from sternpost.errors import GateError
from sternpost.gates.logistic import calibrate, folds
from sternpost.gates.scores import sigmoid
from sternpost.gates.sparse import Readers, readers
from sternpost.sae import SAE
from sternpost.types import Hookpoint


@dataclass(frozen=True, eq=False)
class FeatureGate:
    """A fitted gate of one feature."""

    kind: ClassVar[str] = "feature"
    categories = ()
    hookpoint: Hookpoint
    feature: int
    """Its id in its SAE."""
    row: Float[Tensor, "1 d_model"]
    """Encoder row, the SAE's centring folded in."""
    bias: Float[Tensor, " 1"]
    cutoff: Float[Tensor, " 1"]
    """The feature's own threshold, activation units."""
    v: float
    b: float
    auroc: float
    """Of the way it was picked: in each fold by the feature that is best on the others."""
    threshold: float = 1.0

    def risk(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """P(harm) of each row."""
        acts = Readers(self.row, self.bias, self.cutoff).acts(h)[:, 0]
        return sigmoid(self.v * acts.double() + self.b)

    def risks(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, "row 1"]:
        """The same as a column: no categories."""
        return self.risk(h)[:, None]


def fit_feature(h: Float[Tensor, "row d_model"], harmful: Bool[np.ndarray, " row"],
                clusters: np.ndarray, sae: SAE, seed: int = 0) -> FeatureGate:
    """The feature that is most surely higher on harmful rows (mean AUROC over folds), calibrated.
    """
    acts = readers(sae, torch.arange(sae.d_sae)).all_acts(h)
    parts = folds(harmful, clusters, seed)
    seen = acts.gt(0).any(0).nonzero().flatten()
    if len(seen) == 0:
        raise GateError("No feature of this SAE is active on these prompts. Use its own model and "
                        "hookpoint.")
    x = acts[:, seen].double().numpy()
    held = np.stack([areas(x[out], harmful[out]) for _, out in parts])
    picks = [int(areas(x[rest], harmful[rest]).argmax()) for rest, _ in parts]
    best = int(held.mean(0).argmax())
    v, b = calibrate(x[:, best], harmful)
    row = int(seen[best])
    honest = float(held[range(len(parts)), picks].mean())
    return FeatureGate(sae.hookpoint, row if sae.ids is None else sae.ids[row],
                       *readers(sae, torch.tensor([row])), v, b, honest)


def areas(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[column]: how often a harmful row is above a safe one, ties counting half (Mann-Whitney)."""
    n, m = int(y.sum()), int((~y).sum())
    return (rankdata(x, axis=0)[y].sum(0) - n * (n + 1) / 2) / (n * m)
