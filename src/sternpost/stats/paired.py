"""How far two settings' discrimination lies apart on the same prompts, and whether by chance.

    D(b) - D(a) = mean over unsafe rows of (b - a) - mean over safe rows of (b - a)

Paired bootstrap: whole clusters of each side are drawn anew, both settings with them. The interval
is MOVER (Newcombe 1998) of both sides' own, as of `paired_difference`; p is twice the smaller
share of draws on one side of 0, with Student's correction for the side that knows less, never
below 1 / draws. Several comparisons: Holm 1979.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from statsmodels.stats.multitest import multipletests

from sternpost.errors import InputError
from sternpost.stats.clusters import check_lengths, cluster_sums, draw_means, two_sided
from sternpost.stats.differences import mover, paired_difference
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
    points, sums = [], []
    for side in (unsafe, safe):
        check_lengths(a=side.a, b=side.b, clusters=side.clusters)
        if not side.a:
            raise InputError("A paired difference of D needs unsafe and safe rows; got none of "
                             "one.")
        change = [bool(y) - bool(x) for x, y in zip(side.a, side.b, strict=True)]
        points.append(paired_difference(side.a, side.b, side.clusters, seed))
        sums.append(cluster_sums(change, side.clusters))
    drawn = draw_means(sums[0], DRAWS, rng) - draw_means(sums[1], DRAWS, rng)
    return Compared(mover(*points), two_sided(drawn, *sums))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the same order."""
    if not p:
        return []
    adjusted: Any = multipletests(list(p), method="holm")[1]
    return [float(one) for one in adjusted]
