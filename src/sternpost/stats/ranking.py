"""AUROC: how often an unsafe prompt's risk is above a safe one's, ties counting half."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from sternpost.errors import InputError
from sternpost.stats.clusters import check_lengths

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
    """The AUROC of `risks`; its interval resamples clusters (percentile bootstrap)."""
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
    low, high = np.quantile(found, [0.025, 0.975])
    return Auroc(_area(x, y), float(low), float(high), len(x))


def _area(x: np.ndarray, y: np.ndarray) -> float:
    """Mann-Whitney's U over the number of pairs."""
    above = rankdata(x)[y].sum() - y.sum() * (y.sum() + 1) / 2
    return float(above / (y.sum() * (~y).sum()))
