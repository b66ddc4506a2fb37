"""How far two rates lie apart, in percentage points, and whether by chance."""

from collections.abc import Sequence
from math import hypot
from typing import Any

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from sternpost.errors import InputError
from sternpost.stats.clusters import bootstrap_mean, check_lengths, cluster_sums, no_spread
from sternpost.stats.rates import wilson
from sternpost.types import Points, Rate


def discrimination(unsafe: Rate, safe: Rate) -> Points:
    """D = 100 * (unsafe refusal - over-refusal), in points: Youden's J, with a 95 % interval.

    MOVER, from each rate's own interval (Newcombe 1998, method 10):

        low  = D - hypot(p1 - low1, high2 - p2)
        high = D + hypot(high1 - p1, p2 - low2)
    """
    return mover(Points(100 * unsafe.share, 100 * unsafe.low, 100 * unsafe.high),
                 Points(100 * safe.share, 100 * safe.low, 100 * safe.high))


def mover(a: Points, b: Points) -> Points:
    """`a` - `b`, told apart from independent rows, in points: each side's interval is used."""
    value = a.points - b.points
    return Points(value, value - hypot(a.points - a.low, b.high - b.points),
                  value + hypot(a.high - a.points, b.points - b.low))


def paired_difference(a: Sequence[bool], b: Sequence[bool],
                      clusters: Sequence[str] | None = None, seed: int = 0) -> Points:
    """Share of `b` minus share of `a` on the same rows, in points, with a 95 % interval.

    Paired bootstrap (BCa; how far it holds: `stats/clusters.py`), whole clusters resampled. Where
    no row differs, or all in one way, a bootstrap would know no doubt: there it is Wilson on the
    rows that differ, with n = clusters; so too where every cluster differs as much.

    Where each row is a cluster of its own it is never narrower than what the exact test knows of m
    rows that differ, Clopper-Pearson of the share p of those that rise, m / n (2 p - 1): so it
    holds 0 wherever McNemar's exact p is above .05.
    """
    check_lengths(a=a, b=b, clusters=clusters)
    if not a:
        raise InputError("A paired difference needs at least one row; got none.")
    return _mean_change([bool(y) - bool(x) for x, y in zip(a, b, strict=True)], clusters, seed)


def interaction(none: Sequence[bool], a: Sequence[bool], b: Sequence[bool], both: Sequence[bool],
                clusters: Sequence[str] | None = None, seed: int = 0) -> Points:
    """effect(a and b) - effect(a) - effect(b) on the same rows, in points, each effect against
    `none`; with a 95 % interval as of `paired_difference`."""
    check_lengths(none=none, a=a, b=b, both=both, clusters=clusters)
    if not none:
        raise InputError("An interaction needs at least one row; got none.")
    rows = zip(none, a, b, both, strict=True)
    return _mean_change([bool(w) - bool(y) - bool(z) + bool(x) for x, y, z, w in rows], clusters,
                        seed)


def _mean_change(change: Sequence[int], clusters: Sequence[str] | None, seed: int) -> Points:
    sums = cluster_sums(change, range(len(change)) if clusters is None else clusters)
    found = _bounded(change, sums, seed)
    coins = len(sums) == len(change) and max(map(abs, change)) == 1
    return _no_surer_than_exact(found, change) if coins else found


def _bounded(change: Sequence[int], sums: np.ndarray, seed: int) -> Points:
    mean, most = sum(change) / len(change), max(map(abs, change))
    if len(set(change)) == 1:
        return _points(mean, *_all_alike(change[0], len(sums)))
    if len(sums) < 2:  # one cluster says nothing of how clusters differ
        return _points(mean, -most, most)
    if no_spread(sums):
        low, high = wilson(len(sums) * (mean / most + 1) / 2, len(sums))
        return _points(mean, most * (2 * low - 1), most * (2 * high - 1))
    return _points(mean, *bootstrap_mean(sums, seed))


def _no_surer_than_exact(found: Points, change: Sequence[int]) -> Points:
    moved, n = sum(map(abs, change)), len(change)
    bounds: Any = proportion_confint(change.count(1), moved, alpha=0.05, method="beta")
    low, high = (100 * moved / n * (2 * float(share) - 1) for share in bounds)
    return Points(found.points, min(found.low, low), max(found.high, high))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact two-sided p that `a` and `b` on the same rows have one rate; 1 if no row differs."""
    check_lengths(a=a, b=b)
    table = [[0, 0], [0, 0]]
    for x, y in zip(a, b, strict=True):
        table[bool(x)][bool(y)] += 1
    if not table[0][1] and not table[1][0]:
        return 1.0
    result: Any = statsmodels_mcnemar(table, exact=True)
    return float(result.pvalue)


def _all_alike(change: int, n: int) -> tuple[float, float]:
    low, high = wilson(n * bool(change), n)
    if not change:
        return -high, high
    ends = sorted((change * low, change * high))
    return ends[0], ends[1]


def _points(value: float, low: float, high: float) -> Points:
    return Points(100 * value, 100 * low, 100 * high)
