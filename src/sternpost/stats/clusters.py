"""Rows that hang together, resampled together."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import bootstrap

from sternpost.errors import InputError

RESAMPLES = 2000
_BATCH = 200  # resamples held in memory at once


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


def bootstrap_mean(sums: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile interval of a mean over rows, whole clusters resampled (at least two)."""
    result = bootstrap((sums[:, 0], sums[:, 1]), _mean, paired=True, vectorized=True, axis=-1,
                       n_resamples=RESAMPLES, batch=_BATCH, method="percentile",
                       rng=np.random.default_rng(seed))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _mean(total: np.ndarray, rows: np.ndarray, axis: int = -1) -> np.ndarray:
    return total.sum(axis=axis) / rows.sum(axis=axis)
