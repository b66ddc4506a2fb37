"""`calibrate`: levels, operating points of known cost, and the pack that holds them.

    classifiers prompt classifiers of --classifier, asked once
    gates       every kind fitted, looked at on sources it did not see, the best kept
    writes      what is written where the gate fires: searched with optuna on development prompts,
                inside the sweep engine
    levels      of all writes and thresholds those that stay within each level's budget
    test        baseline, every level and the other methods, once, on prompts not used so far

    DIR/calibration.json    all of it; DIR/samples.jsonl: the test replies; DIR/splits.json
    DIR/pack                the levels; DIR/sae: the SAE
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sternpost.calibration.classifiers import Told, ask, hard_refusal, refused_lines, row_of
from sternpost.calibration.classifiers import warnings_of as told_warnings
from sternpost.calibration.gates import Gates, fit_gates
from sternpost.calibration.inputs import Given, Proposed, given_features, read_calibration
from sternpost.calibration.levels import Point, joined, why_alike
from sternpost.calibration.methods import Methods, Ours, bought, compared
from sternpost.calibration.reads import Read, Reads
from sternpost.calibration.search import FINALISTS, PART, Searching
from sternpost.calibration.settings import FREER, Budget, CalibrateSettings
from sternpost.calibration.writes import Open, Table, freer_space, safer_space
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import ModelError
from sternpost.files import read_json, write_json, write_jsonl
from sternpost.packs.make import Parts, build_calibrated
from sternpost.packs.operating import measure_levels, must_rows
from sternpost.policy import Level
from sternpost.prompts import is_script
from sternpost.sae import SAE
from sternpost.store import Sample, change, rates_of, write_pack
from sternpost.trials.bench import Bench, Trial
from sternpost.trials.dry_run import RunPlan, plan_of
from sternpost.trials.inputs import Inputs
from sternpost.trials.multi_turn import measure_build_ups
from sternpost.trials.progress import Watch
from sternpost.trials.sae import obtain_sae
from sternpost.trials.settings import settings_from, takes
from sternpost.trials.start import baseline, open_bench, run_folder
from sternpost.types import LabelledPrompt, Request

FILE = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """A finished calibration."""

    path: Path
    found: dict[str, Any] = field(repr=False)
    """calibration.json"""

    def to_pandas(self) -> Any:
        """A row a condition on test prompts."""
        import pandas as pd  # heavy: only for who asks

        return pd.json_normalize(self.found["conditions"])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


@takes(CalibrateSettings)
def calibrate(**settings: Any) -> Calibration | RunPlan:
    """Finds levels: writes and thresholds whose cost stays within a budget; writes them as a pack.

    Takes what `sternpost calibrate` takes. Raises a SternpostError for bad input.
    """
    return calibrated(settings_from(CalibrateSettings, settings, "calibrate"), Watch())


def calibrated(settings: CalibrateSettings, watch: Watch) -> Calibration | RunPlan:
    """The calibration, with somebody watching."""
    inputs, given = read_calibration(settings)
    if settings.dry_run:
        return replace(plan_of(settings, inputs), replies=_replies(settings, inputs))
    with run_folder(settings, inputs, "calibrate", FILE) as folder:
        if not folder.finished:
            bench, warnings = open_bench(settings, folder, watch)
            if not isinstance(bench.engine, TransformersEngine):
                raise ModelError("calibrate reads a transformers model.")
            Calibrating(bench, settings, inputs, given).run(warnings)
        return Calibration(folder.path, read_json(folder.path / FILE))


def _replies(settings: CalibrateSettings, inputs: Inputs) -> dict[str, int]:
    """Replies to generate, at most, by stage."""
    search, test = len(inputs.splits.search), len(inputs.splits.test)
    levels = len(settings.budget_of) + 1
    return {"baseline": search + len(inputs.splits.gate_fit),
            "writes": settings.trials * min(search, 3 * PART) + FINALISTS * search,
            "test": (levels + len(settings.other_methods)) * test}


class Calibrating:
    """The work of one calibration."""

    def __init__(self, bench: Bench, settings: CalibrateSettings, inputs: Inputs,
                 given: Given) -> None:
        self.bench, self.settings, self.inputs, self.given = bench, settings, inputs, given
        self.budgets = settings.budget_of

    def run(self, warnings: list[str]) -> None:
        """All of it, in order."""
        known = self._known()
        points, notes = self._points(known)
        levels = {"off": Level(), **{name: point.level for name, point in points.items()}}
        plans = {name: level.plan(known.sae, known.gates.gate) for name, level in levels.items()
                 if level.edits}
        with self.bench.watch.stage("test", "Baseline and every level on prompts not used so far"):
            tested = measure_levels(self.bench, plans, self.tested)
            body = {"build_ups": measure_build_ups(self.bench, {"baseline": None, **plans},
                                                   self.inputs.splits.test),
                    "must": must_rows(self.bench, plans, self.given.must)}
        best = FREER if FREER in points else list(points)[-1]
        others, chosen = self._others(known, best, points[best], tested)
        alike = why_alike(points, known.table)
        body |= {
            "levels": {name: {**level.as_dict(level.directions()),
                              **({"development": points[name].costs.as_dict()}
                                 if name in points else {})} for name, level in levels.items()},
            "gate": known.gates.about, "searched": notes, "methods": chosen, "why_alike": alike,
            "conditions": _conditions({**tested, **others}),
            "against": {"level": best, **compared(
                tested[best], {"baseline": tested["baseline"], **others})},
            "bought": {name: bought(self.bench, tested[name], tested["baseline"], self.requests)
                       for name in plans},
            "warnings": [*warnings, *self.inputs.warnings, *known.gates.warnings,
                         *told_warnings(known.told, self.parts), *self.given.warnings,
                         *([alike] if alike else [])]}
        self._write(known, levels, (tested, others), body)

    @property
    def tested(self) -> list[LabelledPrompt]:
        """Test prompts but for build-ups, which are counted apart."""
        return [p for p in self.inputs.splits.test if p.kind != "unsafe" or not is_script(p)]

    @property
    def requests(self) -> dict[str, Request]:
        """The test prompts' requests, by sha256."""
        return {p.request.sha256: p.request for p in self.inputs.splits.test}

    @property
    def parts(self) -> dict[str, Sequence[LabelledPrompt]]:
        """All prompts, by what they are for."""
        splits = self.inputs.splits
        return {"search": splits.search, "gate_fit": splits.gate_fit,
                "gate_calibration": splits.gate_calibration, "tasks": self.given.tasks,
                "test": self.tested}

    def _told(self) -> list[Told]:
        """What prompt classifiers say: before anything that takes longer."""
        if not self.settings.classifier:
            return []
        with self.bench.watch.stage("classifiers", "What prompt classifiers say"):
            return ask(self.bench, self.settings, self.parts)

    def _known(self) -> "Known":
        """What the model says and reads by itself, and the gate."""
        bench, splits, watch = self.bench, self.inputs.splits, self.bench.watch
        told = self._told()
        with watch.stage("baseline", "What the model says by itself"):
            search, own = baseline(bench, self.inputs)
            tasks = bench.lines(Trial("search-tasks", "baseline"), self.given.tasks)
        with watch.stage("sae", "Its residual stream as sparse features"):
            sae = obtain_sae(bench, self.inputs, self.settings, own).sae
        with watch.stage("gates", "When: gates, looked at on sources they did not see"):
            reads = Reads(bench, {"search": (splits.search, own),
                                  "gate_fit": (splits.gate_fit, own[len(splits.search):]),
                                  "gate_calibration": (splits.gate_calibration, None),
                                  "tasks": (self.given.tasks, None)})
            gates = fit_gates(bench, sae, reads, self.settings)
            here = reads.at(sae.hookpoint)
            gates.about["kinds"] += [row_of(one, here, self.parts, self.settings.seed)
                                     for one in told]
        table = table_of(reads.at(gates.gate.hookpoint), gates, [*search.baseline, *tasks])
        with watch.stage("features", "What may be written"):
            proposed = given_features(bench, self.settings, sae, search,
                                      ([*splits.search, *splits.gate_fit], own), self.given)
        return Known(sae, gates, here, table, proposed, told)

    def _points(self, known: "Known") -> tuple[dict[str, Point], dict[str, Any]]:
        """The operating points, and how they were searched for."""
        aim, watch, proposed = self.settings.aim, self.bench.watch, known.proposed
        points: dict[str, Point] = {}
        notes: dict[str, Any] = {}
        opened = Open(self.bench, known.sae, [proposed.refusal.safe])
        searching = Searching(self.bench, self.settings, known.table, known.gates)
        freer: Point | None = None
        if aim != "safer":
            with watch.stage("freer", "How much: what makes it answer harmless prompts"):
                space = freer_space(proposed.refusal.features, proposed.refusal.safe)
                freer, notes["freer"] = searching.freer(opened, space)
                points[FREER] = freer
        if aim != "freer":
            with watch.stage("safer", "How much: what makes it refuse, within each budget"):
                space = safer_space(known.sae, proposed.raised, proposed.lowered, proposed.first)
                points, notes["safer"] = searching.safer(opened, space, freer)
        if aim == "both":
            assert freer is not None
            points = {name: joined(point, freer) for name, point in points.items()}
        return points, notes

    def _others(self, known: "Known", level: str, point: Point,
                tested: Mapping[str, list[Sample]],
                ) -> tuple[dict[str, list[Sample]], dict[str, Any]]:
        """Test lines of the other methods, and what was chosen for each."""
        lines: dict[str, list[Sample]] = {}
        chosen: dict[str, Any] = {}
        budget = self.budgets.get(level, Budget(0.0, 1.0))
        methods = Methods(self.bench, known.table, known.reads, Ours(
            known.sae, known.gates, point.threshold, known.proposed.raised,
            known.proposed.refusal.every, budget, self.settings.aim == "freer"),
            self.settings.trials)
        for told in known.told:
            name = told.condition
            chosen[name] = {**hard_refusal(told, known.table, known.gates.benign.prompts, budget),
                            "untold": told.untold({"test": self.tested})["test"]}
            lines[name] = refused_lines(told, tested["baseline"], chosen[name]["threshold"])
        for name in self.settings.other_methods:
            with self.bench.watch.stage(name, f"Another method: {name}"):
                lines[name], chosen[name] = methods.measured(name, self.tested,
                                                             tested["baseline"])
        return lines, chosen

    def _write(self, known: "Known", levels: Mapping[str, Level],
               lines: tuple[Mapping[str, Sequence[Sample]], Mapping[str, Sequence[Sample]]],
               body: dict[str, Any]) -> None:
        path, bench, settings, (tested, others) = (self.bench.folder.path, self.bench,
                                                   self.settings, lines)
        splits = replace(self.inputs.splits, search=(*self.inputs.splits.search,
                                                     *self.given.tasks))
        body = {"kind": "calibration", "model": settings.model, "layer": self.inputs.at.layer,
                "aim": settings.aim, "allow_weaken": settings.allow_weaken,
                "budgets": {name: list(budget) for name, budget in self.budgets.items()}, **body,
                "timing": bench.watch.seconds}
        write_jsonl(path / "samples.jsonl", [line for some in (*tested.values(), *others.values())
                                             for line in some])
        write_json(path / "splits.json", splits.as_dict(self.inputs.train))
        assert isinstance(bench.engine, TransformersEngine)
        body["pack"] = write_pack(path / "pack", build_calibrated(
            bench.engine, Parts(known.sae, known.gates.gate, levels), tested, {
                "body": body, "settings": settings, "requests": self.requests,
                "judge": bench.judge, "splits": splits.as_dict()}))
        write_json(path / FILE, body)
        bench.folder.close()


@dataclass(frozen=True)
class Known:
    """What a calibration knows before it searches."""

    sae: SAE
    gates: Gates
    reads: Mapping[str, Read]
    """Where the SAE reads."""
    table: Table
    proposed: Proposed
    told: Sequence[Told]
    """What prompt classifiers say."""


def table_of(reads: Mapping[str, Read], gates: Gates, lines: Sequence[Sample]) -> Table:
    """The development rows: search prompts and tasks, what the model does, and the gate's risk;
    `reads`: where the gate reads."""
    prompts = [*reads["search"].prompts, *reads["tasks"].prompts]
    risk = np.concatenate([gates.gate.risk(reads[name].h).numpy() for name in ("search", "tasks")
                           if len(reads[name].prompts)])
    said = {(line["kind"], line["prompt_sha256"]): line for line in lines}
    mine = [said[p.kind, p.request.sha256] for p in prompts]
    neutral = [p.kind == "capability" or (p.kind == "safe" and p.harm_kind in (None, "none"))
               for p in prompts]
    return Table(prompts, risk, np.array([line["hit"] for line in mine], dtype=bool),
                 np.array([line["verdict"] == "incoherent" for line in mine], dtype=bool),
                 np.array(neutral, dtype=bool))


def _conditions(tested: Mapping[str, Sequence[Sample]]) -> list[dict[str, Any]]:
    """Every condition on test prompts, with its paired change from the baseline."""
    return [{"name": name, **rates_of(lines),
             **({} if name == "baseline" else {"change": change(tested["baseline"], lines)})}
            for name, lines in tested.items()]
