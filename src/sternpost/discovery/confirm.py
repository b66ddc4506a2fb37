"""The best feature of each method, and the best set, on prompts on which nothing was chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from sternpost.discovery.feature_sets import GENTLY, Edit, Sets, clamps, edit_of, said, trial
from sternpost.store import Sample, change, rates_of
from sternpost.trials.bench import Trial
from sternpost.trials.find import GRID
from sternpost.types import Clamp, LabelledPrompt

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


def confirm(growing: Sets, methods: dict[str, list[Entry]], sets: Sequence[Entry],
            prompts: Sequence[LabelledPrompt], others: Mapping[str, tuple[Edit, ...]],
            ) -> tuple[dict[str, Any], dict[str, list[Sample]]]:
    """What features.json has under `confirmed`, and the lines of each condition; the best set
    against the paper's feature, paired, and called better only where the interval excludes 0.

    A feature alone is clamped at the better of two doses by D on the search prompts, so that a set,
    whose members have the lower one, is not better by its dose.
    """
    bench, settings = growing.bench, growing.settings
    lines = {"baseline": bench.lines(Trial("test-baseline", "baseline"), prompts)}
    best = {name: best_of(name, methods) for name, entries in methods.items() if entries}
    growing.measure([clamps(growing.sae, [f], GENTLY) for f in dict.fromkeys(best.values())],
                    "the lower dose")
    plans: dict[str, tuple[Edit, ...]] = {
        name: _dosed(growing, methods, feature, name == "causal_grid")
        for name, feature in best.items()}
    if sets:
        plans["set"] = tuple(edit_of(entry) for entry in sets[0]["edits"])
        if sets[0]["raised"]:
            plans |= {side: tuple(e for e in plans["set"] if said(e)["edit"] == kind)
                      for side, kind in (("set raised", "Clamp"), ("set lowered", "Ablate"))}
    plans |= others
    out: dict[str, Any] = {"baseline": rates_of(lines["baseline"])}
    trials = [trial(growing.sae, edits, settings, "test") for edits in plans.values()]
    bench.several(list({t.key: t for t in trials}.values()), prompts, "confirming")
    for (name, edits), each in zip(plans.items(), trials, strict=True):
        mine = bench.several([each], prompts, name)[0]
        lines[name] = [{**line, "condition": name} for line in mine]
        out[name] = {"edits": [said(edit) for edit in edits],
                     "search": _before(growing, methods, edits), **rates_of(mine),
                     "change": change(lines["baseline"], mine)}
    if "set" in lines and "paper" in lines:
        gap = change(lines["paper"], lines["set"])["discrimination"]
        out["set_against_paper"] = gap and {**gap, "better": gap["low"] > 0}
    return out, lines


def _dosed(growing: Sets, methods: dict[str, list[Entry]], feature: int,
           strong: bool) -> tuple[Clamp, ...]:
    """A feature's clamp at the dose of the better D on search prompts; `strong`: at the grid's."""
    high, low = (clamps(growing.sae, [feature], dose) for dose in (GRID, GENTLY))
    found = _before(growing, methods, high)
    better = found is None or growing.d(low) > found["discrimination"]["points"]
    return low if better and not strong else high


def _before(growing: Sets, methods: dict[str, list[Entry]],
            edits: Sequence[Edit]) -> Entry | None:
    """What the edits did on all search prompts, where that was measured."""
    if frozenset(edits) in growing.known:
        entry = rates_of(growing.known[frozenset(edits)])
    else:
        entry = next((e for e in methods["causal_grid"] if len(edits) == 1
                      and (e["feature"], e["value"]) == (
                          edits[0].feature, getattr(edits[0], "value", None))), None)
    return entry and {rate: entry[rate] for rate in (
        "unsafe_refusal", "over_refusal", "discrimination")}


def best_of(name: str, methods: dict[str, list[Entry]]) -> int:
    """A method's best feature: of its own best that the grid tried on all search prompts the one of
    the highest D, else its first; of the grid the one that brings most about."""
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
