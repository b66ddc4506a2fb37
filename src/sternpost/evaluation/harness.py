"""Tasks of lm-evaluation-harness on a model, unsteered and steered: what each document scored.

    tasks -> loaded once -> each condition: lm-eval's requests, in SteeredLM -> one Document a
    document, so that conditions are paired by it

Covered: whatever lm-eval scores on a text model, one task at a time, so that no figure depends on
what else was asked for. Not covered: figures that are no mean over documents (perplexities of
whole corpora, F1 of a confusion matrix): named in `left_out`. Overall: the baseline is plain
`--model hf` of the same batch size, to the last digit.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sternpost.errors import InputError, MissingExtra
from sternpost.evaluation.harness_settings import TaskSettings
from sternpost.evaluation.harness_tasks import (
    SEED,
    LoadedTask,
    counts_hits,
    family_of,
    load_tasks,
    main_of,
    quiet,
    seeded,
)
from sternpost.stats import rate
from sternpost.types import Plan, Rate

if TYPE_CHECKING:
    from sternpost.engines.transformers import TransformersEngine
    from sternpost.evaluation.harness_model import SteeredLM
    from sternpost.evaluation.harness_rows import Reach

@dataclass(frozen=True, slots=True)
class Document:
    """What one document of a task scored."""

    part: str
    """lm-eval's name of the task that it is of; of MMLU one a subject."""
    id: int
    """Its place there, from 0."""
    sha256: str
    """Of all its fields: the same in every condition."""
    text: str
    """Its question."""
    value: float
    """What it scored, in the figure's unit."""
    hit: bool | None
    """`value` where the figure is 1 or 0 for every document of every condition, else None."""
    fired: bool | None
    """Whether the gate fired on any of its requests; None without a gate."""
    cut: bool
    """Whether it was too long and lost its beginning."""
    reply: str | None
    """What was generated; None for log-likelihood."""


@dataclass(frozen=True)
class TaskScore:
    """One figure of one task in one condition."""

    condition: str
    task: str
    """As it was asked for."""
    family: str
    """recall, reasoning, instructions or other."""
    metric: str
    filter: str
    """How lm-eval read the replies; "none" where it did not."""
    main: bool
    """Whether this figure stands for the task."""
    higher_is_better: bool
    num_fewshot: int
    documents: tuple[Document, ...] = field(repr=False)
    reach: "Reach | None"
    """How many rows the edits moved when they were tried; None where nothing is written."""

    @property
    def mean(self) -> float:
        """Over documents: lm-eval's own figure of the task."""
        return float(np.mean([document.value for document in self.documents]))

    @property
    def rate(self) -> Rate | None:
        """Hits with their interval; None where the figure counts none."""
        hits = [document.hit for document in self.documents]
        return None if None in hits else rate([bool(hit) for hit in hits])

    @property
    def fire_rate(self) -> Rate | None:
        """On how many documents the gate fired; None without a gate."""
        fired = [document.fired for document in self.documents]
        return None if None in fired else rate([bool(one) for one in fired])


@dataclass(frozen=True)
class TaskRun:
    """Every figure of every task in every condition."""

    scores: tuple[TaskScore, ...]
    tasks: tuple[LoadedTask, ...] = field(repr=False)
    """Where each came from, its files and their licence."""
    left_out: tuple[str, ...]
    """Figures that are no mean over documents, as task/metric."""
    lm_eval: str
    """lm-eval's version."""

    def score(self, condition: str, task: str) -> TaskScore:
        """The figure that stands for `task`."""
        found = [s for s in self.scores if (s.condition, s.task, s.main) == (condition, task, True)]
        if not found:
            raise InputError(f"No task {task!r} was run in condition {condition!r}.")
        return found[0]


def run_tasks(engine: "TransformersEngine", plans: Mapping[str, Plan | None],
              tasks: Sequence[str], settings: TaskSettings | None = None,
              told: Callable[[str, str], None] | None = None) -> TaskRun:
    """What every document of `tasks` scores under each of `plans`; None is the baseline.

    `tasks`: names, lm-eval's task files, or folders of them. `told(task, condition)` is called
    before each is run. Raises InputError, PromptFileError for
    a task that cannot be had, EditError where a plan's edits cannot reach what a task scores,
    MissingExtra.
    """
    settings = settings or TaskSettings()
    try:
        from sternpost.evaluation.harness_model import SteeredLM
    except ImportError as error:
        if (error.name or "").startswith("sternpost"):
            raise
        raise MissingExtra("Running tasks of lm-evaluation-harness", "lm-eval") from error
    with tempfile.TemporaryDirectory(prefix="sternpost-tasks-") as scratch, quiet(), seeded():
        with seeded():
            loaded = load_tasks(tasks, settings, Path(scratch))
        lm = SteeredLM(engine, settings.batch_size, settings.max_length)
        scores: list[TaskScore] = []
        left_out: dict[str, None] = {}
        for task in loaded:
            for condition, plan in plans.items():
                if told is not None:
                    told(task.name, condition)
                lm.steer_by(plan)
                with seeded():
                    found = _evaluated(lm, task, settings)
                scores += _scores(condition, task, found, lm, left_out)
    return TaskRun(tuple(map(_with_hits(scores), scores)), tuple(loaded), tuple(left_out),
                   version("lm_eval"))


def _evaluated(lm: "SteeredLM", task: LoadedTask, settings: TaskSettings) -> Any:
    """lm-eval's own samples of every part, set up as its command line does."""
    from lm_eval.evaluator import evaluate

    for part in task.parts.values():
        own = part.config.num_fewshot
        if own != 0:  # a task that says 0 keeps it
            part.set_config("num_fewshot", settings.num_fewshot
                            if settings.num_fewshot is not None else own or 0)
        if settings.max_gen_toks is not None and part.config.output_type == "generate_until":
            part.set_config("generation_kwargs", {"max_gen_toks": settings.max_gen_toks},
                            update=True)
        part.set_fewshot_seed(seed=SEED)
    found: Any = evaluate(
        lm=lm, task_dict={"tasks": dict(task.parts), "groups": {}, "group_map": {}},
        limit=settings.limit, bootstrap_iters=0, log_samples=True,
        system_instruction=lm.engine.template.system if settings.apply_chat_template else None,
        apply_chat_template=settings.apply_chat_template,
        fewshot_as_multiturn=settings.fewshot_as_multiturn,
        confirm_run_unsafe_code=settings.unsafe_code)
    return found["samples"]


def _scores(condition: str, task: LoadedTask, samples: Mapping[str, Sequence[Any]],
            lm: "SteeredLM", left_out: dict[str, None]) -> list[TaskScore]:
    """Every figure of a task in one condition."""
    from sternpost.evaluation.harness_rows import check_reached

    if lm.plan is not None:
        check_reached(lm.plan, lm.written)
    found: dict[tuple[str, str], list[tuple[str, Any, float]]] = {}
    for part, lines in samples.items():
        over = task.parts[part].aggregation()
        for line in lines:
            for metric in line["metrics"]:
                value = _number(line[metric])
                if value is None or getattr(over.get(metric), "__name__", "") != "mean":
                    left_out[f"{task.name}/{metric}"] = None
                else:
                    found.setdefault((metric, line["filter"]), []).append((part, line, value))
    if not found:
        return []
    main = main_of(task.name, list(found))
    one = next(iter(task.parts.values()))
    reached = [lm.reached[part] for part in task.parts if lm.reached.get(part) is not None]
    out = []
    for (metric, how), rows in found.items():
        out.append(TaskScore(
            condition, task.name, family_of(task.name), metric, how, (metric, how) == main,
            bool(one.higher_is_better().get(metric, True)), one.config.num_fewshot or 0,
            tuple(_document(part, line, value, lm, task.parts[part])
                  for part, line, value in rows),
            _sum(reached)))
    return out


def _with_hits(scores: Sequence[TaskScore]) -> Callable[[TaskScore], TaskScore]:
    """A figure counts hits in every condition or in none."""
    values: dict[Any, list[float]] = {}
    for score in scores:
        values.setdefault((score.task, score.metric, score.filter), []).extend(
            document.value for document in score.documents)
    hits = {key: counts_hits(key[0], found) for key, found in values.items()}

    def counted(score: TaskScore) -> TaskScore:
        if not hits[score.task, score.metric, score.filter]:
            return score
        return replace(score, documents=tuple(replace(document, hit=bool(document.value))
                                              for document in score.documents))

    return counted


def _sum(reached: Sequence[Any]) -> Any:
    if not reached:
        return None
    return reached[0]._replace(moved=sum(r.moved for r in reached), n=sum(r.n for r in reached),
                               pushed=any(r.pushed for r in reached))


def _document(part: str, line: Mapping[str, Any], value: float, lm: "SteeredLM",
              task: Any) -> Document:
    proofs = lm.proofs.get((part, line["doc_id"]), [])
    gated = lm.plan is not None and lm.plan.gate is not None
    question = line["doc"].get("question")
    reply = line["resps"][0][0] if line["resps"] and line["resps"][0] else None
    return Document(
        part, line["doc_id"], line["doc_hash"],
        question if isinstance(question, str) else str(task.doc_to_text(line["doc"])), value,
        None, any(proof.fired for proof in proofs) if gated else None,
        (part, line["doc_id"]) in lm.cut, reply if isinstance(reply, str) else None)


def _number(value: Any) -> float | None:
    """A document's figure; None for what is no number."""
    whole = isinstance(value, bool | int | float | np.number | np.bool_)
    return float(value) if whole else None
