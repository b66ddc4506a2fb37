"""The bench: an engine, a judge and a folder; ask for replies under a plan, get judged lines.

What was asked for once is read back from the folder when a run is resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sternpost.jobs.progress import Watch
from sternpost.prompts import is_right
from sternpost.store import RunFolder, Sample, is_refusal, sample
from sternpost.types import (
    Completion,
    Engine,
    Judge,
    Judgement,
    LabelledPrompt,
    Message,
    Plan,
    Request,
    Sampling,
)

TOGETHER = 8
"""Trials whose rows share batches: small batches waste a forward, every row has its own edits."""


@dataclass(frozen=True)
class Trial:
    """One setting to try on a list of prompts."""

    key: str
    """Names it in the run's folder."""
    condition: str
    plan: Plan | None = None
    feature: int | None = None
    value: float | None = None


@dataclass
class Bench:
    """An engine at work in a run's folder."""

    engine: Engine
    judge: Judge
    sampling: Sampling
    folder: RunFolder
    watch: Watch = field(default_factory=Watch)

    def lines(self, trial: Trial, prompts: Sequence[LabelledPrompt]) -> list[Sample]:
        """A judged line for each prompt, grouped by kind and sorted by length, so that batches of
        neighbouring lines of one kind can be replayed."""
        def make() -> list[Sample]:
            return [line for kind in _KINDS for line in self._judged(
                [(trial, p) for p in self._ordered(prompts) if p.kind == kind])]

        return self.folder.once(trial.key, make)

    def several(self, trials: Sequence[Trial], prompts: Sequence[LabelledPrompt],
                what: str) -> list[list[Sample]]:
        """The lines of each trial, in order. Trials share batches; their plans differ in edits
        alone. A group of which anything is missing is made again whole, so that a resumed run
        computes what an uninterrupted one does."""
        groups = [trials[at:at + TOGETHER] for at in range(0, len(trials), TOGETHER)]
        for group in self.watch.bar(groups, len(groups), what):
            if all(self.folder.has(trial.key) for trial in group):
                continue
            rows = [(trial, p) for p in self._ordered(prompts) for trial in group]
            made = list(zip(rows, self._judged(rows), strict=True))
            for trial in group:
                mine = [line for (whose, _), line in made if whose is trial]
                self.folder.once(trial.key, lambda mine=mine: mine)
        return [self.folder.once(trial.key, list) for trial in trials]

    def _ordered(self, prompts: Sequence[LabelledPrompt]) -> list[LabelledPrompt]:
        return sorted(prompts, key=lambda p: (
            _KINDS.index(p.kind), len(self.engine.render(p.request)), p.request.sha256))

    def _judged(self, rows: Sequence[tuple[Trial, LabelledPrompt]]) -> list[Sample]:
        if not rows:
            return []
        replies = self.engine.generate([p.request for _, p in rows], _shared_plan(rows),
                                       self.sampling)
        return [sample(t.condition, p, reply, verdict, _hit(p, reply, verdict), feature=t.feature,
                       value=t.value)
                for (t, p), reply, verdict in zip(rows, replies, self.judge(replies), strict=True)]


_KINDS = ("unsafe", "safe", "capability")


def _shared_plan(rows: Sequence[tuple[Trial, LabelledPrompt]]) -> Plan | None:
    """The plan of all rows: the one trial's, or one list of edits a row."""
    plan = rows[0][0].plan
    if plan is None or all(trial is rows[0][0] for trial, _ in rows):
        return plan
    return replace(plan, edits=tuple(t.plan.edits if t.plan else () for t, _ in rows))


def _hit(prompt: LabelledPrompt, reply: Completion, verdict: Judgement) -> bool:
    if prompt.kind == "capability":
        return reply.answer is not None and is_right(reply.answer, prompt.answer or "")
    return is_refusal(verdict)


def own_replies(engine: Engine, prompts: Sequence[LabelledPrompt], sampling: Sampling,
                folder: RunFolder, key: str) -> list[Completion]:
    """The model's unsteered replies to `prompts`, in order; kept in the folder."""
    def make() -> list[dict[str, Any]]:
        ordered = sorted(range(len(prompts)), key=lambda at: len(engine.render(
            prompts[at].request)))
        done = engine.generate([prompts[at].request for at in ordered], None, sampling)
        back = sorted(zip(ordered, done, strict=True), key=lambda pair: pair[0])
        return [_packed(completion) for _, completion in back]

    return [_unpacked(body, prompt.request)
            for body, prompt in zip(folder.once(key, make), prompts, strict=True)]


def _packed(c: Completion) -> dict[str, Any]:
    return {"reply": c.reply, "answer": c.answer, "prompt_ids": list(c.prompt_ids),
            "reply_ids": list(c.reply_ids),
            "messages": [[m.role, m.content] for m in c.messages]}


def _unpacked(body: dict[str, Any], request: Request) -> Completion:
    return Completion(request, body["reply"], body["answer"], tuple(body["prompt_ids"]),
                      tuple(body["reply_ids"]), None,
                      tuple(Message(*pair) for pair in body["messages"]))
