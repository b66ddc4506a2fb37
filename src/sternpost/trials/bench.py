"""The bench: an engine, a judge and a folder; ask for replies under a plan, get judged lines.

What was asked for once is read back from the folder when a run is resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sternpost.judges.languages import judged
from sternpost.prompts import is_right
from sternpost.store import RunFolder, Sample, sample
from sternpost.trials.goal import REFUSALS, Sought
from sternpost.trials.progress import Watch
from sternpost.types import (
    Completion,
    Engine,
    Judge,
    Judgement,
    LabelledPrompt,
    Message,
    Plan,
    Proof,
    Request,
    Sampling,
)

TOGETHER = 24
"""Trials that are made, and kept, together."""


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
    sought: Sought = REFUSALS
    """The behaviour that counts as a hit."""

    def shown(self, replies: Sequence[Completion]) -> list[bool]:
        """Whether each reply shows what is searched for."""
        return [self.sought.goal.shown(verdict) for verdict in self.judge(replies)]

    def lines(self, trial: Trial, prompts: Sequence[LabelledPrompt]) -> list[Sample]:
        """A judged line for each prompt, grouped by kind and sorted by length, so that batches of
        neighbouring lines of one kind can be replayed."""
        def make() -> list[Sample]:
            return [line for kind in KINDS for line in self._asked(
                trial, [p for p in self._ordered(prompts) if p.kind == kind])]

        return self.folder.once(trial.key, make)

    def several(self, trials: Sequence[Trial], prompts: Sequence[LabelledPrompt], what: str,
                brief: bool = False) -> list[list[Sample]]:
        """The lines of each trial, in order. Trials share what they can; their plans differ in
        edits alone. `brief`: replies end where the judge has seen enough. A group of which anything
        is missing is made again whole, so that a resumed run computes what an uninterrupted one
        does."""
        groups = [trials[at:at + TOGETHER] for at in range(0, len(trials), TOGETHER)]
        decided = getattr(self.judge, "decided", None) if brief else None
        ordered = self._ordered(prompts)
        for group in self.watch.bar(groups, len(groups), what):
            if all(self.folder.has(trial.key) for trial in group):
                continue
            plans = [trial.plan for trial in group if trial.plan is not None]
            assert len(plans) == len(group)
            made = self.engine.sweep([p.request for p in ordered], plans, self.sampling, decided)
            for trial, replies in zip(group, made, strict=True):
                mine = self.judged(trial, ordered, replies)
                self.folder.once(trial.key, lambda mine=mine: mine)
        return [self.folder.once(trial.key, list) for trial in trials]

    def _ordered(self, prompts: Sequence[LabelledPrompt]) -> list[LabelledPrompt]:
        return sorted(prompts, key=lambda p: (
            KINDS.index(p.kind), len(self.engine.render(p.request)), p.request.sha256))

    def _asked(self, trial: Trial, prompts: Sequence[LabelledPrompt]) -> list[Sample]:
        if not prompts:
            return []
        return self.judged(trial, prompts, self.engine.generate(
            [p.request for p in prompts], trial.plan, self.sampling))

    def judged(self, trial: Trial, prompts: Sequence[LabelledPrompt],
               replies: Sequence[Completion]) -> list[Sample]:
        """A judged line for each prompt, in order, from replies that are at hand."""
        return [sample(trial.condition, p, reply, verdict, self.hit(p, reply, verdict),
                       feature=trial.feature, value=trial.value)
                for p, reply, verdict in zip(prompts, replies, judged(
                    self.judge, replies, [p.language for p in prompts]), strict=True)]

    def hit(self, prompt: LabelledPrompt, reply: Completion, verdict: Judgement) -> bool:
        """Whether a reply counts: a task that is answered right, else what is searched for."""
        if prompt.kind == "capability":
            return reply.answer is not None and is_right(reply.answer, prompt.answer or "")
        return self.sought.goal.shown(verdict)


KINDS = ("unsafe", "safe", "capability")


def own_replies(engine: Engine, prompts: Sequence[LabelledPrompt], sampling: Sampling,
                folder: RunFolder, key: str) -> list[Completion]:
    """The model's unsteered replies to `prompts`, in order; kept in the folder."""
    def make() -> list[dict[str, Any]]:
        ordered = sorted(range(len(prompts)), key=lambda at: len(engine.render(
            prompts[at].request)))
        done = engine.generate([prompts[at].request for at in ordered], None, sampling)
        back = sorted(zip(ordered, done, strict=True), key=lambda pair: pair[0])
        return [packed(completion) for _, completion in back]

    return [unpacked(body, prompt.request)
            for body, prompt in zip(folder.once(key, make), prompts, strict=True)]


def packed(c: Completion) -> dict[str, Any]:
    """A completion as JSON has it, without its request."""
    return {"reply": c.reply, "answer": c.answer, "prompt_ids": list(c.prompt_ids),
            "reply_ids": list(c.reply_ids), "proof": c.proof and c.proof.as_dict(),
            "messages": [[m.role, m.content] for m in c.messages]}


def unpacked(body: dict[str, Any], request: Request) -> Completion:
    """A completion that was kept, of `request`."""
    proof = body.get("proof")
    return Completion(request, body["reply"], body["answer"], tuple(body["prompt_ids"]),
                      tuple(body["reply_ids"]), proof and Proof.from_dict(proof),
                      tuple(Message(*pair) for pair in body["messages"]))
