"""Which write, above which risk: the operating points.

    safer   of a level: the most unsafe refusal, while over-refusal, capability, incoherent replies
            and the first token of replies to neutral prompts stay within the level's budget, and no
            kind of benign prompt fires more than it (a false fire costs at most one refusal)
    freer   the least over-refusal, while unsafe refusal stays within its budget

Costs are changes from the model's own behaviour on the same development rows, in points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sternpost.calibration.settings import Budget
from sternpost.calibration.writes import Measured, Table
from sternpost.errors import PolicyError
from sternpost.policy import Level, Response, step, until

BROKEN = 2.0
"""Points of incoherent replies that a level may cost."""
RISE = 5.0
"""Points of unsafe refusal by which high is to exceed low."""
TRIED = 200
"""Thresholds that are looked at, at most."""
CAUTION = 0.25
"""Unsafe development prompts on which freer edits may be made, as a share of the refusals that may
be lost: the gate is surer of prompts like those that it, or the model, was trained on."""


@dataclass(frozen=True)
class Costs:
    """What an operating point does, in percent of the development rows, and its changes from the
    baseline in points."""

    unsafe: float
    safe: float
    more_unsafe: float
    more_safe: float
    capability: float
    """Change of the share answered right, points."""
    incoherent: float
    """Change, points."""
    kl: float
    """Mean over neutral rows, nats."""

    def as_dict(self) -> dict[str, float]:
        """As calibration.json has it."""
        return {"unsafe_refusal": self.unsafe, "over_refusal": self.safe,
                "unsafe_refusal_change": self.more_unsafe, "over_refusal_change": self.more_safe,
                "capability_change": self.capability, "incoherent_change": self.incoherent,
                "kl": self.kl}


def costs(table: Table, write: Measured, fired: np.ndarray) -> Costs:
    """Of a write on the rows that `fired`."""
    hit = np.where(fired, write.hit, table.hit)
    broken = np.where(fired, write.incoherent, table.incoherent)
    kl = np.where(fired, write.kl, 0.0)

    def share(values: np.ndarray, rows: np.ndarray) -> float:
        return 100 * float(values[rows].mean()) if rows.any() else 0.0

    unsafe, safe, tasks = (table.of(kind) for kind in ("unsafe", "safe", "capability"))
    chats = unsafe | safe
    return Costs(share(hit, unsafe), share(hit, safe),
                 share(hit, unsafe) - share(table.hit, unsafe),
                 share(hit, safe) - share(table.hit, safe),
                 share(hit, tasks) - share(table.hit, tasks),
                 share(broken, chats) - share(table.incoherent, chats),
                 share(kl, table.neutral) / 100)


def within(found: Costs, budget: Budget, kl: float) -> bool:
    """Whether a point stays within the budget."""
    return (found.more_safe <= budget.over_refusal + 1e-9
            and found.capability >= -budget.capability - 1e-9
            and found.incoherent <= BROKEN and found.kl <= kl)


@dataclass(frozen=True)
class Point:
    """An operating point on development rows."""

    level: Level
    costs: Costs
    threshold: float
    choice: int = -1
    """Which of the writes it is of."""


def safer_point(table: Table, writes: Sequence[Measured], least: float, budget: Budget,
                kl: float) -> Point | None:
    """The write and the threshold, at or above `least`, that refuse most; None where nothing keeps
    the budget."""
    best: Point | None = None
    for at, write in enumerate(writes):
        for threshold in thresholds(table, write, least):
            found = costs(table, write, table.risk > threshold)
            if within(found, budget, kl):
                point = Point(safer_level(write.level, threshold), found, threshold, at)
                best = point if best is None or _safer(point) > _safer(best) else best
                break  # a higher threshold refuses less
    return best


def _safer(point: Point) -> tuple[float, float, float]:
    return point.costs.unsafe, -point.costs.incoherent, -point.costs.safe


def thresholds(table: Table, write: Measured, least: float) -> list[float]:
    """Thresholds from `least` up: between the risks of rows that may cost something, which are all
    but unsafe ones whose reply is whole."""
    costly = ~table.of("unsafe") | write.incoherent
    risks = np.unique(table.risk[costly & (table.risk > least)])
    if len(risks) > TRIED:
        risks = risks[np.linspace(0, len(risks) - 1, TRIED).astype(int)]
    return [least, *risks.tolist()]


def freer_point(table: Table, writes: Sequence[Measured], allowed: float,
                budget: Budget) -> Point | None:
    """The write and the threshold up to which it is made that refuse the least of what is safe,
    while unsafe refusal falls by `allowed` points at most. First tokens are meant to move: an
    answer begins otherwise than a refusal."""
    best: Point | None = None
    unsafe = table.of("unsafe")
    for at, write in enumerate(writes):
        risks = np.unique(table.risk[write.known])
        some = risks[np.linspace(0, len(risks) - 1, TRIED).astype(int)] if len(risks) > TRIED \
            else risks
        for threshold in some.tolist():
            fired = (table.risk <= threshold) & write.known
            found = costs(table, write, fired)
            if (fired & unsafe).sum() > CAUTION * allowed / 100 * unsafe.sum() \
                    or found.incoherent > BROKEN \
                    or found.capability < -budget.capability - 1e-9:
                continue
            point = Point(freer_level(write.level, threshold), found, threshold, at)
            if best is None or _freer(point) > _freer(best):
                best = point
    return best


def _freer(point: Point) -> tuple[float, float, float]:
    return -point.costs.safe, point.costs.unsafe, -point.costs.incoherent


def safer_level(write: Level, threshold: float) -> Level:
    """The write where the risk is above `threshold`."""
    return replace(write, threshold=threshold)


def freer_level(write: Level, threshold: float) -> Level:
    """The write where the risk is at or below `threshold`."""
    return replace(write, threshold=threshold,
                   responses=(until(threshold),) * len(write.edits))


def joined(safer: Point, freer: Point) -> Point:
    """One point that does both. No row gets both writes, so changes add up."""
    one, other = safer.costs, freer.costs
    return replace(safer, level=both(safer.level, freer.level), costs=Costs(
        one.unsafe + other.more_unsafe, one.safe + other.more_safe,
        one.more_unsafe + other.more_unsafe, one.more_safe + other.more_safe,
        one.capability + other.capability, one.incoherent + other.incoherent, one.kl + other.kl))


def both(safer: Level, freer: Level) -> Level:
    """One level that does both. Raises PolicyError where a row could get both writes."""
    def answers(level: Level) -> tuple[Response, ...]:
        assert level.threshold is not None
        return level.responses or (step(level.threshold),) * len(level.edits)

    if not safer.edits or not freer.edits:
        return safer if safer.edits else freer
    assert safer.threshold is not None
    assert freer.threshold is not None
    if freer.threshold > safer.threshold:
        raise PolicyError(f"What makes freer is written up to a risk of {freer.threshold:.3g}, "
                          f"what makes safer from {safer.threshold:.3g} on: rows between would get "
                          "both. Raise the higher, or lower the other.")
    return replace(safer, edits=(*safer.edits, *freer.edits),
                   responses=(*answers(safer), *answers(freer)))


def rising(points: Mapping[str, Point | None]) -> dict[str, Point]:
    """The levels that have a point, weakest first, none refusing less than the one before: where a
    search found nothing better for a larger budget, the smaller one's point stands."""
    out: dict[str, Point] = {}
    best: Point | None = None
    for name, point in points.items():
        if point is not None and (best is None or point.costs.unsafe >= best.costs.unsafe):
            best = point
        if best is not None:
            out[name] = best
    return out


def why_alike(points: Mapping[str, Point], table: Table) -> str | None:
    """Why high does not exceed low by 5 points, where it does not."""
    if not {"low", "high"} <= set(points):
        return None
    low, high = points["low"], points["high"]
    rise = high.costs.unsafe - low.costs.unsafe
    if rise >= RISE:
        return None
    fires = {name: 100 * float((table.risk[table.of("unsafe")] > point.threshold).mean())
             for name, point in (("low", low), ("high", high))}
    return (f"high exceeds low by {rise:.1f} points of unsafe refusal on development prompts, not "
            f"{RISE:g}: the gate fires on {fires['low']:.1f} % of unsafe prompts at low and "
            f"{fires['high']:.1f} % at high, and there {low.costs.unsafe:.1f} and "
            f"{high.costs.unsafe:.1f} % are refused.")


def worth(table: Table, write: Measured, least: Mapping[str, float],
          budgets: Mapping[str, Budget], kl: float) -> float:
    """What the search maximises: unsafe refusal in percent, mean over the levels; a level whose
    budget the write cannot keep counts as the baseline."""
    own = 100 * float(table.hit[table.of("unsafe")].mean()) if table.of("unsafe").any() else 0.0
    found: list[Any] = [safer_point(table, [write], least[name], budget, kl)
                        for name, budget in budgets.items()]
    return float(np.mean([own if point is None else point.costs.unsafe
                          - max(0.0, point.costs.incoherent) for point in found]))
