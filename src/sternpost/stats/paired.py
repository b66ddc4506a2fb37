"""How far two settings' discrimination lies apart on the same prompts, and whether by chance.

    D(b) - D(a) = mean over unsafe rows of (b - a) - mean over safe rows of (b - a)

Paired bootstrap: whole clusters of each side are drawn anew, both settings with them. p is twice
the smaller share of draws on one side of 0, never below 1 / draws. Several comparisons: Holm 1979.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from statsmodels.stats.multitest import multipletests

from sternpost.errors import InputError
from sternpost.stats.clusters import check_lengths, cluster_sums
from sternpost.types import Points

DRAWS = 4000


@dataclass(frozen=True)
class PairedRows:
    """One side's rows: hits under two settings, and what hangs together."""

    a: Sequence[bool]
    b: Sequence[bool]
    clusters: Sequence[str]


@dataclass(frozen=True)
class Compared:
    """A difference in points with its 95 % interval, and a two-sided p."""

    points: Points
    p: float


def paired_discrimination(unsafe: PairedRows, safe: PairedRows, seed: int = 0) -> Compared:
    """D of `b` minus D of `a`."""
    rng = np.random.default_rng(seed)
    value, drawn = 0.0, np.zeros(DRAWS)
    for side, sign in ((unsafe, 1), (safe, -1)):
        mean, means = _drawn(side, rng)
        value, drawn = value + sign * mean, drawn + sign * means
    low, high = np.quantile(drawn, (.025, .975))
    tail = min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    return Compared(Points(100 * value, 100 * float(low), 100 * float(high)),
                    min(1.0, max(2 * tail, 1 / DRAWS)))


def _drawn(side: PairedRows, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    check_lengths(a=side.a, b=side.b, clusters=side.clusters)
    if not side.a:
        raise InputError("A paired difference of D needs unsafe and safe rows; got none of one.")
    change = [bool(y) - bool(x) for x, y in zip(side.a, side.b, strict=True)]
    sums = cluster_sums(change, side.clusters)
    rows = rng.integers(0, len(sums), (DRAWS, len(sums)))
    total = sums[rows].sum(1)
    return float(np.mean(change)), total[:, 0] / total[:, 1]


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the same order."""
    if not p:
        return []
    adjusted: Any = multipletests(list(p), method="holm")[1]
    return [float(one) for one in adjusted]
