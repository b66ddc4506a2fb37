"""`features find`: which features make a model refuse, by seven methods, in one table.

    paper            active on at least 2 tokens of a refusal; score: on how many
    contrast         more active on refused than on answered prompts, on the template's tail;
                     score: Cohen's d, where q <= 0.05
    cc_delta         silent on the same words when the request is wrapped; score: in highs
    diffmean_cosine  cosine of W_dec[f] with the difference in means
    attribution      first-order effect on the logit of a refusal's first token
    output_score     whether pushing it makes the model say what it stands for
    causal_grid      D of clamping it, in points, over search prompts: what counts

The first six propose, and their best are clamped; or those that --feature names. Sets are built
greedily from the best of the grid. The best feature of each method and the best set then answer
the test prompts, on which nothing was chosen.

    DIR/features.json    all of it; DIR/samples.jsonl and search.jsonl: the replies behind it
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, ModelError
from sternpost.features import Candidate, matched_features
from sternpost.files import read_json, write_json, write_jsonl
from sternpost.jobs.bench import Bench, Trial
from sternpost.jobs.dry_run import RunPlan, plan_of
from sternpost.jobs.find import GRID, Search, clamp_value, d_points, grid, refusals
from sternpost.jobs.inputs import Inputs, read_inputs
from sternpost.jobs.progress import Watch
from sternpost.jobs.propose import Entry, Proposals
from sternpost.jobs.run_settings import RunSettings
from sternpost.jobs.sae import obtain_sae
from sternpost.jobs.settings import settings_from, takes
from sternpost.jobs.start import baseline, open_bench, run_folder
from sternpost.sae import SAE
from sternpost.store import Sample, change, is_refusal, rates_of
from sternpost.types import Ablate, Clamp, LabelledPrompt, Plan

FILE = "features.json"
EACH = 12
"""Features that each method has clamped, at most."""
POOL, LOWERED, LARGEST = 8, 2, 4
"""Features that sets are built from, raised and lowered, and members of a set, at most."""
GENTLY = 1.0
"""Clamp of a set's member, in multiples of its high activation: together they push further."""
CONTROLS = 4
COMMON = 5
"""Features that two methods must both list for their ranks to be compared."""


@dataclass(frozen=True)
class FoundFeatures:
    """A finished search."""

    path: Path
    found: dict[str, Any] = field(repr=False)
    """features.json"""

    def to_pandas(self) -> Any:
        """A row a method and feature."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([{"method": method, "rank": rank, **entry}
                             for method, entries in self.found["methods"].items()
                             for rank, entry in enumerate(entries, start=1)])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


@takes(RunSettings)
def features_find(**settings: Any) -> FoundFeatures | RunPlan:
    """Ranks the features that might make a model refuse, by seven methods; builds sets of them.

    Takes what `sternpost run` takes. Raises a SternpostError for bad input.
    """
    return find_features(settings_from(RunSettings, {"no_gate": True, **settings},
                                       "features find"), Watch())


def find_features(settings: RunSettings, watch: Watch) -> FoundFeatures | RunPlan:
    """The search, with somebody watching."""
    if settings.values:
        raise InputError(f"features find clamps every feature at {GRID:g} times its own high "
                         "activation; leave out --values. `sternpost run --feature F --values ...` "
                         "sweeps one.")
    inputs = read_inputs(settings)
    if settings.dry_run:
        return plan_of(settings, inputs)
    with run_folder(settings, inputs, "features find", FILE) as folder:
        if not folder.finished:
            bench, warnings = open_bench(settings, folder, watch)
            _find(bench, inputs, settings, warnings)
        return FoundFeatures(folder.path, read_json(folder.path / FILE))


def _find(bench: Bench, inputs: Inputs, settings: RunSettings, warnings: list[str]) -> None:
    watch = bench.watch
    if not isinstance(bench.engine, TransformersEngine):
        raise ModelError("features find reads a transformers model.")
    with watch.stage("baseline", "What the model says by itself"):
        search, own = baseline(bench, inputs)
        refused = refusals(bench, settings, search)
    with watch.stage("sae", "Its residual stream as sparse features"):
        sae = obtain_sae(bench, inputs, settings, own).sae
    with watch.stage("methods", "What six methods propose"):
        prompts = [*search.prompts, *inputs.splits.gate_fit]
        said = [is_refusal(verdict) for verdict in bench.judge(own)]
        asked = Proposals(bench.engine, sae, list(zip(prompts, own, strict=True)), said)
        methods: dict[str, list[Entry]] = {
            "paper": asked.paper(refused), "contrast": asked.contrast(),
            "cc_delta": asked.cc_delta(), "diffmean_cosine": asked.diffmean_cosine(),
            "attribution": asked.attribution(refused)}
        methods["output_score"] = asked.output_score(list(_tried(methods)))
        harm, answering = asked.harm(), asked.answering()
    with watch.stage("grid", "Which of them make it refuse"):
        tried = [Candidate(f, "given") for f in settings.feature] or [
            Candidate(f, "+".join(names)) for f, names in _tried(methods).items()]
        found = grid(bench, sae, tried, search, settings)
        methods["causal_grid"] = sorted(
            ({**entry, "score": _points(entry)} for entry in found.candidates),
            key=lambda entry: -entry["score"])
        controls = _controls(bench, sae, found.feature, search, settings)
    with watch.stage("sets", "Which of them together"):
        pool = [*_clamps(sae, [e["feature"] for e in methods["causal_grid"][:POOL]], GENTLY),
                *(Ablate(entry["feature"]) for entry in answering[:LOWERED])]
        sets, lines = _sets(bench, sae, pool, search, settings)
    with watch.stage("test", "The best of each on prompts not seen so far"):
        confirmed, tested = _confirmed(bench, sae, methods, sets, (inputs.splits.test, settings))
    path = bench.folder.path
    write_jsonl(path / "search.jsonl", [*found.lines, *lines])
    write_jsonl(path / "samples.jsonl", tested)
    write_json(path / "splits.json", inputs.splits.as_dict(inputs.train))
    write_json(path / FILE, {
        "kind": "features", "model": settings.model, "layer": inputs.at.layer, "goal": "refusal",
        "methods": methods, "sets": sets, "harm": harm, "controls": controls,
        "confirmed": confirmed, "agreement": _agreement(methods, sae.d_sae),
        "warnings": [*warnings, *inputs.warnings, *refused.warnings, *found.warnings],
        "timing": watch.seconds})
    bench.folder.close()


def _tried(methods: dict[str, list[Entry]]) -> dict[int, list[str]]:
    """The best features of every method, each with the methods that name it."""
    out: dict[int, list[str]] = {}
    for name, entries in methods.items():
        for entry in entries[:EACH]:
            out.setdefault(entry["feature"], []).append(name)
    return out


def _points(entry: Entry) -> float:
    found = entry.get("discrimination")
    return float(found["points"]) if found else float("-inf")


def _clamps(sae: SAE, features: Sequence[int], multiple: float) -> tuple[Any, ...]:
    return tuple(Clamp(f, clamp_value(sae, f, multiple)) for f in features)


def _trial(sae: SAE, edits: Sequence[Any], settings: RunSettings, part: str) -> Trial:
    name = "-".join(f"{type(e).__name__}{e.feature}" + (f"at{e.value!r}" if hasattr(e, "value")
                                                         else "") for e in edits)
    plan = Plan(sae, tuple(edits), settings.mode, settings.positions,  # type: ignore[arg-type]
                settings.error)  # type: ignore[arg-type]
    alone = edits[0] if len(edits) == 1 else None
    return Trial(f"set-{part}-{name}", "set", plan, getattr(alone, "feature", None),
                 getattr(alone, "value", None))


def _controls(bench: Bench, sae: SAE, best: int, search: Search,
              settings: RunSettings) -> list[Entry]:
    """Random live features of the best one's density, and the most general feature, clamped."""
    assert sae.stats is not None
    general = int(sae.stats.density.argmax())
    some = matched_features(sae, best, CONTROLS, settings.seed)
    chosen = [(f, "random") for f in some] + [(general, "most_general")]
    trials = [_trial(sae, _clamps(sae, [f], GRID), settings, "control") for f, _ in chosen]
    lines = bench.several(trials, search.prompts, "controls")
    return [{"feature": f, "control": kind, "value": clamp_value(sae, f, GRID),
             **rates_of(mine)} for (f, kind), mine in zip(chosen, lines, strict=True)]


def _sets(bench: Bench, sae: SAE, pool: Sequence[Any], search: Search,
          settings: RunSettings) -> tuple[list[Entry], list[Sample]]:
    """Greedy: the edit of the pool that adds most to D is added, as long as one adds anything.
    Raised are the best features of the grid, lowered those that stand out on answered prompts."""
    chosen: list[Any] = []
    best, kept, sets = d_points(search.baseline), [], []
    while len(chosen) < LARGEST:
        used = {edit.feature for edit in chosen}
        options = [edit for edit in pool if edit.feature not in used]
        trials = [_trial(sae, [*chosen, edit], settings, "greedy") for edit in options]
        lines = bench.several(trials, search.prompts, f"sets of {len(chosen) + 1}")
        scores = [d_points(mine) for mine in lines]
        if not scores or max(scores) <= best:
            break
        at = int(np.argmax(scores))
        best, kept = scores[at], [*kept, *lines[at]]
        chosen.append(options[at])
        sets.append({"features": [edit.feature for edit in chosen],
                     "edits": [_said(edit) for edit in chosen], "score": best,
                     **rates_of(lines[at])})
    return sorted(sets, key=lambda one: -one["score"]), kept


def _said(edit: Any) -> dict[str, Any]:
    return {"edit": type(edit).__name__, "feature": edit.feature,
            **({"value": edit.value} if hasattr(edit, "value") else {})}


def _confirmed(bench: Bench, sae: SAE, methods: dict[str, list[Entry]], sets: Sequence[Entry],
               what: tuple[Sequence[LabelledPrompt], RunSettings],
               ) -> tuple[dict[str, Any], list[Sample]]:
    """The best feature of each method, by the grid where it was tried there, and the best set, on
    test prompts; the set against the paper's feature, paired."""
    prompts, settings = what
    before = bench.lines(Trial("test-baseline", "baseline"), prompts)
    plans = {name: _clamps(sae, [_best(name, methods)], GRID) for name, entries in methods.items()
             if entries}
    if sets:
        plans["set"] = tuple(
            Clamp(e["feature"], e["value"]) if e["edit"] == "Clamp" else Ablate(e["feature"])
            for e in sets[0]["edits"])
    out: dict[str, Any] = {"baseline": rates_of(before)}
    lines, by_name = list(before), {}
    for name, edits in bench.watch.bar(plans.items(), len(plans), "confirming"):
        trial = _trial(sae, edits, settings, "test")
        mine = [{**line, "condition": name} for line in bench.lines(trial, prompts)]
        by_name[name] = mine
        lines += mine
        out[name] = {"edits": [_said(edit) for edit in edits], **rates_of(mine),
                     "change": change(before, mine)}
    if "set" in by_name and "paper" in by_name:
        out["set_against_paper"] = change(by_name["paper"], by_name["set"])["discrimination"]
    return out, lines


def _best(name: str, methods: dict[str, list[Entry]]) -> int:
    """A method's best feature: of those that it had clamped, the one of the highest D."""
    scored = {entry["feature"]: entry["score"] for entry in methods["causal_grid"]}
    mine = [e["feature"] for e in methods[name][:EACH] if e["feature"] in scored]
    return max(mine, key=lambda f: scored[f]) if mine else methods[name][0]["feature"]


def _agreement(methods: dict[str, list[Entry]], d_sae: int) -> dict[str, float]:
    """Spearman's rank correlation of each pair of methods, over the features that both list."""
    out = {}
    names = [name for name, entries in methods.items() if entries]
    for at, one in enumerate(names):
        for other in names[at + 1:]:
            scores = np.zeros((2, d_sae))
            for row, name in zip(scores, (one, other), strict=True):
                for entry in methods[name]:
                    row[entry["feature"]] = max(entry["score"], -1e3)
            listed = (scores != 0).all(0)
            if listed.sum() >= COMMON and all(len(set(row[listed])) > 1 for row in scores):
                out[f"{one}/{other}"] = _rank_correlation(*scores[:, listed])
    return out


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    found: Any = spearmanr(one, other)
    return float(found.statistic)
