"""Split conformal threshold: benign risks -> the level that few new benign risks exceed.

    threshold = the k-th smallest of n risks, k = ceil((n + 1) (1 - budget))

If new benign prompts are exchangeable with these, at most `budget` of them fire. With n prompts no
budget below 1 / (n + 1) can be promised.

    grouped threshold = the highest of the groups' own thresholds

One threshold over a mixture promises the budget for the mixture alone: a kind of prompt that is a
twentieth of it may fire twenty times as often. The highest of the groups' thresholds promises it
for each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sternpost.errors import InputError
from sternpost.stats.clusters import check_lengths


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


@dataclass(frozen=True)
class GroupedThreshold:
    """Where a gate fires so that no group of benign prompts fires more than the budget."""

    value: float
    budget: float
    """False fires promised of each group in `groups`, and of the pool: what was asked for, or more
    where the pool is too small for that."""
    groups: dict[str, Threshold]
    """Of each group that is large enough, its own."""
    pool: Threshold | None
    """Of all smaller groups together; None where there are none."""
    small: dict[str, Threshold]
    """Of each group in the pool: its highest risk, and the budget that this would promise."""


def grouped_threshold(risks: Sequence[float], groups: Sequence[str],
                      budget: float) -> GroupedThreshold:
    """The threshold that keeps the false fires of each group within `budget` (a share).

    A group of n rows with 1 / (n + 1) above the budget has no threshold of its own that keeps it,
    short of never firing. Raising the value to each such group's highest risk would promise it
    1 / (n + 1) and no more, and many small groups would so set the value by the highest of all
    risks: the gate would hardly fire. They are pooled and enter as one group: a new prompt out of
    their mixture keeps the budget, which for one of them alone is no promise (a kind that is a
    share s of the pool fires at most budget / s). Who must promise something for a small group by
    itself takes the higher of `value` and its `small` entry, or gives more of its prompts.
    """
    check_lengths(risks=risks, groups=groups)
    apart: dict[str, list[float]] = {name: [] for name in sorted(set(groups))}
    for risk, name in zip(risks, groups, strict=True):
        apart[name].append(risk)
    own = {name: conformal_threshold(some, budget) for name, some in apart.items()}
    small = {name: found for name, found in own.items() if found.budget > budget}
    large = {name: found for name, found in own.items() if name not in small}
    rest = [risk for name in small for risk in apart[name]]
    pool = conformal_threshold(rest, budget) if rest or not large else None
    parts = [*large.values(), *([] if pool is None else [pool])]
    return GroupedThreshold(max(part.value for part in parts),
                            max(part.budget for part in parts), large, pool, small)
