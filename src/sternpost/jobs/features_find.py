"""`features find`: which features bring a behaviour about, by seven methods; sets of them.

The behaviour is refusal, or what `--goal FILE` says (`trials/goal.py`).

    paper            active on >= 2 tokens of a reply that shows it; score: how many
    contrast         more active where it is shown; score: Cohen's d, where q <= 0.05
    cc_delta         silent on the same words when the request is wrapped; score: in highs
    diffmean_cosine  cosine of W_dec[f] with the difference in means
    attribution      integrated gradients on the logit of such a reply's first token
    output_score     whether pushing it makes the model say what it stands for
    causal_grid      how far clamping it raises the behaviour on unsafe search prompts, in points

The first six propose, and their best are clamped; or those that --feature names. Sets are grown
from the best of the grid. The best feature of each method and the best set then answer the test
prompts, on which nothing was chosen: what they do, how the set's members act together, and what
else moves.

    DIR/features.json    all of it; DIR/samples.jsonl and search.jsonl: the replies behind it
    DIR/sae              the SAE
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sternpost.discovery.confirm import EACH, agreement, confirm, tried
from sternpost.discovery.feature_sets import (
    LOWERED,
    RAISED,
    Entry,
    Sets,
    clamps,
    edit_of,
    find_sets,
    pool_of,
    trial,
)
from sternpost.discovery.find_settings import FindSettings
from sternpost.discovery.interactions import MEMBERS, interactions
from sternpost.discovery.propose import Proposals
from sternpost.discovery.side_effects import side_effects
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, ModelError
from sternpost.features import Candidate, matched_features
from sternpost.files import read_json, write_json, write_jsonl
from sternpost.sae import SAE
from sternpost.store import Sample, change, rates_of
from sternpost.trials.bench import Bench
from sternpost.trials.dry_run import RunPlan, plan_of
from sternpost.trials.find import (
    FINALISTS,
    FIRST_PASS,
    GRID,
    Exemplars,
    Found,
    Search,
    also_by_d,
    clamp_value,
    exemplars,
    grid,
)
from sternpost.trials.goal import read_goal
from sternpost.trials.inputs import Inputs, read_inputs
from sternpost.trials.progress import Watch
from sternpost.trials.sae import obtain_sae
from sternpost.trials.settings import settings_from, takes
from sternpost.trials.start import baseline, open_bench, run_folder
from sternpost.types import Completion

FILE = "features.json"
CONTROLS = 4
METHODS = 6
"""Methods that propose."""
FEW = 20
"""Search prompts a side, below which a warning is given."""
SHOWN_EFFECTS = ("paper", "causal_grid", "set")
"""Conditions whose side effects are listed."""


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


@takes(FindSettings)
def features_find(**settings: Any) -> FoundFeatures | RunPlan:
    """Ranks the features that might bring a behaviour about, by seven methods; builds sets.

    Takes what `sternpost run` takes, and `goal`. Raises a SternpostError for bad input.
    """
    return find_features(settings_from(FindSettings, {"no_gate": True, **settings},
                                       "features find"), Watch())


def find_features(settings: FindSettings, watch: Watch) -> FoundFeatures | RunPlan:
    """The search, with somebody watching."""
    if settings.values:
        raise InputError(f"features find clamps every feature at {GRID:g} times its own high "
                         "activation; leave out --values. `sternpost run --feature F --values ...` "
                         "sweeps one.")
    sought = read_goal(settings.goal)
    inputs = read_inputs(settings)
    if settings.dry_run:
        return replace(plan_of(settings, inputs), replies=_replies(settings, inputs))
    if settings.goal is not None:  # the goal is what the file holds, wherever it lies
        settings = replace(settings, goal=sought.goal.name)
        inputs = replace(inputs, hashes={**inputs.hashes, "goal": sought.sha256})
    with run_folder(settings, inputs, "features find", FILE) as folder:
        if not folder.finished:
            bench, warnings = open_bench(settings, folder, watch, sought=sought)
            _find(bench, inputs, settings, warnings)
        return FoundFeatures(folder.path, read_json(folder.path / FILE))


def _replies(settings: FindSettings, inputs: Inputs) -> dict[str, int]:
    """Replies to generate, at most, by stage."""
    search, test = len(inputs.splits.search), len(inputs.splits.test)
    tried, pool = len(settings.feature) or METHODS * EACH, RAISED + 2 * LOWERED
    first = 0 if tried <= FINALISTS else round(FIRST_PASS * search)
    wider = sum(max(pool - size, 0) for size in range(1, settings.largest))
    members = min(settings.largest, MEMBERS)
    pairs = members + members * (members - 1) // 2
    return {"baseline": search + len(inputs.splits.gate_fit),
            "grid": tried * first + min(tried, 2 * FINALISTS) * search,
            "controls": (CONTROLS + 1) * search,
            "sets": (pool + (1 + settings.beam) * wider) * search,
            "test": (1 + METHODS + 1 + 3 + 1 + pairs) * test}


def _find(bench: Bench, inputs: Inputs, settings: FindSettings, warnings: list[str]) -> None:
    watch, goal = bench.watch, bench.sought.goal
    if not isinstance(bench.engine, TransformersEngine):
        raise ModelError("features find reads a transformers model.")
    with watch.stage("baseline", "What the model says by itself"):
        search, own = baseline(bench, inputs)
        shown = exemplars(bench, settings, search)
    with watch.stage("sae", "Its residual stream as sparse features"):
        sae = obtain_sae(bench, inputs, settings, own).sae
    with watch.stage("methods", "What six methods propose"):
        methods, harm, answering = _proposed(bench, sae, inputs, search, (own, shown))
    with watch.stage("grid", f"Which of them bring {goal.name} about"):
        some = [Candidate(f, "given") for f in dict.fromkeys(settings.feature)] or [
            Candidate(f, "+".join(names)) for f, names in tried(methods).items()]
        found = also_by_d(bench, sae, grid(bench, sae, some, search, settings), search, settings)
        every = _ranked(found, search)
        methods["causal_grid"] = every[:found.finalists]
        controls, control_lines = _controls(bench, sae, [e["feature"] for e in every], search,
                                            settings)
    with watch.stage("sets", "Which of them together"):
        growing = Sets(bench, sae, search, settings)
        sets = find_sets(growing, pool_of(sae, methods, (answering, harm)), settings.largest,
                         settings.beam)
    with watch.stage("test", "The best of each on prompts not seen so far"):
        random = {c["control"]: clamps(sae, [c["feature"]], GRID) for c in reversed(controls)
                  if c["control"] == "random"}
        confirmed, tested = confirm(growing, methods, sets, inputs.splits.test, random)
        pairs, paired = interactions(
            bench, sae, [edit_of(e) for e in sets[0]["edits"]] if sets else [],
            tested["baseline"], (inputs.splits.test, settings))
    lines = {"search.jsonl": [*found.lines, *control_lines, *_members(growing)],
             "samples.jsonl": [*(line for each in tested.values() for line in each), *paired]}
    _write(bench, inputs, lines, {
        "kind": "features", "model": settings.model, "layer": inputs.at.layer, "goal": goal.name,
        "about": goal.about, "methods": methods, "first_pass": every[found.finalists:],
        "sets": sets, "harm": harm, "controls": controls,
        "confirmed": confirmed, "interactions": pairs,
        "side_effects": {name: side_effects(tested["baseline"], tested[name])
                         for name in SHOWN_EFFECTS if name in tested},
        "agreement": agreement(methods, sae.d_sae),
        "warnings": [*warnings, *inputs.warnings, *shown.warnings, *found.warnings,
                     *_few(search)],
        "timing": watch.seconds})


def _proposed(bench: Bench, sae: SAE, inputs: Inputs, search: Search,
              said: tuple[list[Completion], Exemplars],
              ) -> tuple[dict[str, list[Entry]], list[Entry], list[Entry]]:
    """The methods' lists; the features that see harm; those that stand out where the goal is not
    shown."""
    own, shown = said
    prompts = [*search.prompts, *inputs.splits.gate_fit]
    assert isinstance(bench.engine, TransformersEngine)
    asked = Proposals(bench.engine, sae, list(zip(prompts, own, strict=True)), bench.shown(own))
    methods: dict[str, list[Entry]] = {
        "paper": asked.paper(shown), "contrast": asked.contrast(), "cc_delta": asked.cc_delta(),
        "diffmean_cosine": asked.diffmean_cosine(), "attribution": asked.attribution(shown)}
    methods["output_score"] = asked.output_score(list(tried(methods)))
    return methods, asked.harm(), asked.answering()


def _ranked(found: Found, search: Search) -> list[Entry]:
    """The grid by how far each clamp raises the behaviour on unsafe prompts; ties by how little it
    does on safe ones."""
    lines: dict[int | None, list[Sample]] = {}
    for line in found.lines:
        lines.setdefault(line["feature"], []).append(line)
    entries = []
    for entry in found.candidates:
        moved = change(search.baseline, lines[entry["feature"]])
        entries.append({**entry, "score": moved["unsafe_refusal"]["points"], "change": moved})
    def worth(entry: Entry) -> tuple[float, float]:
        return -entry["score"], entry["change"]["over_refusal"]["points"]

    # what was tried on part of the prompts is not comparable: it comes after
    whole, part = entries[:found.finalists], entries[found.finalists:]
    return sorted(whole, key=worth) + sorted(part, key=worth)


def _controls(bench: Bench, sae: SAE, tried: Sequence[int], search: Search,
              settings: FindSettings) -> tuple[list[Entry], list[Sample]]:
    """Random live features of the best one's density and norm, none of those that were tried, and
    the most general feature, clamped; and their lines."""
    assert sae.stats is not None
    general = int(sae.stats.density.argmax())
    some = matched_features(sae, tried[0], CONTROLS, settings.seed, but=tried)
    chosen = [(f, "random") for f in some] + [(general, "most_general")]
    trials = [trial(sae, clamps(sae, [f], GRID), settings, "control") for f, _ in chosen]
    lines = bench.several(trials, search.prompts, "controls")
    entries = [{"feature": f, "control": kind, "value": clamp_value(sae, f, GRID),
                **rates_of(mine)} for (f, kind), mine in zip(chosen, lines, strict=True)]
    return entries, [{**line, "condition": f"control {kind}"} for (_, kind), mine in zip(
        chosen, lines, strict=True) for line in mine]


def _few(search: Search) -> list[str]:
    """A warning where sets were chosen on a handful of prompts."""
    sides = {kind: len([line for line in search.baseline if line["kind"] == kind
                        and line["harm_kind"] != "offensive"]) for kind in ("unsafe", "safe")}
    if min(sides.values()) >= FEW:
        return []
    return [f"few prompts: features and sets were chosen on {sides['unsafe']} unsafe and "
            f"{sides['safe']} safe search prompts; under {FEW} a side, D is mostly chance. Give "
            "more prompts, or a higher --limit."]


def _members(growing: Sets) -> list[Sample]:
    """Every line that the sets were chosen by, with the edits in its condition."""
    return [{**line, "condition": "+".join(sorted(f"{type(e).__name__}{e.feature}" for e in edits))}
            for edits, lines in growing.known.items() if edits for line in lines]


def _write(bench: Bench, inputs: Inputs, lines: Mapping[str, list[Sample]],
           body: dict[str, Any]) -> None:
    path = bench.folder.path
    for name, some in lines.items():
        write_jsonl(path / name, some)
    write_json(path / "splits.json", inputs.splits.as_dict(inputs.train))
    write_json(path / FILE, body)
    bench.folder.close()
