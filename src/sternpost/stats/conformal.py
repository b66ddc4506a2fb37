"""Split conformal threshold: benign risks -> the level that few new benign risks exceed.

    threshold = the k-th smallest of n risks, k = ceil((n + 1) (1 - budget))

If new benign prompts are exchangeable with these, at most `budget` of them fire. With n prompts no
budget below 1 / (n + 1) can be promised.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from sternpost.errors import InputError


class Threshold(NamedTuple):
    """Where a gate fires: on risks above `value`."""

    value: float
    budget: float
    """False fires promised, as a share: what was asked for, or 1 / (n + 1) where that is more."""


def conformal_threshold(risks: Sequence[float], budget: float) -> Threshold:
    """The threshold that keeps false fires within `budget` (a share)."""
    if not risks:
        raise InputError("A threshold needs benign calibration prompts; got none.")
    if not 0 < budget < 1:
        raise InputError(f"A false-fire budget is a share between 0 and 1; got {budget!r}.")
    n = len(risks)
    used = max(budget, 1 / (n + 1))
    k = min(n, math.ceil((n + 1) * (1 - used) - 1e-9))
    return Threshold(sorted(risks)[k - 1] if k > 0 else -math.inf, used)
