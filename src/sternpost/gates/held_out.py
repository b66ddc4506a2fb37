"""Risks of rows by gates that did not see their source, beside gates that only missed their
cluster.

    across[i] = risk of row i by the gate fitted without row i's source
    within[i] = risk of row i by the gate fitted without row i's fold of clusters

Without a source its side is smaller, and a calibrated gate would hold what is left out for rarer
than it is, each fit in its own way; so rows of the rest are repeated until the sides are as large
as they were.

The AUROC of `within` says how well a gate tells these sources apart, that of `across` how well it
tells harm; the gap between them is the finding, and a threshold is set on benign `across` risks
(`stats.grouped_threshold` by source). Each source's risks come of another fit than the gate in
use, so that promise is an estimate where a conformal one on fresh prompts is exact.

Covered: sources, wrapper families, topics: whatever column is given. Not covered: a source that
stands alone on its side: without it nothing is left to learn from. Its rows have their `within`
risk in `across` too, and its name is in `alone`: what is said of it holds inside it only.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from sternpost.gates.categories import Fit
from sternpost.gates.logistic import FOLDS, folds


@dataclass(frozen=True)
class HeldOut:
    """Risks of each row, float64."""

    across: Float[np.ndarray, " row"]
    within: Float[np.ndarray, " row"]
    alone: tuple[str, ...]
    """Sources without which a side has fewer than 5 clusters."""


def held_out(h: Float[Tensor, "row column"], harmful: Bool[np.ndarray, " row"],
             clusters: np.ndarray, sources: np.ndarray, fit: Fit, seed: int = 0) -> HeldOut:
    """Risks of each row of `h` by gates that did not see its source, or its cluster."""
    within = np.zeros(len(h))
    for rest, held in folds(harmful, clusters, seed):
        within[held] = _risks(h, harmful, clusters, (rest, held), fit)
    across, alone, rng = within.copy(), [], np.random.default_rng(seed)
    for source in sorted(set(sources)):
        mine = sources == source
        rest = ~np.isin(clusters, clusters[mine])  # nor rows that hang together with its own
        if min(len(set(clusters[rest & side])) for side in (harmful, ~harmful)) < FOLDS:
            alone.append(str(source))
        else:
            across[mine] = _risks(h, harmful, clusters, (_filled(rest, harmful, rng), mine), fit)
    return HeldOut(across, within, tuple(alone))


def _filled(rest: np.ndarray, harmful: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows to fit on: the rest, rows of each side repeated until it is as large as it was."""
    sides = [(rest & side, int(side.sum())) for side in (harmful, ~harmful)]
    return np.concatenate([np.resize(rng.permutation(np.flatnonzero(left)), n)
                           for left, n in sides])


def _risks(h: Tensor, harmful: np.ndarray, clusters: np.ndarray,
           rows: tuple[np.ndarray, np.ndarray], fit: Fit) -> np.ndarray:
    """Risks of the second rows by the gate fitted on the first."""
    rest, held = rows
    return fit(h[rest], harmful[rest], clusters[rest]).risk(h[held]).numpy()
