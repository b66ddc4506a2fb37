"""Logistic regression with a penalty chosen, and its probabilities calibrated, by cross-validation
over clusters: rows of one cluster never stand on both sides.

    fit:        min over w, b of  sum_i weight_i log(1 + exp(-y_i (w . x_i + b))) + penalty(w)
    calibrate:  risk = sigmoid(s (w . x + b) + t), s and t fitted to out-of-fold scores (Platt)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sternpost.errors import GateError

PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse strengths C tried, on standardised columns."""
FOLDS = 5


@dataclass(frozen=True)
class Logistic:
    """A linear score in the columns' own units, and how well it told folds apart."""

    weight: np.ndarray
    bias: float
    C: float
    loss: float
    """Out-of-fold log loss (nats), class-balanced, after calibration."""


def fit_logistic(x: np.ndarray, y: np.ndarray, clusters: np.ndarray, seed: int = 0,
                 sparse: bool = False) -> Logistic:
    """`x` [row, column], `y` bool. `sparse`: an L1 penalty. Raises GateError where there is
    nothing to tell apart."""
    parts = folds(y, clusters, seed)
    mean, scale = x.mean(0), x.std(0)
    keep = scale > 1e-9 * max(1.0, float(scale.max()))
    if not keep.any():
        raise GateError("What the gate reads is the same for every prompt. Read another layer.")
    z = (x[:, keep] - mean[keep]) / scale[keep]
    scores = {C: _out_of_fold(z, y, parts, C, (seed, sparse)) for C in PENALTIES}
    losses = {C: _loss(score, y) for C, score in scores.items()}
    C = min(PENALTIES, key=lambda C: (losses[C], C))
    slope, offset = _platt(scores[C], y)
    model = _regression(C, seed, sparse).fit(z, y)
    weight = np.zeros(x.shape[1])
    weight[keep] = slope * model.coef_[0] / scale[keep]
    bias = slope * float(model.intercept_[0]) + offset - float(weight @ mean)
    return Logistic(weight, bias, C, losses[C])


def _regression(C: float, seed: int, sparse: bool) -> Any:
    from sklearn.linear_model import LogisticRegression  # heavy: only where a gate is fitted

    if sparse:
        return LogisticRegression(C=C, l1_ratio=1.0, solver="liblinear", class_weight="balanced",
                                  random_state=seed, max_iter=2000, tol=1e-4)
    return LogisticRegression(C=C, class_weight="balanced", max_iter=3000)


def _out_of_fold(z: np.ndarray, y: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]],
                 C: float, how: tuple[int, bool]) -> np.ndarray:
    out = np.zeros(len(y))
    for rest, held in parts:
        out[held] = _regression(C, *how).fit(z[rest], y[rest]).decision_function(z[held])
    return out


def folds(y: np.ndarray, clusters: np.ndarray,
          seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows to try on, of each fold; no cluster stands on both sides."""
    from sklearn.model_selection import StratifiedGroupKFold  # as above

    groups = len(set(clusters[y])), len(set(clusters[~y]))
    if min(groups) < FOLDS:
        raise GateError(f"A gate is fitted on at least {FOLDS} clusters a side; got {groups[0]} "
                        f"unsafe and {groups[1]} safe. Give more prompts, or --no-gate.")
    parts = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(parts.split(y, y, clusters))


def calibrate(score: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Platt's s and t of a score in any unit that is higher on harmful rows. Raises GateError."""
    scale = float(score.std())
    slope, offset = _platt(score / scale, y) if scale > 0 else (0.0, 0.0)
    if slope <= 0:
        raise GateError("What this gate reads is no higher on harmful prompts than on safe ones. "
                        "Read another layer, or fit another kind of gate.")
    return slope / scale, offset


def _platt(score: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression  # as above

    found = LogisticRegression(C=1e3, max_iter=1000).fit(score[:, None], y)
    return float(found.coef_[0, 0]), float(found.intercept_[0])


def _loss(score: np.ndarray, y: np.ndarray) -> float:
    slope, offset = _platt(score, y)
    margin = np.where(y, 1, -1) * (slope * score + offset)
    each = np.logaddexp(0.0, -margin)
    return float(each[y].mean() + each[~y].mean()) / 2
