"""Sets of edits, grown on the search prompts: greedily, and by a beam.

    pool     clamps of the best features of the grid; ablations of features that stand out where
             the goal is not shown, and of those that see harm
    greedy   the edit that adds most to D is added, again and again
    beam     the same, but the best few sets of each size are carried on

From two members up, as long as a member adds anything. Beside a set stand each of its members
alone, and all that it raises and all that it lowers alone.
"""

from collections.abc import Sequence
from typing import Any

from sternpost.sae import SAE
from sternpost.store import Sample, rates_of
from sternpost.trials.bench import Bench, Trial
from sternpost.trials.find import Search, clamp_value, d_points
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Ablate, Clamp, Plan

Entry = dict[str, Any]
Edit = Clamp | Ablate
RAISED, LOWERED = 8, 2
"""Features that sets are built from: raised, and lowered of each kind."""
GENTLY = 1.0
"""Clamp of a set's member, in multiples of its high activation: together they push further."""


def trial(sae: SAE, edits: Sequence[Edit], settings: RunSettings, part: str) -> Trial:
    """The trial of some edits on a part of the prompts."""
    name = "-".join(f"{type(e).__name__}{e.feature}" + (f"at{e.value!r}" if isinstance(e, Clamp)
                                                        else "") for e in edits)
    plan = Plan(sae, tuple(edits), settings.mode, settings.positions,  # type: ignore[arg-type]
                settings.error)  # type: ignore[arg-type]
    alone = edits[0] if len(edits) == 1 else None
    return Trial(f"set-{part}-{name}", "set", plan, getattr(alone, "feature", None),
                 getattr(alone, "value", None))


def clamps(sae: SAE, features: Sequence[int], multiple: float) -> tuple[Clamp, ...]:
    """Clamps at a multiple of each feature's high activation."""
    return tuple(Clamp(f, clamp_value(sae, f, multiple)) for f in features)


def said(edit: Edit) -> Entry:
    """An edit as features.json has it."""
    return {"edit": type(edit).__name__, "feature": edit.feature,
            **({"value": edit.value} if isinstance(edit, Clamp) else {})}


def edit_of(entry: Entry) -> Edit:
    """And back."""
    return Clamp(entry["feature"], entry["value"]) if entry["edit"] == "Clamp" else \
        Ablate(entry["feature"])


def pool_of(sae: SAE, methods: dict[str, list[Entry]], lowered: Sequence[Sequence[Entry]],
            ) -> list[Edit]:
    """What sets are built from: the grid's best by D, raised; the best of each list, lowered."""
    best = sorted(methods["causal_grid"], key=_d, reverse=True)[:RAISED]
    down = dict.fromkeys(entry["feature"] for some in lowered for entry in some[:LOWERED])
    return [*clamps(sae, [e["feature"] for e in best], GENTLY), *map(Ablate, down)]


def _d(entry: Entry) -> float:
    found = entry.get("discrimination")
    return float(found["points"]) if found else float("-inf")


class Sets:
    """The search for sets, on one bench; what was measured once is known."""

    def __init__(self, bench: Bench, sae: SAE, search: Search, settings: RunSettings) -> None:
        self.bench, self.sae, self.search, self.settings = bench, sae, search, settings
        self.known: dict[frozenset[Edit], list[Sample]] = {frozenset(): search.baseline}

    def measure(self, some: Sequence[Sequence[Edit]], what: str) -> None:
        """Asks for the replies under each of these that is not known."""
        new = {frozenset(edits): edits for edits in some if frozenset(edits) not in self.known}
        trials = [trial(self.sae, edits, self.settings, "search") for edits in new.values()]
        lines = self.bench.several(trials, self.search.prompts, what)
        self.known.update(zip(new, lines, strict=True))

    def d(self, edits: Sequence[Edit]) -> float:
        """Discrimination under these, in points."""
        return d_points(self.known[frozenset(edits)])

    def grow(self, pool: Sequence[Edit], width: int, largest: int) -> list[tuple[Edit, ...]]:
        """The best set of each size from 2 up, while a member adds anything to D."""
        beam: list[tuple[Edit, ...]] = [()]
        out: list[tuple[Edit, ...]] = []
        for size in range(1, largest + 1):
            wider = {frozenset((*edits, edit)): (*edits, edit) for edits in beam for edit in pool
                     if edit.feature not in {one.feature for one in edits}}
            if not wider:
                break
            self.measure(list(wider.values()), f"sets of {size}")
            beam = sorted(wider.values(), key=self.d, reverse=True)[:width]
            if size >= 2:
                if out and self.d(beam[0]) <= self.d(out[-1]):
                    break
                out.append(beam[0])
        return out

    def entry(self, edits: Sequence[Edit], how: str) -> Entry:
        """A set as features.json has it, with its members and its two sides alone."""
        sides = {"raised": [e for e in edits if isinstance(e, Clamp)],
                 "lowered": [e for e in edits if isinstance(e, Ablate)]}
        self.measure([*([edit] for edit in edits), *(s for s in sides.values() if s)],
                     "each alone")
        mixed = all(sides.values())
        return {"search": how, "features": [edit.feature for edit in edits],
                "edits": [said(edit) for edit in edits], "score": self.d(edits),
                **rates_of(self.known[frozenset(edits)]),
                "alone": [{**said(edit), "score": self.d([edit])} for edit in edits],
                **{name: rates_of(self.known[frozenset(side)]) if mixed else None
                   for name, side in sides.items()}}


def find_sets(sets: Sets, pool: Sequence[Edit], largest: int, width: int) -> list[Entry]:
    """Greedy and beam, best D first."""
    found = [sets.entry(edits, "greedy") for edits in sets.grow(pool, 1, largest)]
    had = {frozenset(entry["features"]) for entry in found}
    found += [sets.entry(edits, "beam") for edits in sets.grow(pool, width, largest)
              if frozenset(edit.feature for edit in edits) not in had]
    return sorted(found, key=lambda entry: -entry["score"])
