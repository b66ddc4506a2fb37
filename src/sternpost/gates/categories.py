"""A gate for harm at all and one for each hazard category.

    risks = [overall, category 1, category 2, ...]        each category fitted against benign rows

Covered: which kind of harm a request is likely to be, for values that differ by category. Not
covered: categories with too few prompts, or that nothing tells from benign ones; they are named,
and only the overall gate knows them. Overall: the overall risk alone opens the gate; what a
category's risk adds is what is written then. `limits` are for who writes a response to a category's
risk: `step(limit, category=name)`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sternpost.errors import GateError
from sternpost.gates.combined import one_hookpoint
from sternpost.gates.logistic import FOLDS
from sternpost.types import Gate, Hookpoint

Fit = Callable[[Tensor, np.ndarray, np.ndarray], Gate]
"""(streams, harmful, clusters) -> a gate."""


@dataclass(frozen=True, eq=False)
class CategoryGate:
    """A gate that knows hazard categories."""

    kind: ClassVar[str] = "categories"
    overall: Gate
    members: tuple[Gate, ...]
    """One a category."""
    categories: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Categories with too few rows for a gate of their own."""
    threshold: float = 1.0
    limits: tuple[float, ...] = ()
    """The risk of each category that benign prompts keep within a budget; none: not known."""

    def __post_init__(self) -> None:
        one_hookpoint((self.overall, *self.members))
        if len(self.members) != len(self.categories):
            raise GateError(f"One gate a category is needed; got {len(self.members)} gates for "
                            f"{len(self.categories)} categories.")
        if self.limits and len(self.limits) != len(self.categories):
            raise GateError(f"A limit a category is needed, or none; got {len(self.limits)} for "
                            f"{len(self.categories)} categories.")

    @property
    def hookpoint(self) -> Hookpoint:
        """Where its members read."""
        return self.overall.hookpoint

    def risk(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """P(harm) of each row, of any category."""
        return self.overall.risk(h)

    def risks(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, "row column"]:
        """The overall risk in column 0, then one column a category."""
        return torch.stack([gate.risk(h) for gate in (self.overall, *self.members)], 1)


def fit_categories(h: Float[Tensor, "row d_model"], harmful: Bool[np.ndarray, " row"],
                   clusters: np.ndarray, categories: Sequence[str | None],
                   fit: Fit, fewest: int = 0) -> CategoryGate:
    """The overall gate and one a category with at least 5 clusters and `fewest` rows, each by
    `fit`; a category that `fit` cannot tell from benign rows is left out too.

    `categories`: the hazard category of each row; those of benign rows play no part.
    """
    named = np.array(["" if name is None else name for name in categories])
    found: dict[str, Gate] = {}
    left_out = []
    for name in sorted(set(named[harmful]) - {""}):
        mine = harmful & (named == name)
        rows = mine | ~harmful
        if len(set(clusters[mine])) < FOLDS or mine.sum() < fewest:
            left_out.append(str(name))
            continue
        try:
            found[str(name)] = fit(h[rows], harmful[rows], clusters[rows])
        except GateError:  # what it reads is no higher on these rows than on benign ones
            left_out.append(str(name))
    return CategoryGate(fit(h, harmful, clusters), tuple(found.values()), tuple(found),
                        tuple(left_out))
