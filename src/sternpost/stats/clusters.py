"""Rows that hang together, resampled together.

BCa bootstrap (Efron 1987), at the level at which a percentile interval of k clusters is as wide as
Student's (Hesterberg 2015, arXiv 1411.5279), with as many degrees of freedom as the variance of
these clusters is known by (Satterthwaite 1946):

    level     1 - 2 Phi(-sqrt(k / (k - 1)) t(.975, freedom))
    freedom   min(k - 1, 2 k / (kurtosis - 1)), kurtosis of the clusters' residuals

so that a hundred clusters of which three hold all the hits count as the few that they are.

Covered: 93 to 97 % from 50 clusters on, but where three or four of them hold nearly all hits (92).
With 20 clusters 95 to 100 %, with 5 or 10 about 92. A plain percentile bootstrap: 87 % in places.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np
from scipy.stats import bootstrap, norm
from scipy.stats import t as student

from sternpost.errors import InputError

RESAMPLES = 2000
_BATCH = 200  # resamples held in memory at once
_MANY = 5000  # clusters; BCa takes their square in time, and corrects next to nothing there


def check_lengths(**columns: Sequence[object] | None) -> None:
    """Nothing, where all columns that are given have one length; else an InputError."""
    lengths = {name: len(column) for name, column in columns.items() if column is not None}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise InputError(f"One entry a row is needed in each, in the same order; got: {got}.")


def any_shared(clusters: Sequence[Hashable]) -> bool:
    """Whether some cluster has more than one row."""
    return len(set(clusters)) < len(clusters)


def cluster_sums(values: Sequence[float], clusters: Sequence[Hashable]) -> np.ndarray:
    """[cluster, 2]: the sum of each cluster's values, and its number of rows.

    Sorted by these numbers, so that neither names nor the order of rows change an interval.
    """
    sums: dict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value
    sizes = Counter(clusters)
    return np.array(sorted((sums[cluster], size) for cluster, size in sizes.items()), dtype=float)


def no_spread(sums: np.ndarray) -> bool:
    """Whether all clusters have one mean: then no resample differs from another."""
    off = sums[:, 0] - sums[:, 1] * (sums[:, 0].sum() / sums[:, 1].sum())
    return bool(np.abs(off).max() <= 1e-12 * np.abs(sums[:, 0]).max())


def bootstrap_mean(sums: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % interval of a mean over rows, whole clusters resampled (at least two, not all alike)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no acceleration can be told: see below
        result = bootstrap((sums[:, 0], sums[:, 1]), _mean, paired=True, vectorized=True, axis=-1,
                           n_resamples=RESAMPLES, batch=_BATCH, confidence_level=_level(sums),
                           method="BCa" if len(sums) <= _MANY else "percentile",
                           rng=np.random.default_rng(seed))
    low, high = result.confidence_interval
    if not np.isfinite([low, high]).all():
        low, high = np.min(result.bootstrap_distribution), np.max(result.bootstrap_distribution)
    return float(low), float(high)


def draw_means(sums: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """[draws]: means over rows, whole clusters resampled."""
    out = np.empty(draws)
    for at in range(0, draws, _BATCH):
        rows = rng.integers(0, len(sums), (min(_BATCH, draws - at), len(sums)))
        out[at:at + len(rows)] = _mean(sums[rows, 0], sums[rows, 1])
    return out


def freedom(sums: np.ndarray) -> float:
    """Degrees of freedom by which the variance of a mean over clusters is known, 2 or more from 3
    clusters on; 0 for a single one."""
    k = len(sums)
    off = sums[:, 0] - sums[:, 1] * (sums[:, 0].sum() / sums[:, 1].sum())
    square = float((off ** 2).mean())
    if k < 2 or not square:
        return k - 1.0
    excess = float((off ** 4).mean()) / square ** 2 - 1
    return min(k - 1.0, 2 * k / max(excess, 1e-9))


def two_sided(drawn: np.ndarray, *sums: np.ndarray) -> float:
    """p that a mean over the clusters `sums` is 0, or a difference of several such means: the
    smaller share of draws on one side of it, widened as intervals are.

        2 T(sqrt((k - 1) / k) Phi^-1(share)), T with `freedom` degrees of freedom

    Of several means the fewest clusters and the least freedom count. Never below 1 / draws, nor
    below 2 ** (1 - k), which is as rare as one side can be by chance where each of k clusters
    tosses a coin; so 1 for a single cluster.
    """
    clusters = min(map(len, sums))
    tail = min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    least = max(1 / len(drawn), 2.0 ** (1 - clusters))
    if clusters < 2 or tail >= .5:
        return 1.0
    z = float(norm.ppf(tail)) * sqrt((clusters - 1) / clusters)
    return min(1.0, max(2 * float(student.cdf(z, min(map(freedom, sums)))), least))


def _level(sums: np.ndarray) -> float:
    k = len(sums)
    z = sqrt(k / (k - 1)) * float(student.isf(.025, freedom(sums)))
    return min(1 - 2 * float(norm.sf(z)), .9999)


def _mean(total: np.ndarray, rows: np.ndarray, axis: int = -1) -> np.ndarray:
    return total.sum(axis=axis) / rows.sum(axis=axis)
