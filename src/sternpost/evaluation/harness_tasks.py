"""Tasks of lm-evaluation-harness: from local files, from a task file of your own, from the Hub.

A benchmark over local files is lm-eval's own task, in its own words, with the data read here: so
its name means what lm-eval means by it. Which files, in which columns: `tasks/known.toml`.
"""

import json
import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sternpost.errors import InputError, PromptFileError
from sternpost.evaluation.harness_files import known
from sternpost.evaluation.harness_settings import TaskSettings
from sternpost.files import sha256_file, write_text

FILES = ("json", "csv", "parquet", "text", "arrow", "pandas")
"""Where a task file's data are local, as `datasets` calls it."""
MODEL = "anatomy"
"""A subject that lm-eval knows."""
SEED = 1234
"""lm-eval's own."""


@dataclass(frozen=True)
class LoadedTask:
    """A task that was asked for, and lm-eval's tasks that it is made of."""

    name: str
    parts: Mapping[str, Any]
    """lm-eval's name of each -> the task."""
    source: str
    """local, file or hub."""
    files: Sequence[Mapping[str, str]] = ()
    """Of each local file: path, sha256."""
    licence: str = ""
    shots: Mapping[str, Path] = field(default_factory=dict)
    """Of each part that reads local files: where its examples would be."""


def family_of(task: str) -> str:
    """recall, reasoning, instructions; "other" for a task that the table does not know."""
    return next((name for name, patterns in known()["families"].items()
                 if any(fnmatch(task, pattern) for pattern in patterns)), "other")


def main_of(task: str, figures: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The (metric, filter) that stands for a task."""
    named = [tuple(main) for pattern, main in known()["main"].items() if fnmatch(task, pattern)]
    return next((one for one in figures if one in named), figures[0])


def counts_hits(task: str, values: Iterable[float]) -> bool:
    """Whether a figure is a hit or none for each document."""
    shares = any(fnmatch(task, pattern) for pattern in known()["shares"]["tasks"])
    return not shares and all(value in (0.0, 1.0) for value in values)


def load_tasks(specs: Sequence[str], settings: TaskSettings, scratch: Path) -> list[LoadedTask]:
    """Each task asked for: a name, a task file, or a folder of such. What other libraries write of
    them goes to `scratch`. Raises InputError or PromptFileError for one that cannot be had."""
    out: list[LoadedTask] = []
    for spec in specs:
        path = Path(spec).expanduser()
        if path.is_dir() or path.suffix in (".yaml", ".yml"):
            out += _from_files(path, settings, scratch)
        elif (found := _local(spec, settings.folder, scratch)) is not None:
            out.append(found)
        elif settings.hub:
            out.append(_from_hub(spec))
        else:
            raise PromptFileError(_missing(spec, settings.folder))
    names = [task.name for task in out]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"Task {twice} is asked for twice. Name every task once.")
    for task in out:
        for name, part in task.parts.items():
            _check_shots(name, part, task.shots.get(name), settings)
    return out


# ---- local benchmark files ----------------------------------------------------------------------

def _local(name: str, folder: Path | None, scratch: Path) -> LoadedTask | None:
    """A benchmark over local files; None where it is none, or they are not there."""
    base, subject = _split(name)
    entry = known()["local"].get(base)
    if entry is None or folder is None:
        return None
    tests = _test_files(entry, folder, subject)
    if not tests:
        return None
    parts: dict[str, Any] = {}
    shots: dict[str, Path] = {}
    files: list[Path] = []
    for which in sorted(tests):
        part = f"{base}_{which}" if which else base
        there = {split: folder / file.format(subject=which)
                 for split, file in entry["files"].items()}
        parts[part] = _build(part, which, entry, there, scratch)
        files += [path for path in there.values() if path.is_file()]
        if split := entry.get("shots"):
            shots[part] = there[split]
    return LoadedTask(name, parts, "local", [
        {"path": path.relative_to(folder).as_posix(), "sha256": sha256_file(path)}
        for path in files], entry["licence"], shots)


def _split(name: str) -> tuple[str, str]:
    """mmlu_anatomy: mmlu and its subject."""
    return ("mmlu", name.removeprefix("mmlu_")) if name.startswith("mmlu_") else (name, "")


def _test_files(entry: Mapping[str, Any], folder: Path, subject: str) -> list[str]:
    """The subjects there are files of; of a benchmark without subjects one empty name."""
    file = next(reversed(entry["files"].values()))
    start, mark, end = file.partition("{subject}")
    paths = sorted(folder.glob(start + (f"{subject or '*'}" if mark else "") + end))
    return [path.name.removesuffix(Path(end).name) if mark else "" for path in paths]


def _build(name: str, subject: str, entry: Mapping[str, Any], files: Mapping[str, Path],
           scratch: Path) -> Any:
    """lm-eval's task, with the data read by `dataset`."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    home = Path(lm_eval.tasks.__file__).parent
    like = home / entry["like"].format(subject=subject)
    foreign = not like.is_file()
    if foreign:  # a subject that lm-eval does not know: in the words of one that it does
        like = home / entry["like"].format(subject=MODEL)
    given = {"reader": entry["reader"], "subject": subject,
             "paths": {split: str(path) for split, path in files.items()}}
    path = scratch / f"{name}.yaml"
    write_text(path, f"include: {json.dumps(str(like))}\ntask: {json.dumps(name)}\n"
                     "custom_dataset: !function sternpost.evaluation.harness_files.dataset\n"
                     f"dataset_kwargs: {json.dumps(given)}\n")
    task = next(iter(TaskManager(include_defaults=False).load([str(path)])["tasks"].values()))
    if foreign:
        task.set_config("task_alias", subject)
        task.set_config("description", task.config.description.replace(
            MODEL, subject.replace("_", " ")))
    return task


def _missing(spec: str, folder: Path | None) -> str:
    base, subject = _split(spec)
    entry = known()["local"].get(base)
    where = folder or Path("DATA")
    if entry is None:
        names = ", ".join(sorted(known()["local"]))
        return (f"Task {spec!r} is no task file, no folder, and none that is read from local files "
                f"({names}). To take lm-eval's own from the Hub, type --hub.")
    files = " and ".join(str(where / file.format(subject=subject or "SUBJECT"))
                         for file in entry["files"].values())
    return (f"Task {spec}: its files are missing: {files}; columns: {entry['columns']}; licence: "
            f"{entry['licence']}. Put them there, and type --data DIR or set STERNPOST_DATA=DIR; "
            "or --hub, which takes lm-eval's own from the Hub.")


# ---- anything else -----------------------------------------------------------------------------

def _from_hub(name: str) -> LoadedTask:
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    if name not in manager.all_tasks:
        near = [one for one in manager.all_tasks if one.startswith(name[:4])][:5]
        raise InputError(f"lm-eval knows no task {name!r}. Near it: {', '.join(near) or 'none'}. "
                         "Type: lm_eval ls tasks")
    return LoadedTask(name, manager.load([name])["tasks"], "hub")


def _from_files(path: Path, settings: TaskSettings, scratch: Path) -> list[LoadedTask]:
    """Every task of a task file, or of the files of a folder."""
    from lm_eval.tasks import TaskManager

    if not path.exists():
        raise InputError(f"There is no task file {path}.")
    manager = TaskManager(include_defaults=False,
                          include_path=path if path.is_dir() else path.parent)
    entries = [manager.task_index[name] for name in manager.all_subtasks]
    entries = [entry for entry in entries
               if path.is_dir() or Path(entry.yaml_path or "").resolve() == path.resolve()]
    if not entries:
        raise InputError(f"{path} defines no task. A task file of lm-eval has the key `task`, and "
                         "where its data are: dataset_path, e.g. json, with data_files in "
                         "dataset_kwargs.")
    for entry in entries:
        if not settings.hub and _fetches(entry.cfg or {}):
            raise InputError(f"Task file {entry.yaml_path} reads the data set "
                             f"{(entry.cfg or {}).get('dataset_path')!r}, which is not local. To "
                             "fetch it, type --hub.")
    with _cached_in(scratch):
        return [LoadedTask(entry.name, manager.load([entry.name])["tasks"], "file", [
            {"path": Path(entry.yaml_path or "").name,
             "sha256": sha256_file(entry.yaml_path or "")}]) for entry in entries]


def _fetches(config: Mapping[str, Any]) -> bool:
    if "class" in config or "custom_dataset" in config:
        return False
    return config.get("dataset_path") not in FILES or "://" in json.dumps(
        config.get("dataset_kwargs"), default=str)


def _check_shots(name: str, task: Any, path: Path | None, settings: TaskSettings) -> None:
    own = task.config.num_fewshot
    shots = own if settings.num_fewshot is None or own == 0 else settings.num_fewshot
    if path is None or not shots:
        return
    there = len(list(task.fewshot_docs() or ())) if path.is_file() else 0
    if there < shots:
        raise PromptFileError(f"Task {name} wants {shots} examples, and {path} has {there}. Put "
                              "them there, or ask for fewer: --num-fewshot 0.")


# ---- what lm-eval does to others ---------------------------------------------------------------

@contextmanager
def _cached_in(folder: Path) -> Iterator[None]:
    """Inside, `datasets` keeps its copies of local files in `folder`."""
    from datasets import config

    before = config.HF_DATASETS_CACHE
    config.HF_DATASETS_CACHE = folder
    try:
        yield
    finally:
        config.HF_DATASETS_CACHE = before


@contextmanager
def seeded() -> Iterator[None]:
    """Inside, the seeds that lm-eval's command line sets; afterwards all is as it was."""
    import torch

    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(0)
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, lm-eval keeps its bars and its advice to itself."""
    import lm_eval.api.task as task

    logger, bar = logging.getLogger("lm_eval"), task.tqdm
    level = logger.level
    logger.setLevel(logging.ERROR)
    task.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        logger.setLevel(level)
        task.tqdm = bar
