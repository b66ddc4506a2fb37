"""The prompts of a study: those that are searched and swept, and those of its benchmarks."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sternpost.errors import InputError
from sternpost.evaluation import Loaded, Source, Suite, load_suites, spread, suite_names
from sternpost.files import write_jsonl
from sternpost.study.settings import Study
from sternpost.trials.load import SHIPPED
from sternpost.trials.run_settings import RunSettings
from sternpost.types import LabelledPrompt

KINDS = ("unsafe", "safe")
ALONE = "no attacker was named: --set evaluate.attacker=openai:MODEL"


def source_of(study: Study) -> Source:
    """Where a study's benchmarks are read from."""
    return Source(study.evaluate.folder, study.evaluate.hub,
                  lambda name: _drawn(name, study.top.seed))


def _drawn(name: str, seed: int) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    return importlib.import_module(SHIPPED[name]).smoke_prompts(seed, set())


def benchmarks(study: Study) -> tuple[list[Suite], list[str], dict[str, str]]:
    """The suites and the tasks of [evaluate], and why others of its suites are left out."""
    suites, tasks = spread(study.evaluate.names)
    tasks = list(dict.fromkeys([*tasks, *study.evaluate.task_names]))
    lone = {one.name: ALONE for one in suites if one.attack and study.evaluate.attacker is None}
    return [one for one in suites if one.name not in lone], tasks, lone


def asked(study: Study) -> Study:
    """The study, [evaluate] naming every benchmark that is run."""
    suites, tasks, lone = benchmarks(study)
    if not lone:
        return study
    if not suites and not tasks:
        raise InputError(f"Nothing is left to evaluate on: {'; '.join(lone.values())}.")
    return replace(study, evaluate=replace(
        study.evaluate, suite=",".join(map(_named, suites)) or None,
        tasks=",".join(tasks) or None))


def _named(suite: Suite) -> str:
    known = suite.name in suite_names()
    return suite.name if known or suite.place is None else str(suite.place / f"{suite.name}.toml")


def searched(study: Study) -> list[Loaded]:
    """The suite that is searched and swept, drawn by the study's seed."""
    suites, _ = spread([study.top.prompts or ""])
    return load_suites(suites, source_of(study), study.top.searched + study.top.swept,
                       study.top.seed)


def write_prompts(study: Study) -> RunSettings:
    """The settings of the run; its prompt files are written where [run] names none."""
    if study.own_prompts:
        return study.run
    prompts = [p for one in searched(study) for p in one.prompts]
    for kind in KINDS:
        mine = [p for p in prompts if p.kind == kind]
        share = study.top.searched / (study.top.searched + study.top.swept)
        first = round(share * len(mine))
        write_jsonl(Path(getattr(study.run, kind)), [
            _row(p, "search" if at < first else "test") for at, p in enumerate(mine)])
    return study.run


def _row(p: LabelledPrompt, split: str) -> dict[str, Any]:
    named = {name: getattr(p, name) for name in ("category", "language", "source", "family")}
    return {"prompt": p.request.text, **{k: v for k, v in named.items() if v}, "split": split}
