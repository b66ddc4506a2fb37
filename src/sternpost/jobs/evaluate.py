"""`eval`: what a model does on benchmarks, as it is and steered, paired by prompt.

    suites       prompts of both kinds, build-ups, tasks: read, checked against what was fitted on
    baseline     what the model says by itself; the judge's limits are fitted to it
    steered      what it says under the pack's level, or the clamps
    attacks      an attacker of its own, where a suite asks for one
    tasks        lm-evaluation-harness, on the same model in both conditions

    DIR/results.json  DIR/samples.jsonl  DIR/report.html  DIR/card.md
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sternpost.assessment.attacks import Attackers, attack_lines, attackers_of
from sternpost.assessment.judge import Judging
from sternpost.assessment.judges import name_of
from sternpost.assessment.plan import EvaluationPlan, plan_evaluation
from sternpost.assessment.prompts import prompts_of
from sternpost.assessment.replies import Condition, Group, groups_of, lines_of, replies, speed
from sternpost.assessment.results import Counted, write_evaluation
from sternpost.assessment.settings import EvaluateSettings
from sternpost.assessment.subject import Subject, conditions_of, subject_of
from sternpost.assessment.tasks import check_tasks, task_lines
from sternpost.evaluation import Loaded, spread
from sternpost.files import canonical_json, read_json, read_jsonl, sha256_text
from sternpost.store import RunFolder, Sample, at_work, open_run_folder
from sternpost.trials.bench import Bench
from sternpost.trials.load import model_hashes, sae_sha256
from sternpost.trials.progress import Watch
from sternpost.trials.settings import settings_from, takes
from sternpost.types import Clamp, Completion, Sampling


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation."""

    path: Path
    results: dict[str, Any] = field(repr=False)
    """results.json"""

    @property
    def samples(self) -> list[Sample]:
        """The lines of samples.jsonl."""
        return read_jsonl(self.path / "samples.jsonl")

    def to_pandas(self) -> Any:
        """A row a suite and metric: both conditions, and the change."""
        import pandas as pd  # heavy: only for who asks

        runs, paired = self.results["runs"], self.results["paired"]
        return pd.json_normalize([
            {"suite": suite, "metric": metric, "baseline": runs["baseline"][suite][metric],
             "steered": runs["steered"][suite][metric], "change": change}
            for suite, metrics in paired.items() for metric, change in metrics.items()
            if metric != "why"])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


@takes(EvaluateSettings)
def evaluate(**settings: Any) -> "Evaluation | EvaluationPlan":
    """Measures a model on benchmarks, unsteered and steered.

    Takes what `sternpost eval` takes; `judge` may be an object that judges, and `clamp` hold
    `Clamp`s. Raises a SternpostError for bad input, LeakageError where a prompt was fitted on.
    """
    judge, clamp = settings.get("judge"), settings.get("clamp")
    if judge is not None:
        settings = {**settings, "judge": name_of(judge)}
    if clamp is not None:
        some = [clamp] if isinstance(clamp, str | Clamp) else clamp
        settings = {**settings, "clamp": [f"{one.feature}={one.value!r}" if isinstance(
            one, Clamp) else one for one in some]}
    return evaluated(settings_from(EvaluateSettings, settings, "eval"), Watch(), judge=judge)


def evaluated(settings: EvaluateSettings, watch: Watch,
              baseline: Path | None = None, judge: Any = None) -> "Evaluation | EvaluationPlan":
    """The evaluation, with somebody watching. `baseline`: where what the unsteered model did is
    kept and looked for, by evaluations that differ in nothing but what is steered. `judge`: the
    object that the settings' judge names."""
    settings.check_services()
    subject = subject_of(settings)
    judging = Judging(settings, subject.pack, judge)
    suites, tasks = spread(settings.names)
    tasks = list(dict.fromkeys([*tasks, *settings.task_names]))
    loaded = prompts_of(settings, subject, suites)
    who = attackers_of(settings, loaded)
    check_tasks(tasks, settings)
    plan = plan_evaluation(subject, loaded, tasks, who)
    if settings.dry_run:
        return plan
    identity = _identity(settings, subject, loaded)
    folder = open_run_folder(Path(settings.out), identity, settings.resume, settings.force)
    folder.baseline = baseline
    with at_work(folder):
        if not folder.finished:
            for line in plan.lines():
                watch.note(line)
            _Evaluating(subject, loaded, tasks, (folder, watch, who), judging).run()
    return Evaluation(folder.path, read_json(folder.path / "results.json"))


def _identity(settings: EvaluateSettings, subject: Subject,
              loaded: Sequence[Loaded]) -> dict[str, Any]:
    """What makes this run another than others: a data folder is known by what was read of it."""
    body = {key: value for key, value in settings.identity().items() if key != "data"}
    known = {"pack": None if subject.pack is None else subject.pack.files.sha256,
             "model": model_hashes(subject.model, settings.revision),
             "sae": None if subject.sae is None else sae_sha256(subject.sae)}
    return {**body, "verb": "eval", "hashes": known,
            "files": {one.suite.name: one.files for one in loaded},
            "suites": {one.suite.name: sha256_text(canonical_json(
                asdict(replace(one.suite, place=None)))) for one in loaded}}


def _too_long(engine: Any, own: Sequence[Completion]) -> list[str]:
    """That prompts leave no room for a reply in the model's context, where some do."""
    context = getattr(engine.model.config.get_text_config(), "max_position_embeddings", None)
    long = [c for c in own if context is not None and len(c.prompt_ids) >= context]
    if not long:
        return []
    return [f"{len(long)} of {len(own)} prompts are as long as the model's context of {context} "
            f"tokens or longer, e.g. {long[0].request.text[:60]!r}: what it says to them is no "
            "measure of refusal. They are counted as they were judged."]


class _Evaluating:
    """The work of one evaluation."""

    def __init__(self, subject: Subject, loaded: Sequence[Loaded], tasks: Sequence[str],
                 work: tuple[RunFolder, Watch, Attackers], judging: Judging) -> None:
        self.subject, self.loaded, self.tasks = subject, loaded, tasks
        self.folder, self.watch, self.who = work
        self.judging = judging

    def run(self) -> None:
        """All of it, in order."""
        watch, settings = self.watch, self.subject.settings
        with watch.stage("load", f"Loading {self.subject.model}"):
            engine, plan, warnings = self.subject.load()
        judging = self.judging
        bench = Bench(engine, judging.judge, Sampling(self.subject.max_new_tokens), self.folder,
                      watch)
        base, steered = conditions_of(plan)
        groups = self._groups(bench)
        with watch.stage("baseline", "What the model says by itself"):
            own = self._said(bench, groups, base)
            bench.judge = judging.fitted(bench, own)
            lines = self._lines(bench, groups, base, judging)
        with watch.stage("steered", "What it says steered"):
            lines += self._steered(bench, groups, (steered, judging), lines)
        costs = {c.name: speed(bench, groups, c) for c in (base, steered if plan else base)}
        warnings = [*warnings, *_too_long(engine, own)]
        attacks, told, left = attack_lines(bench, self.loaded, (base, steered), self.who)
        more, about, cut = task_lines(bench, self.tasks, (base, steered), settings)
        lines += [*attacks, *more]
        if plan is None:
            warnings = [*warnings, "Nothing is steered: the steered condition is the baseline."]
        write_evaluation(self.subject, bench, self.loaded, Counted(
            lines, plan, told, about, costs, [*warnings, *left, *cut, *judging.warnings]))

    def _groups(self, bench: Bench) -> list[Group]:
        return [group for one in self.loaded if not one.suite.attack
                for group in groups_of(bench, one.suite.name, one.prompts,
                                       "kl" in one.suite.metrics)]

    def _said(self, bench: Bench, groups: Sequence[Group],
              condition: Condition) -> list[Completion]:
        out: list[Completion] = []
        for group in self.watch.bar(groups, len(groups), "replies"):
            done = replies(bench, group, condition)
            out += [c for p, c in zip(group.prompts, done, strict=True) if p.kind != "capability"]
        return out

    def _lines(self, bench: Bench, groups: Sequence[Group], condition: Condition,
               judging: Judging) -> list[Sample]:
        return [line for group in self.watch.bar(groups, len(groups), f"{condition.name}, judged")
                for line in lines_of(bench, group, condition, judging)]

    def _steered(self, bench: Bench, groups: Sequence[Group],
                 how: tuple[Condition, Judging], own: Sequence[Sample]) -> list[Sample]:
        """A plan that writes nothing leaves the model's very bits: its lines are the baseline's."""
        condition, judging = how
        if condition.plan is None:
            return [{**line, "condition": condition.name} for line in own]
        return self._lines(bench, groups, condition, judging)


