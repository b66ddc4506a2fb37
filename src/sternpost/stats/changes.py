"""What one condition counts, and how far another lies from it on the same rows.

    mean     mean over rows, BCa bootstrap of whole clusters (how far it holds: `stats/clusters.py`)
    change   mean over rows of (b - a), likewise; p: exact McNemar where rows are hits and every row
             is a cluster of its own, else twice the smaller share of draws on one side of 0, with
             Student's correction for what the clusters know

A mean of values that are all alike has no width: nothing tells how far others might lie off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sternpost.errors import InputError
from sternpost.stats.clusters import (
    any_shared,
    bootstrap_mean,
    check_lengths,
    cluster_sums,
    draw_means,
    no_spread,
    two_sided,
)
from sternpost.stats.differences import mcnemar, paired_difference

DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over `n` rows with its 95 % interval, in the rows' unit."""

    mean: float
    n: int
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        """As in results.json."""
        return {"mean": self.mean, "n": self.n, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Change:
    """`b` minus `a` on the same rows with its 95 % interval, in the rows' unit; a two-sided p."""

    delta: float
    low: float
    high: float
    p: float
    n: int

    def as_dict(self) -> dict[str, Any]:
        """As in results.json."""
        return {"delta": self.delta, "low": self.low, "high": self.high, "p": self.p, "n": self.n}


def mean(values: Sequence[float], clusters: Sequence[str], seed: int = 0) -> Mean | None:
    """The mean of `values` in their unit; None where there is none.

    A single cluster, or clusters that are all alike, know no interval but the values' own range.
    """
    check_lengths(values=values, clusters=clusters)
    if not values:
        return None
    low, high = _interval(values, clusters, seed)
    return Mean(float(np.mean(values)), len(values), low, high)


def change_of_hits(a: Sequence[bool], b: Sequence[bool], clusters: Sequence[str],
                   seed: int = 0) -> Change:
    """How a share changed, as a fraction."""
    points = paired_difference(a, b, clusters, seed)
    p = _p([float(y) - float(x) for x, y in zip(a, b, strict=True)], clusters, seed) \
        if any_shared(clusters) else mcnemar(a, b)
    return Change(points.points / 100, points.low / 100, points.high / 100, p, len(a))


def change_of_means(a: Sequence[float], b: Sequence[float], clusters: Sequence[str],
                    seed: int = 0) -> Change:
    """How a mean changed, in the rows' unit."""
    check_lengths(a=a, b=b, clusters=clusters)
    if not a:
        raise InputError("A paired change needs at least one row; got none.")
    moved = [float(y) - float(x) for x, y in zip(a, b, strict=True)]
    low, high = _interval(moved, clusters, seed)
    return Change(float(np.mean(moved)), low, high, _p(moved, clusters, seed), len(moved))


def _interval(values: Sequence[float], clusters: Sequence[str], seed: int) -> tuple[float, float]:
    sums = cluster_sums(values, clusters)
    if len(sums) == 1 or no_spread(sums):  # nothing to draw from
        return float(min(values)), float(max(values))
    return bootstrap_mean(sums, seed)


def _p(moved: Sequence[float], clusters: Sequence[str], seed: int) -> float:
    sums = cluster_sums(moved, clusters)
    return two_sided(draw_means(sums, DRAWS, np.random.default_rng(seed)), sums)
