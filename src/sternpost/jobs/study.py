"""A study: a recipe with a table a stage, such as the paper from end to end, and its one table.

    train      an SAE of one layer                               DIR/train
    run        which feature makes it refuse; how strongly       DIR/prompts, DIR/run
    control    the feature of a harmless topic, a random one     DIR/control
    evaluate   the benchmarks: the feature at each of clamps,    DIR/eval/COLUMN
               the SAE alone where it takes the stream's place,
               both controls; the baseline once for all          DIR/eval/baseline
    table      all of it side by side                            DIR/results.json, DIR/table.txt

Each stage is a run of its own, which goes on where it was; a finished one is not done again. With
other settings the study begins again (--force) at the first stage that they concern. Covered: one
model, one layer. Not covered: several processes; train with torchrun into DIR/train before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from sternpost.errors import InputError
from sternpost.files import (
    canonical_json,
    read_json,
    remove_folder,
    sha256_file,
    write_json,
    write_text,
)
from sternpost.jobs.evaluate import evaluated
from sternpost.jobs.result import RunResult
from sternpost.jobs.train import train_recipe
from sternpost.report.study import study_text
from sternpost.store import RunFolder, at_work, open_run_folder
from sternpost.study.control import controls
from sternpost.study.missing import look
from sternpost.study.plan import SPLICED, StudyPlan, known_shape, plan_study
from sternpost.study.prompts import asked, benchmarks, write_prompts
from sternpost.study.settings import Study
from sternpost.trials.dry_run import RunPlan
from sternpost.trials.progress import Watch
from sternpost.trials.run_settings import RunSettings

STAGES = {"train": ("train",), "run": ("prompts", "run"), "control": ("control",),
          "evaluate": ("eval",)}
"""Stage -> its folders. Each builds on those before it."""
Tell = Callable[[RunSettings, Watch], RunResult | RunPlan]


@dataclass(frozen=True)
class StudyResult:
    """A finished study."""

    path: Path
    results: dict[str, Any] = field(repr=False)
    """results.json"""

    @property
    def reports(self) -> list[Path]:
        """The pages of its stages."""
        names = ["train", "run", *(f"eval/{one['name']}" for one in self.results["columns"])]
        pages = [self.path / name / "report.html" for name in names]
        return [page for page in pages if page.is_file()]

    def to_pandas(self) -> Any:
        """A row a benchmark and metric, a column a column of the table."""
        import pandas as pd  # heavy: only for who asks

        runs = self.results["runs"]
        return pd.DataFrame([
            {"suite": suite, "metric": metric, **{
                name: (some.get(suite) or {}).get(metric) for name, some in runs.items()}}
            for suite, metrics in runs["baseline"].items() for metric in metrics
            if metric != "why"])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


def studied(study: Study, watch: Watch, tell: Tell) -> StudyResult | StudyPlan:
    """The study, with somebody watching. `tell`: the story of a run (`pipeline.tell`)."""
    asked(study)  # or there is nothing to evaluate on
    if study.top.dry_run:
        return plan_study(study)
    identity, path = study.identity(), study.top.folder
    if not _finished(path, identity) or study.top.force:
        _check(study)
    for name in _stale(path, identity) if study.top.force else ():
        remove_folder(path / name)
    folder = open_run_folder(path, identity, study.top.resume, study.top.force)
    with at_work(folder, lambda: any((path / name).is_dir() for name in _folders())):
        if not folder.finished:
            _Studying(study, folder, watch).run(tell)
    return StudyResult(path, read_json(path / "results.json"))


def _check(study: Study) -> None:
    """Raises InputError that names all that a study cannot start without."""
    shape = known_shape(study)
    if stops := look(study, shape.parameters if shape else None).stops:
        raise InputError("\n".join([
            "This study cannot start. What is missing:", *(f"  {lack.what}" for lack in stops),
            "Data files go below --set data=DIR or STERNPOST_DATA=DIR. With --dry-run all that is "
            "missing is printed, with hours and memory."]))


def _known(path: Path) -> Mapping[str, Any] | None:
    file = path / "run.json"
    return read_json(file).get("identity") if file.is_file() else None


def _finished(path: Path, identity: Mapping[str, Any]) -> bool:
    known = _known(path)
    return known is not None and canonical_json(known) == canonical_json(identity) \
        and (path / "results.json").is_file()


def _folders() -> list[str]:
    return [name for names in STAGES.values() for name in names]


def _stale(path: Path, identity: Mapping[str, Any]) -> list[str]:
    """Folders to begin again: all, or those from the first stage on that is asked for otherwise. A
    column of other clamps replaces none."""
    known = _known(path)
    if known is None or known.get("verb") != "study":
        return []  # not a study's: what is in there is not ours
    if known == identity:
        return _folders()
    differ = [name for name in STAGES if known.get(name) != identity[name]]
    return [folder for name, folders in STAGES.items() for folder in folders
            if differ and list(STAGES).index(name) >= list(STAGES).index(differ[0])]


class _Studying:
    """The work of one study."""

    def __init__(self, study: Study, folder: RunFolder, watch: Watch) -> None:
        self.study, self.folder, self.watch = study, folder, watch

    def run(self, tell: Tell) -> None:
        """All of it, in order."""
        study, watch = self.study, self.watch
        if study.train is not None:
            with watch.stage("train", "[1/4] The SAE"):
                train_recipe(study.train, self._within())
        with watch.stage("run", "[2/4] The feature, and how strongly to clamp it"):
            found = tell(write_prompts(study), self._within())
            assert isinstance(found, RunResult)
        with watch.stage("control", "[3/4] What it is compared with"):
            control = controls(study, found.results["feature"], self._within())
        columns = self._columns(found.results["feature"], control)
        with watch.stage("evaluate", "[4/4] The benchmarks"):
            for column in columns:
                watch.note(f"column {column['name']}")
                evaluated(asked(study).column(column["name"], column["feature"],
                                              column["value"]), self._within(),
                          self.folder.path / "eval" / "baseline")
        self._write(found, control, columns)

    def _within(self) -> Watch:
        """A stage keeps the times of its own stages."""
        return Watch(self.watch.console, self.watch.explained)

    def _columns(self, feature: int, control: Mapping[str, Any]) -> list[dict[str, Any]]:
        top = self.study.top
        at = top.controls_at
        columns = [{"name": f"clamp-{value:g}", "kind": "clamp", "feature": feature,
                    "value": value} for value in top.clamps]
        if self.study.evaluate.error == "drop":
            columns.append({"name": SPLICED, "kind": SPLICED, "feature": None, "value": None})
        if control["feature"] is not None:
            columns.append({"name": f"{top.topic}-{at:g}", "kind": top.topic,
                            "feature": control["feature"], "value": at})
        columns.append({"name": f"random-{at:g}", "kind": "random",
                        "feature": control["random"], "value": at})
        return columns

    def _write(self, found: RunResult, control: Mapping[str, Any],
               columns: list[dict[str, Any]]) -> None:
        """The study's files; results.json last, for it says that it is finished."""
        path = self.folder.path
        parts = {one["name"]: read_json(path / "eval" / one["name"] / "results.json")
                 for one in columns}
        results = {
            "kind": "study", "model": self.study.top.model, "feature": found.results["feature"],
            "layer": found.results["layer"], "sae": found.results["sae"],
            "control": {key: control[key] for key in ("topic", "feature", "random")},
            "columns": columns, **_side_by_side(parts),
            "left_out": benchmarks(self.study)[2],
            "judge": next(iter(parts.values()))["judge"],
            "warnings": [*(f"run: {text}" for text in found.results["warnings"]),
                         *control["warnings"], *dict.fromkeys(
                text for part in parts.values() for text in part["warnings"])],
            "timing": self.watch.seconds, "provenance": self._provenance(parts)}
        write_text(path / "table.txt", study_text(results))
        write_json(path / "results.json", results)
        self.folder.close()

    def _provenance(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        path = self.folder.path
        files = ["run", "control", *(f"eval/{name}" for name in parts)]
        files += ["train"] if self.study.train is not None else []
        return {"seed": self.study.top.seed,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "hashes": {name: sha256_file(path / name / "results.json") for name in files},
                "versions": {"python": python_version(), **{name: version(name) for name in (
                    "sternpost", "torch", "transformers")}}}


def _side_by_side(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of each column what its evaluation found; the baseline, which they share, once."""
    first = next(iter(parts.values()))
    d = {name: part["discrimination"] for name, part in parts.items()}
    return {
        "suites": {name: {"title": about.get("title", name), "n": about.get("n")}
                   for name, about in first["suites"].items()},
        "runs": {"baseline": first["runs"]["baseline"],
                 **{name: part["runs"]["steered"] for name, part in parts.items()}},
        "paired": {name: part["paired"] for name, part in parts.items()},
        "discrimination": d}
