"""The search for writes: every one tried on part of the development rows, the best on all."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sternpost.calibration.gates import Gates
from sternpost.calibration.levels import Point, freer_point, rising, safer_point, worth
from sternpost.calibration.settings import FREER, Budget, CalibrateSettings
from sternpost.calibration.writes import (
    Choice,
    Measured,
    Open,
    Space,
    Table,
    measured,
    proposals,
)
from sternpost.engines.first import first_token_kl
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import SearchError
from sternpost.policy import Level
from sternpost.trials.bench import Bench
from sternpost.types import Plan

PART = 400
"""Rows of a kind on which every write is tried, at most; the best see all."""
FINALISTS = 8
SMALLEST = 0.0025
"""Share of false fires below which no threshold is asked for."""
LOWEST = 0.25
"""Share of unsafe prompts below whose risk what makes freer is looked at."""
Tried = tuple[Choice, Level, float]
"""A point of the space, what it writes, its worth."""


class Searching:
    """Searches on one table."""

    def __init__(self, bench: Bench, settings: CalibrateSettings, table: Table,
                 gates: Gates) -> None:
        self.bench, self.settings, self.table, self.gates = bench, settings, table, gates

    def safer(self, opened: Open, space: Space,
              beside: Point | None = None) -> tuple[dict[str, Point], dict[str, Any]]:
        """The points of the levels; `beside`: one that lives in the same plan."""
        settings, budgets = self.settings, self.settings.budget_of
        if beside is not None:
            place = beside.level.positions
            space = replace(space, choices={**space.choices, "positions": (place,)},
                            first=tuple({**one, "positions": place} for one in space.first))
        asked = {name: self.gates.threshold(max(budget.over_refusal / 100, SMALLEST))
                 for name, budget in budgets.items()}
        lowest = -1.0 if beside is None else beside.threshold  # no row gets both writes
        least = {name: max(value, lowest) for name, (value, _) in asked.items()}
        writes, notes = self._search(
            opened, space, self.table.risk > min(least.values()),
            lambda table, write: worth(table, write, least, budgets, settings.kl))
        points = rising({name: safer_point(self.table, writes, least[name], budget, settings.kl)
                         for name, budget in budgets.items()})
        if not points:
            raise SearchError("No write keeps any level's budget on the development prompts. Give "
                              "larger --budgets, other --features, or more --trials.")
        return points, {**notes, "least_threshold": least,
                        "small_kinds": {name: small for name, (_, small) in asked.items()}}

    def freer(self, opened: Open, space: Space) -> tuple[Point, dict[str, Any]]:
        """The point that answers most of what is safe."""
        settings, risk = self.settings, self.table.risk
        budget = settings.budget_of.get(FREER, Budget(0.0, 1.0))

        def point(table: Table, writes: Sequence[Measured]) -> Point | None:
            return freer_point(table, writes, settings.weaken, budget)

        def value(table: Table, write: Measured) -> float:
            found = point(table, [write])
            return -100.0 if found is None else -found.costs.safe

        highest = float(np.quantile(risk[self.table.of("unsafe")], LOWEST))
        writes, notes = self._search(opened, space, risk <= highest, value)
        found = point(self.table, writes)
        if found is None:
            raise SearchError("No write keeps unsafe refusal within --weaken on the development "
                              "prompts. Give a larger --weaken, or more --trials.")
        return found, notes

    def _search(self, opened: Open, space: Space, needed: np.ndarray,
                value: Callable[[Table, Measured], float],
                ) -> tuple[list[Measured], dict[str, Any]]:
        """The best writes, measured on all rows that are `needed`, and how they were found."""
        keep, trials = thinned(self.table, needed), self.settings.trials
        table = self.table.some(keep)
        part = [p for p, some in zip(self.table.prompts, keep & needed, strict=True) if some]
        tried: list[Tried] = []
        for asked in proposals(space, trials, self.settings.seed):
            levels = [space.level(choice) for choice in asked.choices]
            found = opened.lines(levels, part, "part",
                                 f"writes {len(tried) + 1} to {len(tried) + len(levels)} "
                                 f"of {trials}")
            asked.worth = [value(table, measured(table, level, lines))
                           for level, lines in zip(levels, found, strict=True)]
            tried += zip(asked.choices, levels, asked.worth, strict=True)
        best = _finalists(tried, opened)
        every = [p for p, some in zip(self.table.prompts, needed, strict=True) if some]
        lines = opened.lines([level for _, level, _ in best], every, "all", "the best of them")
        writes = [measured(self.table, level, mine, self._kl(opened, level, needed))
                  for (_, level, _), mine in zip(best, lines, strict=True)]
        return writes, {"trials": [{"choice": dict(choice), "worth": worth}
                                   for choice, _, worth in tried],
                        "finalists": [{"choice": dict(choice), "worth": worth}
                                      for choice, _, worth in best]}

    def _kl(self, opened: Open, level: Level, needed: np.ndarray) -> dict[str, float]:
        """Nats by which the first token moves on neutral prompts that may fire."""
        some = [p for p, keep in zip(self.table.prompts, self.table.neutral & needed, strict=True)
                if keep]
        engine = self.bench.engine
        if not some or not level.edits or not isinstance(engine, TransformersEngine):
            return {}
        plan = Plan(opened.sae, level.edits, "threshold", level.positions, cap=level.cap)
        values = self.bench.folder.once(f"kl-{opened.key(level)}", lambda: first_token_kl(
            engine, [p.request for p in some], plan))
        return {p.request.sha256: kl for p, kl in zip(some, values, strict=True)}


def thinned(table: Table, needed: np.ndarray) -> np.ndarray:
    """[row]: all rows of a kind, but where more than PART of it are needed every so-many-th, so
    that the kept rows are like all."""
    keep = np.ones(len(table.prompts), dtype=bool)
    order = np.array([p.request.sha256 for p in table.prompts]).argsort()
    for kind in ("unsafe", "safe", "capability"):
        mine = table.of(kind)
        every = -(-int((mine & needed).sum()) // PART)
        if every > 1:
            rows = order[mine[order]]
            keep[rows] = np.arange(len(rows)) % every == 0
    return keep


def _finalists(tried: Sequence[Tried], opened: Open) -> list[Tried]:
    """The best writes, each once."""
    out: dict[str, Tried] = {}
    for one in sorted(tried, key=lambda one: -one[2]):
        if one[1].edits:
            out.setdefault(opened.key(one[1]), one)
    return list(out.values())[:FINALISTS]
