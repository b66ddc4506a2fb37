"""What a study lacks, looked for before anything runs: data, packages, keys, weights, a GPU.

Nothing is fetched: what the Hub would be asked for is said, and does not stop a study.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch

from sternpost.errors import InputError, MissingExtra
from sternpost.evaluation import Loaded, Suite, load_suites
from sternpost.evaluation.harness_files import READERS, known
from sternpost.prompts import read_prompts, sample
from sternpost.prompts.files import parts_of
from sternpost.study.control import topic_questions
from sternpost.study.prompts import KINDS, benchmarks, searched, source_of
from sternpost.study.settings import Study
from sternpost.trials.load import folder_of
from sternpost.types import LabelledPrompt

T = TypeVar("T")
KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
SMALL = 500_000_000
"""Parameters of a model that a processor steers in minutes."""


@dataclass(frozen=True)
class Lack:
    """One thing that is not here."""

    what: str
    stops: bool = True
    """Whether the study cannot start without it."""


@dataclass
class Looked:
    """What was found, and what was not."""

    lacks: list[Lack] = field(default_factory=list)
    prompts: dict[str, int] = field(default_factory=dict)
    """Of each suite that is here: its prompts. Of search and test: those of the run."""
    documents: dict[str, int] = field(default_factory=dict)
    """Of each task that is here: its documents."""

    @property
    def stops(self) -> list[Lack]:
        """What the study cannot start without."""
        return [lack for lack in self.lacks if lack.stops]


def look(study: Study, parameters: int | None) -> Looked:
    """What a study would read. `parameters` of its model, where they are known."""
    found = Looked()
    suites, tasks, lone = benchmarks(study)
    found.lacks += [*_weights(study, parameters), *_corpus(study)]
    _prompts(study, found)
    if study.top.control is not None:
        _tried(found, lambda: topic_questions(study))
    for suite in suites:
        if loaded := _suite(study, suite, found):
            found.prompts[suite.name] = len(loaded[0].prompts)
    for task in tasks:
        _task(study, task, found)
    found.lacks += [*_packages(study, tasks), *_services(study)]
    found.lacks += [Lack(f"{name}: {why}; its rows stay empty", stops=False)
                    for name, why in lone.items()]
    found.lacks = list(dict.fromkeys(found.lacks))
    return found


def _weights(study: Study, parameters: int | None) -> Iterator[Lack]:
    name = study.top.model
    folder = folder_of(name, study.top.revision)
    size = f" ({2e-9 * parameters:.1f} GB)" if parameters else ""
    if folder is None or not any(file.suffix in (".safetensors", ".bin")
                                 for file in folder.iterdir()):
        local = name.startswith((".", "/", "~")) or name.count("/") != 1
        yield Lack(f"the weights of {name}{size}: not on this machine" + (
            ". Give a folder that holds them, or a Hub id" if local else
            "; the Hub will be asked for them"), stops=local)
    if not torch.cuda.is_available() and study.top.device in ("auto", "cuda") \
            and (parameters or 0) > SMALL:
        yield Lack(f"a GPU: none is seen, and {name} has {parameters:,} parameters; on "
                   f"{os.cpu_count()} processors every stage takes many times the hours above",
                   stops=False)


def _corpus(study: Study) -> Iterator[Lack]:
    if study.train is None or study.train.activations is not None:
        return
    if not study.train.corpus:
        yield Lack("a corpus to train the SAE on: --set 'train.corpus=[\"FILE\"]'")
    for spec in study.train.corpus:
        path, _ = parts_of(spec)
        if path.startswith("hf:"):
            yield Lack(f"the corpus {path}: the Hub will be asked for it", stops=False)
            if find_spec("datasets") is None:
                yield Lack(str(MissingExtra(f"the corpus {path}", "datasets")))
        elif not Path(path).is_file():
            yield Lack(f"the corpus {path}: there is no such file")


def _prompts(study: Study, found: Looked) -> None:
    """The prompts that are searched and swept."""
    if not study.own_prompts:
        if loaded := _tried(found, lambda: searched(study)):
            n = sum(len(one.prompts) for one in loaded)
            share = study.top.searched / (study.top.searched + study.top.swept)
            found.prompts |= {"search": round(share * n), "test": n - round(share * n)}
        return
    sides: list[Sequence[LabelledPrompt]] = []
    for kind in (*KINDS, "capability"):
        if (spec := getattr(study.run, kind)) is not None and not spec.startswith("hf:"):
            read = _tried(found, lambda spec=spec, kind=kind: read_prompts(spec, kind))
            if read is not None and kind in KINDS:
                sides.append(sample(read.prompts, study.run.limit, study.run.seed))
    if len(sides) == len(KINDS):
        rows = [p for side in sides for p in side]
        given = all(p.split for p in rows)
        found.prompts |= {name: sum(p.split == name for p in rows) if given else round(
            share * len(rows)) for name, share in (("search", 0.25), ("test", 0.4))}


def _suite(study: Study, suite: Suite, found: Looked) -> list[Loaded] | None:
    limit = study.evaluate.limit
    return _tried(found, lambda: load_suites([suite], source_of(study), limit, study.top.seed))


def _tried(found: Looked, read: Callable[[], T]) -> T | None:
    """What `read` gives; where a file is missing or wrong, that is noted."""
    try:
        return read()
    except InputError as error:
        lines = str(error).splitlines()
        named = [line.strip() for line in lines if line.startswith("  ")]
        found.lacks += [Lack(line) for line in named or [" ".join(lines)]]
        return None


def _task(study: Study, task: str, found: Looked) -> None:
    """The local files of a task of lm-eval; of others nothing is known before they are loaded."""
    base = "mmlu" if task.startswith("mmlu_") else task
    entry, folder = known()["local"].get(base), study.evaluate.folder
    if entry is None:
        return
    subject = task.removeprefix("mmlu_") if base != task else "*"
    *_, file = entry["files"].values()
    paths = [] if folder is None else sorted(folder.glob(file.replace("{subject}", subject)))
    if paths:
        read = _tried(found, lambda: sum(len(READERS[entry["reader"]](path, subject))
                                         for path in paths))
        if read is not None:
            found.documents[task] = read
    elif not study.evaluate.hub:
        files = " and ".join(str((folder or Path("DATA")) / one.replace(
            "{subject}", "SUBJECT" if subject == "*" else subject))
            for one in entry["files"].values())
        found.lacks.append(Lack(f"{task}: {files}; columns: {entry['columns']}; licence: "
                                f"{entry['licence']}; or --set evaluate.hub=true, which takes "
                                "lm-eval's own from the Hub"))


def _packages(study: Study, tasks: Sequence[str]) -> Iterator[Lack]:
    if tasks and (find_spec("lm_eval") is None or find_spec("datasets") is None):
        yield Lack(str(MissingExtra(f"{', '.join(tasks)} of lm-evaluation-harness", "lm-eval")))


def _services(study: Study) -> Iterator[Lack]:
    for role in ("attacker", "judge"):
        name = getattr(study.evaluate, role) or ""
        if name.startswith("openai:") and not (os.environ.get(KEY) or os.environ.get(URL)):
            yield Lack(f"the {role} {name}: neither {KEY} nor {URL} is set")
