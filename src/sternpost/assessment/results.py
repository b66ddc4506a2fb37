"""results.json of an evaluation, and its other files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from platform import python_version
from typing import Any

from sternpost.assessment.plan import counts
from sternpost.assessment.subject import Subject
from sternpost.engines.shapes import shape_entry
from sternpost.engines.transformers import TransformersEngine
from sternpost.evaluation import Loaded, changes, fires, grouped, runs
from sternpost.evaluation.attack_success import outcomes
from sternpost.files import write_json, write_jsonl, write_text
from sternpost.report import evaluation_card, render_evaluation
from sternpost.store import Sample
from sternpost.trials.bench import Bench
from sternpost.trials.load import model_hashes, template_sha256
from sternpost.trials.settings import command_of
from sternpost.types import JudgeAccuracy, Plan


@dataclass(frozen=True)
class Counted:
    """What an evaluation found, before it is counted."""

    lines: list[Sample]
    plan: Plan | None
    attacks: dict[str, Any]
    """Of each suite with an attacker: who attacked and judged, and how long."""
    tasks: dict[str, Any]
    costs: dict[str, float | None]
    """Seconds a token of each condition."""
    warnings: list[str]


def write_evaluation(subject: Subject, bench: Bench, loaded: Sequence[Loaded],
                     found: Counted) -> None:
    """All files of a finished evaluation; results.json last, for it says that it is finished."""
    path = bench.folder.path
    results = results_of(subject, bench, loaded, found)
    write_jsonl(path / "samples.jsonl", found.lines)
    lang = subject.settings.lang
    write_text(path / "report.html", render_evaluation(results, found.lines, lang))
    write_text(path / "card.md", evaluation_card(results, lang))
    write_json(path / "results.json", results)
    bench.folder.close()


def results_of(subject: Subject, bench: Bench, loaded: Sequence[Loaded],
               found: Counted) -> dict[str, Any]:
    """The body of results.json."""
    lines = found.lines
    suites = {**{one.suite.name: one.suite.metrics for one in loaded},
              **{name: _counts(about) for name, about in found.tasks.items()}}
    moved, d = changes(suites, lines)
    warnings = [*found.warnings, *_unparsed(lines), *(w for one in loaded for w in one.warnings)]
    return {
        "kind": "eval", "model": subject.model, "shape": shape_entry(_engine(bench).model),
        "lang": subject.settings.lang,
        "steering": {**subject.about, **_plan(found.plan)},
        "suites": {**{one.suite.name: _about(one) for one in loaded},
                   **{name: {**about["about"], "metrics": list(_counts(about))}
                      for name, about in found.tasks.items()}},
        "runs": runs(suites, lines), "paired": moved, "discrimination": d,
        "groups": grouped(suites, lines), "attacks": _attacks(loaded, bench, found),
        "tasks": {name: {k: v for k, v in about.items() if k != "about"}
                  for name, about in found.tasks.items()},
        "judge": judge_entry(bench.judge.name, bench.judge.accuracy),
        "fire": fires(list(suites), lines),
        "cost": {"seconds_per_token": found.costs},
        "unparsed": sum(line["verdict"] == "unparsed" for line in lines),
        "warnings": warnings, "timing": bench.watch.seconds,
        "provenance": _provenance(subject, bench, loaded)}


def _unparsed(lines: Sequence[Sample]) -> list[str]:
    """What was not judged, and why: such replies stay in n and count as not refused."""
    out: list[str] = []
    for name in dict.fromkeys(line["suite"] for line in lines):
        mine = [line for line in lines if line["suite"] == name]
        left = [line for line in mine if line["verdict"] == "unparsed"]
        if left:
            (why, most), = Counter(line["reason"] for line in left).most_common(1)
            out.append(f"{name}: {len(left)} of {len(mine)} replies, both conditions, have no "
                       f"verdict and count as not refused ({most} times: {why}).")
    return out


def _counts(about: Mapping[str, Any]) -> tuple[str, ...]:
    return ("capability",) if about["hits"] else ("score",)


def judge_entry(name: str, accuracy: JudgeAccuracy) -> dict[str, Any]:
    """A judge and its measured error, as results.json has it."""
    share = accuracy.accuracy
    return {"name": name, "accuracy": share.share if share else None,
            "accuracy_interval": share.as_dict() if share else None,
            "kappa": accuracy.kappa, "n": accuracy.n, "data": accuracy.data}


def _plan(plan: Plan | None) -> dict[str, Any]:
    if plan is None:
        return {"layer": None, "positions": None, "mode": None, "error": None}
    return {"layer": plan.sae.hookpoint.layer, "positions": str(plan.where), "mode": plan.mode,
            "error": plan.error}


def _about(one: Loaded) -> dict[str, Any]:
    suite = one.suite
    return {"title": suite.title, "about": suite.about, "licence": suite.licence,
            "url": suite.url, "paper": suite.paper, "files": one.files, "n": counts(one),
            "duplicates": one.duplicates, "leaked": one.leaked, "metrics": list(suite.metrics)}


def _attacks(loaded: Sequence[Loaded], bench: Bench, found: Counted) -> dict[str, Any]:
    """Of each suite with attacks: who attacked, and what its turns came to."""
    out: dict[str, Any] = {}
    for one in loaded:
        name = one.suite.name
        mine = [line for line in found.lines if line["suite"] == name
                and line.get("turn") is not None]
        if not mine:
            continue
        scripted = {"kind": "scripted multi-turn", "attacker": "scripts", "judge": bench.judge.name,
                    "turns": max(line["turn"] for line in mine) + 1, "backtracks": 0,
                    "threshold": None}
        out[name] = {**found.attacks.get(name, scripted), **{
            condition: outcomes([line for line in mine if line["condition"] == condition])
            for condition in ("baseline", "steered")}}
    return out


def _engine(bench: Bench) -> TransformersEngine:
    assert isinstance(bench.engine, TransformersEngine)
    return bench.engine


def _provenance(subject: Subject, bench: Bench, loaded: Sequence[Loaded]) -> dict[str, Any]:
    settings, engine = subject.settings, _engine(bench)
    return {
        "seed": settings.seed,
        "versions": {"python": python_version(), **{name: version(name) for name in (
            "sternpost", "torch", "transformers", "numpy", "scipy")}},
        "hashes": {"model": model_hashes(subject.model, settings.revision),
                   **{one.suite.name: [file["sha256"] for file in one.files] for one in loaded}},
        "command": command_of(settings, "eval"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {"max_new_tokens": subject.max_new_tokens,
                     "dtype": str(engine.model.dtype).removeprefix("torch."),
                     "batch_size": engine.batch_size, "system": engine.template.system,
                     "chat_template_sha256": template_sha256(engine)}}
