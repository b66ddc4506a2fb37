"""Tasks of lm-evaluation-harness in an evaluation: a line a document."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sternpost.assessment.replies import Condition
from sternpost.assessment.settings import EvaluateSettings
from sternpost.errors import MissingExtra
from sternpost.evaluation.harness_settings import TaskSettings
from sternpost.store import Sample
from sternpost.trials.bench import Bench


def task_lines(bench: Bench, tasks: Sequence[str], conditions: tuple[Condition, Condition],
               settings: EvaluateSettings) -> tuple[list[Sample], dict[str, Any], list[str]]:
    """Lines of tasks, what there is to say of each, and warnings. Raises EditError where no edited
    position reaches a scored token."""
    lines: list[Sample] = []
    about: dict[str, Any] = {}
    warnings: list[str] = []
    for task in tasks:
        with bench.watch.stage("tasks", f"Task {task}, as it is and steered"):
            done = {c.name: bench.folder.once(f"task.{_plain(task)}.{c.name}",
                                              lambda c=c, task=task: _run(bench, task, c, settings))
                    for c in conditions if c.plan is not None or c.name == "baseline"}
        done.setdefault("steered", done["baseline"])
        hits = all(one["hits"] for one in done.values())
        lines += [_line(document, task, condition, (done[condition.name], hits))
                  for condition in conditions for document in done[condition.name]["documents"]]
        documents = done["baseline"]["documents"]
        if cut := sum(document["cut"] for document in documents):
            warnings.append(f"Task {task}: {cut} of {len(documents)} documents are longer than the "
                            "model takes and lost their beginning. Give fewer examples: "
                            "--num-fewshot 0.")
        about[task] = {**done["baseline"]["task"], "fire": done["steered"]["fire"],
                       "reach": done["steered"]["reach"],
                       "about": done["baseline"]["about"], "hits": hits}
    return lines, about, warnings


def check_tasks(tasks: Sequence[str], settings: EvaluateSettings) -> None:
    """Raises InputError, PromptFileError or MissingExtra for a task that cannot be had."""
    if not tasks:
        return
    try:
        from sternpost.evaluation.harness_tasks import load_tasks
    except ImportError as error:
        raise MissingExtra("Running tasks of lm-evaluation-harness", "lm-eval") from error
    with TemporaryDirectory(prefix="sternpost-tasks-") as scratch:
        load_tasks(tasks, _settings(settings, 1), Path(scratch))


def _settings(settings: EvaluateSettings, rows: int) -> TaskSettings:
    return TaskSettings(num_fewshot=settings.num_fewshot, limit=settings.limit, batch_size=rows,
                        max_gen_toks=settings.max_new_tokens, data_dir=settings.folder,
                        hub=settings.hub)


def _run(bench: Bench, task: str, condition: Condition,
         settings: EvaluateSettings) -> dict[str, Any]:
    """One task in one condition, as it is kept."""
    from sternpost.evaluation.harness import run_tasks  # lm-eval: an extra

    told = _settings(settings, settings.rows or bench.engine.batch_size)
    done = run_tasks(bench.engine, {condition.name: condition.plan}, [task],  # type: ignore[arg-type]
                     told)
    score, loaded = done.score(condition.name, task), done.tasks[0]
    files = [{**file, "rows": len(score.documents)} for file in loaded.files]
    return {
        "task": {"family": score.family, "num_fewshot": score.num_fewshot, "metric": score.metric,
                 "filter": score.filter, "lm_eval": done.lm_eval, "source": loaded.source},
        "about": {"title": task,
                  "about": f"{score.metric} ({score.family}), lm-eval {done.lm_eval}",
                  "licence": loaded.licence, "url": "", "paper": "", "files": files,
                  "n": {"unsafe": 0, "safe": 0, "capability": len(score.documents), "scripts": 0},
                  "duplicates": 0, "leaked": 0},
        "fire": None if score.fire_rate is None else score.fire_rate.as_dict(),
        "reach": None if score.reach is None else score.reach._asdict(),
        "hits": score.rate is not None,
        "edits": list(condition.edits),
        "documents": [{"part": d.part, "id": d.id, "sha256": d.sha256, "text": d.text,
                       "value": d.value, "hit": d.hit, "fired": d.fired, "cut": d.cut,
                       "reply": d.reply} for d in score.documents]}


def _line(document: Mapping[str, Any], task: str, condition: Condition,
          made: tuple[Mapping[str, Any], bool]) -> Sample:
    done, hits = made
    hit = document["hit"] if hits else None
    return {"condition": condition.name, "value": None, "kind": "capability",
            "prompt": document["text"], "prompt_sha256": document["sha256"], "category": None,
            "language": None, "harm_kind": None, "family": document["part"],
            "cluster": None, "source": task, "feature": None, "risk": None,
            "fired": document["fired"] if condition.plan is not None else None,
            "reply": document["reply"], "verdict": "compliance", "hit": hit,
            "reason": f"{done['task']['metric']}: {document['value']:g}", "suite": task,
            "turn": None, "harmful_turn": None, "kl": None, "judge": "lm-eval",
            "edits": list(condition.edits), "proof": None,
            "score": None if hits else document["value"]}


def _plain(task: str) -> str:
    return Path(task).stem if "/" in task else task
