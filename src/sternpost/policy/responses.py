"""Response functions: a gate's risk -> a dose of an edit.

    dose = g(risk)      straight lines between points (risk, dose); level before and after them

    step(t)             0 up to t, then 1: a clamp behind a threshold
    linear(low, high)   0 up to low, 1 from high on, a line between
    until(t)            1 up to t, then 0: for what is done to harmless prompts alone
    learned             isotonic regression of what was wanted on the risk

A dose scales the change that an edit makes: 0 leaves a row's very bits, 1 is the whole edit, -1 the
edit turned round. Covered: one response an edit, each on the overall risk or on a category's. Not
covered: responses to several risks at once (a combined gate does that). Overall: a function of the
risks alone, row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sternpost.errors import PolicyError
from sternpost.types import Plan

LARGEST = 10.0
"""Doses lie between minus and plus this."""


@dataclass(frozen=True, slots=True)
class Response:
    """Risk -> dose, through `points` in the order of their risks; two at one risk are a jump, and
    the first of them is the dose at that risk."""

    points: tuple[tuple[float, float], ...]
    category: str | None = None
    """Whose risk is meant; None: the overall one."""

    def __post_init__(self) -> None:
        risks, doses = [p[0] for p in self.points], [p[1] for p in self.points]
        if not self.points or any(b < a for a, b in pairwise(risks)) or any(
                not isfinite(r) for r in risks):
            raise PolicyError("A response is a list of points (risk, dose), risks finite and in "
                              f"order; got {list(self.points)}.")
        if any(not abs(dose) <= LARGEST for dose in doses):
            raise PolicyError(f"A dose is a number from -{LARGEST:g} to {LARGEST:g}; got {doses}.")

    def dose(self, risk: Float[Tensor, " row"]) -> Float[Tensor, " row"]:
        """The dose at each risk, float64."""
        x, y = torch.tensor(self.points, dtype=torch.float64).T.contiguous()
        after = torch.searchsorted(x, risk.double().contiguous()).clamp(max=len(x) - 1)
        before = (after - 1).clamp(min=0)
        width = x[after] - x[before]
        share = torch.where(width > 0, (risk - x[before]) / width.clamp(min=1e-300), 1.0)
        return torch.lerp(y[before], y[after], share.clamp(0.0, 1.0))

    def within(self, floor: float, cap: float) -> "Response":
        """The same, never below `floor` or above `cap`."""
        if not floor <= cap:
            raise PolicyError(f"A floor lies at or below its cap; got {floor!r} and {cap!r}.")
        points = [self.points[0]]
        for before, after in pairwise(self.points):
            points += [*_crossings((before, after), (floor, cap)), after]
        return Response(tuple((risk, min(max(dose, floor), cap)) for risk, dose in points),
                        self.category)

    def as_dict(self) -> dict[str, Any]:
        """JSON's view."""
        return {"points": [list(point) for point in self.points], "category": self.category}

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Response":
        """And back."""
        return cls(tuple((float(r), float(d)) for r, d in body["points"]), body.get("category"))


def _crossings(pair: tuple[tuple[float, float], tuple[float, float]],
               levels: tuple[float, float]) -> list[tuple[float, float]]:
    """Where the line between two points crosses each level, in order."""
    (x0, y0), (x1, y1) = pair
    return sorted((min(x0 + (x1 - x0) * (level - y0) / (y1 - y0), x1), level) for level in levels
                  if x1 > x0 and min(y0, y1) < level < max(y0, y1))


def step(threshold: float, dose: float = 1.0, category: str | None = None) -> Response:
    """All of it on risks above `threshold`."""
    return Response(((threshold, 0.0), (threshold, dose)), category)


def until(threshold: float, dose: float = 1.0, category: str | None = None) -> Response:
    """All of it on risks up to `threshold`."""
    return Response(((threshold, dose), (threshold, 0.0)), category)


def linear(low: float, high: float, dose: float = 1.0, category: str | None = None) -> Response:
    """None up to `low`, all of it from `high` on."""
    if not low < high:
        raise PolicyError(f"A linear response rises from a lower to a higher risk; got {low!r} and "
                          f"{high!r}.")
    return Response(((low, 0.0), (high, dose)), category)


def learned(risks: Sequence[float], wanted: Sequence[float],
            category: str | None = None) -> Response:
    """The rising response that comes closest to the doses `wanted` at `risks`, in squares."""
    if len(risks) != len(wanted) or len(risks) < 2:
        raise PolicyError("A learned response needs a wanted dose for each of at least two risks; "
                          f"got {len(risks)} risks and {len(wanted)} doses.")
    from sklearn.isotonic import IsotonicRegression  # heavy: only where one is learned

    fitted = IsotonicRegression().fit(np.asarray(risks), np.asarray(wanted))
    x, y = fitted.X_thresholds_, fitted.y_thresholds_
    return Response(tuple((float(r), float(d)) for r, d in zip(x, y, strict=True)), category)


@dataclass(frozen=True)
class Doses:
    """A Policy: a response for each edit of a plan, in their order."""

    responses: tuple[Response, ...]

    def doses(self, risks: Float[Tensor, "row column"],
              categories: Sequence[str]) -> Float[Tensor, "row edit"]:
        """The dose of each edit on each row; `categories` name the columns after the first, which
        is the overall risk."""
        return torch.stack([r.dose(risks[:, _column(r.category, categories)])
                            for r in self.responses], 1).float()


def _column(category: str | None, categories: Sequence[str]) -> int:
    if category is None:
        return 0
    if category not in categories:
        raise PolicyError(f"A response is to the risk of {category!r}, which this gate does not "
                          f"tell: it knows {', '.join(categories) or 'the overall risk alone'}. "
                          "Leave the category out, or fit a gate with that category.")
    return 1 + list(categories).index(category)


def opened(plan: Plan, risks: Float[Tensor, "row column"],
           n_edits: int) -> Float[Tensor, "row edit"]:
    """The dose of each of `n_edits` edits on rows with these risks: by the plan's policy, else 1
    where the gate fires."""
    if plan.policy is None:
        fires = risks[:, :1] > plan.gate.threshold
        return fires.float().expand(-1, n_edits)
    doses = plan.policy.doses(risks, tuple(getattr(plan.gate, "categories", ())))
    if doses.shape[1] != n_edits:
        raise PolicyError(f"A policy gives a dose for each edit; this one gives {doses.shape[1]} "
                          f"for {n_edits} edits.")
    return doses
