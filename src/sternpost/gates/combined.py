"""Several gates at one hookpoint as one.

    any        the highest risk
    all        the lowest
    weighted   sum over members of weight * risk, the weights sum to 1
    cascade    the first member's risk where it is <= low or >= high, else the next one's, and so on

Covered: what its members cover; a cascade asks its dearer members only for the rows on which the
cheaper ones are not sure. Not covered: members at different hookpoints. Overall: a combination is
calibrated anew, by its own threshold; its members' thresholds play no part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sternpost.errors import GateError
from sternpost.types import Gate, Hookpoint

Way = Literal["any", "all", "weighted", "cascade"]


@dataclass(frozen=True, eq=False)
class CombinedGate:
    """Member gates and how their risks become one."""

    kind: ClassVar[str] = "combined"
    categories = ()
    members: tuple[Gate, ...]
    """In a cascade the cheapest first."""
    how: Way
    weights: tuple[float, ...] = ()
    """One a member where they are weighted."""
    low: float = 0.0
    high: float = 1.0
    """A cascade asks on where a risk is between these."""
    threshold: float = 1.0

    def __post_init__(self) -> None:
        one_hookpoint(self.members)
        if self.how not in get_args(Way):
            raise GateError(f"Gates are combined by {', '.join(get_args(Way))}; got {self.how!r}.")
        if not 0 <= self.low < self.high <= 1:
            raise GateError("A cascade asks on between two risks, 0 <= low < high <= 1; got "
                            f"{self.low!r} and {self.high!r}.")
        asked = len(self.members) if self.how == "weighted" else 0
        whole = asked == 0 or math.isclose(sum(self.weights), 1.0, abs_tol=1e-6)
        if len(self.weights) != asked or not whole or not all(w >= 0 for w in self.weights):
            raise GateError(f"{self.how!r} of {len(self.members)} gates takes {asked} weights"
                            f"{' from 0 up that sum to 1' * (asked > 0)}; got {self.weights!r}.")

    @property
    def hookpoint(self) -> Hookpoint:
        """Where its members read."""
        return self.members[0].hookpoint

    def risk(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """P(harm) of each row."""
        if self.how == "cascade":
            return self._cascade(h)
        each = torch.stack([member.risk(h) for member in self.members])
        if self.how == "weighted":
            return self._weighted(each)
        return each.amax(0) if self.how == "any" else each.amin(0)

    def risks(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, "row 1"]:
        """The same as a column: no categories."""
        return self.risk(h)[:, None]

    def _weighted(self, each: Tensor) -> Tensor:
        total = torch.zeros_like(each[0])
        for weight, risk in zip(self.weights, each, strict=True):  # one order, whatever the batch
            total = total + weight * risk
        return total.clamp(0.0, 1.0)

    def _cascade(self, h: Tensor) -> Tensor:
        risk = self.members[0].risk(h).clone()
        for member in self.members[1:]:
            unsure = (risk > self.low) & (risk < self.high)
            if bool(unsure.any()):
                risk[unsure] = member.risk(h[unsure.to(h.device)])
        return risk


def one_hookpoint(gates: Sequence[Gate]) -> None:
    """Nothing, where all gates read one place; else a GateError."""
    places = {str(gate.hookpoint) for gate in gates}
    if len(places) != 1:
        raise GateError(f"Gates that decide together read one hookpoint; got {len(gates)} gates at "
                        f"{', '.join(sorted(places)) or 'none'}.")
