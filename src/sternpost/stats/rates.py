"""A share of hits with its 95 % interval.

Wilson where every row stands alone (E. B. Wilson 1927), else a bootstrap over clusters (BCa; how
far it holds: `stats/clusters.py`). A bootstrap knows no doubt at 0 or n hits, nor where every
cluster has one share; there it is Wilson with n = clusters.
"""

from collections.abc import Sequence
from typing import Any, Literal

from statsmodels.stats.proportion import proportion_confint

from sternpost.errors import InputError
from sternpost.stats.clusters import (
    any_shared,
    bootstrap_mean,
    check_lengths,
    cluster_sums,
    no_spread,
)
from sternpost.types import Rate


def rate(hits: Sequence[bool], clusters: Sequence[str] | None = None, seed: int = 0,
         interval: Literal["cluster"] | None = None) -> Rate | None:
    """Share of true `hits` with a 95 % interval, as fractions; None where there is no row.

    A cluster bootstrap if some cluster has more than one row, or if `interval` asks for it.
    """
    check_lengths(hits=hits, clusters=clusters)
    if interval == "cluster" and clusters is None:
        raise InputError("A cluster interval needs clusters; got none. Give clusters=[...], "
                         "one name a row.")
    n, count = len(hits), sum(map(bool, hits))
    if n == 0:
        return None
    if clusters is None or (interval is None and not any_shared(clusters)):
        return Rate(count, n, *wilson(count, n))
    return Rate(count, n, *_clustered([bool(hit) for hit in hits], clusters, seed), "cluster")


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval, as fractions; exactly 0 below no hit, exactly 1 above all hits."""
    bounds: Any = proportion_confint(hits, n, alpha=0.05, method="wilson")
    low, high = map(float, bounds)
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)


def _clustered(hits: Sequence[bool], clusters: Sequence[str], seed: int) -> tuple[float, float]:
    sums = cluster_sums(hits, clusters)
    if not any(hits) or all(hits):
        return wilson(len(sums) * hits[0], len(sums))
    if len(sums) < 2:  # one cluster says nothing of how clusters differ
        return 0.0, 1.0
    if no_spread(sums):
        return wilson(len(sums) * sum(hits) / len(hits), len(sums))
    return bootstrap_mean(sums, seed)
