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
from scipy.stats import rankdata
from scipy.stats import t as student

from sternpost.errors import InputError
from sternpost.stats.clusters import check_lengths
from sternpost.stats.rates import wilson

RESAMPLES = 1000


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
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(rng.integers(rows.max() + 1, size=rows.max() + 1),
                            minlength=rows.max() + 1)[rows]
        if drawn[y].any() and drawn[~y].any():
            found.append(_area(np.repeat(x, drawn), np.repeat(y, drawn)))
    fewer = min(len(set(rows[y])), len(set(rows[~y])))
    return Auroc(_area(x, y), *_interval(_area(x, y), float(np.std(found)), fewer), len(x))


def _interval(area: float, sd: float, clusters: int) -> tuple[float, float]:
    if sd == 0 or area in (0, 1):
        return wilson(area * clusters, clusters)
    half = float(student.isf(.025, max(clusters - 1, 1))) * sd / (area * (1 - area))
    return float(expit(logit(area) - half)), float(expit(logit(area) + half))


def _area(x: np.ndarray, y: np.ndarray) -> float:
    """Mann-Whitney's U over the number of pairs."""
    above = rankdata(x)[y].sum() - y.sum() * (y.sum() + 1) / 2
    return float(above / (y.sum() * (~y).sum()))
