"""The best feature of each method, and the best set, on prompts on which nothing was chosen."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from sternpost.jobs.bench import Bench, Trial
from sternpost.jobs.feature_sets import Edit, clamps, edit_of, said, trial
from sternpost.jobs.find import GRID
from sternpost.jobs.run_settings import RunSettings
from sternpost.sae import SAE
from sternpost.store import Sample, change, rates_of
from sternpost.types import LabelledPrompt

Entry = dict[str, Any]
EACH = 12
"""Features that each method has clamped, at most."""
COMMON = 5
"""Features that two methods must both list for their ranks to be compared."""


def tried(methods: dict[str, list[Entry]]) -> dict[int, list[str]]:
    """The best features of every method, each with the methods that name it."""
    out: dict[int, list[str]] = {}
    for name, entries in methods.items():
        for entry in entries[:EACH]:
            out.setdefault(entry["feature"], []).append(name)
    return out


def confirm(bench: Bench, sae: SAE, methods: dict[str, list[Entry]], sets: Sequence[Entry],
            asked: tuple[Sequence[LabelledPrompt], RunSettings],
            ) -> tuple[dict[str, Any], dict[str, list[Sample]]]:
    """What features.json has under `confirmed`, and the lines of each condition; the best set
    against the paper's feature, paired, and called better only where the interval excludes 0."""
    prompts, settings = asked
    lines = {"baseline": bench.lines(Trial("test-baseline", "baseline"), prompts)}
    plans: dict[str, tuple[Edit, ...]] = {
        name: clamps(sae, [best_of(name, methods)], GRID) for name, entries in methods.items()
        if entries}
    if sets:
        plans["set"] = tuple(edit_of(entry) for entry in sets[0]["edits"])
        if sets[0]["raised"]:
            plans |= {side: tuple(e for e in plans["set"] if said(e)["edit"] == kind)
                      for side, kind in (("set raised", "Clamp"), ("set lowered", "Ablate"))}
    out: dict[str, Any] = {"baseline": rates_of(lines["baseline"])}
    before = _before(methods, sets)
    trials = [trial(sae, edits, settings, "test") for edits in plans.values()]
    bench.several(list({t.key: t for t in trials}.values()), prompts, "confirming")
    for (name, edits), each in zip(plans.items(), trials, strict=True):
        mine = bench.several([each], prompts, name)[0]
        lines[name] = [{**line, "condition": name} for line in mine]
        out[name] = {"edits": [said(edit) for edit in edits], "search": before(name, edits),
                     **rates_of(mine),
                     "change": change(lines["baseline"], mine)}
    if "set" in lines and "paper" in lines:
        gap = change(lines["paper"], lines["set"])["discrimination"]
        out["set_against_paper"] = gap and {**gap, "better": gap["low"] > 0}
    return out, lines


def _before(methods: dict[str, list[Entry]],
            sets: Sequence[Entry]) -> Callable[[str, Sequence[Edit]], Entry | None]:
    """What the edits of a condition did on the search prompts, where that was measured."""
    grid = {entry["feature"]: entry for entry in methods["causal_grid"]}

    def find(name: str, edits: Sequence[Edit]) -> Entry | None:
        parts = {"set": lambda: sets[0], "set raised": lambda: sets[0]["raised"],
                 "set lowered": lambda: sets[0]["lowered"]}
        entry = parts[name]() if name in parts else grid.get(edits[0].feature)
        return entry and {rate: entry[rate] for rate in (
            "unsafe_refusal", "over_refusal", "discrimination")}

    return find


def best_of(name: str, methods: dict[str, list[Entry]]) -> int:
    """A method's best feature: of those that it had clamped, the one of the highest D; of the grid
    the one that brings most about."""
    if name == "causal_grid":
        return methods[name][0]["feature"]
    d = {entry["feature"]: (entry["discrimination"] or {}).get("points", float("-inf"))
         for entry in methods["causal_grid"]}
    mine = [e["feature"] for e in methods[name][:EACH] if e["feature"] in d]
    return max(mine, key=lambda f: d[f]) if mine else methods[name][0]["feature"]


def agreement(methods: dict[str, list[Entry]], d_sae: int) -> dict[str, float]:
    """Spearman's rank correlation of each pair of methods, over the features that both list."""
    out = {}
    names = [name for name, entries in methods.items() if entries]
    for at, one in enumerate(names):
        for other in names[at + 1:]:
            scores = np.full((2, d_sae), np.nan)
            for row, name in zip(scores, (one, other), strict=True):
                for entry in methods[name]:
                    row[entry["feature"]] = entry["score"]
            listed = ~np.isnan(scores).any(0)
            if listed.sum() >= COMMON and all(len(set(row[listed])) > 1 for row in scores):
                found: Any = spearmanr(*scores[:, listed])
                out[f"{one}/{other}"] = float(found.statistic)
    return out
