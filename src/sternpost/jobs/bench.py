"""The bench: an engine, a judge and a folder; ask for replies under a plan, get judged lines.

What was asked for once is read back from the folder when a run is resumed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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

JudgeMaker = Callable[[Engine, Sequence[Completion]], Judge]
"""An engine and replies of its own, unsteered -> the judge fitted to them."""


@dataclass
class Bench:
    """An engine at work in a run's folder."""

    engine: Engine
    judge: Judge
    sampling: Sampling
    folder: RunFolder
    watch: Watch = field(default_factory=Watch)

    def lines(self, key: str, condition: str, prompts: Sequence[LabelledPrompt],
              plan: Plan | None = None, **used: Any) -> list[Sample]:
        """A judged line for each prompt, grouped by kind and sorted by length, so that batches of
        neighbouring lines of one kind can be replayed."""
        def make() -> list[Sample]:
            ordered = sorted(prompts, key=lambda p: (_KINDS.index(p.kind), self._length(p),
                                                     p.request.sha256))
            out: list[Sample] = []
            for kind in _KINDS:
                out += self._judged(condition, [p for p in ordered if p.kind == kind], plan, used)
            return out

        return self.folder.once(key, make)

    def _length(self, prompt: LabelledPrompt) -> int:
        return len(self.engine.render(prompt.request))

    def _judged(self, condition: str, prompts: Sequence[LabelledPrompt], plan: Plan | None,
                used: dict[str, Any]) -> list[Sample]:
        if not prompts:
            return []
        replies = self.engine.generate([p.request for p in prompts], plan, self.sampling)
        verdicts = self.judge(replies)
        return [sample(condition, prompt, reply, verdict, _hit(prompt, reply, verdict), **used)
                for prompt, reply, verdict in zip(prompts, replies, verdicts, strict=True)]


_KINDS = ("unsafe", "safe", "capability")


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
