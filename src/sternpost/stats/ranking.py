"""AUROC: how often an unsafe prompt's risk is above a safe one's, ties counting half.

    interval   logit(area) +- t * sd / (area (1 - area)), sd over draws of whole clusters

t: Student's .975 for the side of fewer clusters. On the logit scale since areas near 1 are skewed:
a percentile bootstrap covers 87 % at an area of .98 and 100 rows. Where no draw differs (an area of
1, say) it is Wilson with n = the clusters of the side that has fewer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from sternpost.errors import InputError
from sternpost.stats.clusters import check_lengths
from sternpost.stats.rates import wilson

RESAMPLES = 1000
_BATCH = 100  # draws held in memory at once


class Auroc(NamedTuple):
    """An area under the ROC curve with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """Rows, of both sides."""


def auroc(risks: Sequence[float], harmful: Sequence[bool], clusters: Sequence[str] | None = None,
          seed: int = 0) -> Auroc:
    """The AUROC of `risks`; its interval resamples clusters."""
    names = [str(at) for at in range(len(risks))] if clusters is None else list(clusters)
    check_lengths(risks=risks, harmful=harmful, clusters=names)
    y = np.asarray(harmful, dtype=bool)
    if not y.any() or y.all():
        raise InputError(f"An AUROC needs both sides; got {int(y.sum())} unsafe and "
                         f"{int((~y).sum())} safe risks.")
    x = np.asarray(risks, dtype=float)
    _, rows = np.unique(names, return_inverse=True)
    found = _drawn(x, y, rows, np.random.default_rng(seed))
    fewer = min(len(set(rows[y])), len(set(rows[~y])))
    area = float(_areas(x, y, np.ones((1, len(x))))[0])
    return Auroc(area, *_interval(area, float(np.std(found)), fewer), len(x))


def _interval(area: float, sd: float, clusters: int) -> tuple[float, float]:
    if sd == 0 or area in (0, 1):
        return wilson(area * clusters, clusters)
    half = float(student.isf(.025, max(clusters - 1, 1))) * sd / (area * (1 - area))
    return float(expit(logit(area) - half)), float(expit(logit(area) + half))


def _drawn(x: np.ndarray, y: np.ndarray, rows: np.ndarray,
           rng: np.random.Generator) -> np.ndarray:
    """The areas of draws of clusters, where both sides have some; `rows`: the cluster of each."""
    k, found = rows.max() + 1, []
    for at in range(0, RESAMPLES, _BATCH):
        times = np.stack([np.bincount(rng.integers(k, size=k), minlength=k)[rows]
                          for _ in range(min(_BATCH, RESAMPLES - at))]).astype(float)
        both = times[:, y].any(1) & times[:, ~y].any(1)
        found.append(_areas(x, y, times[both]))
    return np.concatenate(found)


def _areas(x: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mann-Whitney's U over the number of pairs, of each draw in which row i stands times[:, i]
    times."""
    order = np.argsort(x, kind="stable")
    starts = np.flatnonzero(np.diff(x[order], prepend=-np.inf))
    bad, good = (np.add.reduceat(np.where(side[order], times[:, order], 0), starts, axis=1)
                 for side in (y, ~y))
    pairs = (bad * (np.cumsum(good, axis=1) - good / 2)).sum(1)
    return pairs / (bad.sum(1) * good.sum(1))
