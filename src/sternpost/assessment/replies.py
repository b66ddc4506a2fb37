"""Replies of an evaluation, made and kept a few at a time, and the lines that come of them.

    DIR/stages/SUITE.CONDITION.N    the replies to a few prompts, whole, with their proofs
    DIR/stages/SUITE.CONDITION.N.judged    their verdicts

A few prompts always make the same batches, so a run that was killed goes on with the same replies.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sternpost.assessment.judge import Judging
from sternpost.engines.first import first_token_kl
from sternpost.engines.transformers import TransformersEngine
from sternpost.evaluation.kl import harmless
from sternpost.prompts import harmful_turns, is_script
from sternpost.store import Sample, sample
from sternpost.trials.bench import KINDS, Bench, packed, unpacked
from sternpost.trials.multi_turn import each_reply
from sternpost.types import Completion, Judgement, LabelledPrompt, Plan

TOGETHER = 32
"""Prompts whose replies are made, and kept, together."""


@dataclass(frozen=True)
class Condition:
    """What is measured: the model as it is, or steered."""

    name: str
    """baseline or steered"""
    plan: Plan | None
    edits: tuple[dict[str, Any], ...] = ()
    """What the plan writes, as samples.jsonl says it."""


@dataclass(frozen=True)
class Group:
    """A few prompts of a suite that are answered together."""

    suite: str
    at: int
    prompts: tuple[LabelledPrompt, ...]
    kl: bool
    """Whether the first token's KL is asked for."""

    def key(self, condition: Condition) -> str:
        """Names it in the run's folder."""
        return f"{self.suite}.{condition.name}.{self.at}"


def groups_of(bench: Bench, suite: str, prompts: Sequence[LabelledPrompt],
              kl: bool) -> list[Group]:
    """The prompts in groups of one sort: prompts of a kind and of like length, then scripts."""
    order = sorted(prompts, key=lambda p: (
        is_script(p), KINDS.index(p.kind), len(bench.engine.render(p.request)), p.request.sha256))
    out: list[Group] = []
    for sort in dict.fromkeys((is_script(p), p.kind) for p in order):
        mine = [p for p in order if (is_script(p), p.kind) == sort]
        out += [Group(suite, len(out) + n, tuple(mine[at:at + TOGETHER]), kl)
                for n, at in enumerate(range(0, len(mine), TOGETHER))]
    return out


def replies(bench: Bench, group: Group, condition: Condition) -> list[Completion]:
    """The group's replies, in order; made once."""
    def make() -> dict[str, Any]:
        start = time.perf_counter()
        done = bench.engine.generate([p.request for p in group.prompts], condition.plan,
                                     bench.sampling)
        return {"seconds": time.perf_counter() - start, "replies": [packed(c) for c in done],
                "kl": _moved(bench, group, condition)}

    body = bench.folder.once(group.key(condition), make)
    return [unpacked(one, prompt.request)
            for one, prompt in zip(body["replies"], group.prompts, strict=True)]


def _moved(bench: Bench, group: Group, condition: Condition) -> list[float | None]:
    """Of each prompt: nats by which the first token moved, where it is harmless."""
    asked = [group.kl and harmless(p) for p in group.prompts]
    if condition.plan is None or not any(asked):
        return [0.0 if one else None for one in asked]
    assert isinstance(bench.engine, TransformersEngine)
    requests = [p.request for p, one in zip(group.prompts, asked, strict=True) if one]
    values = iter(first_token_kl(bench.engine, requests, condition.plan))
    return [next(values) if one else None for one in asked]


def lines_of(bench: Bench, group: Group, condition: Condition,
             judging: Judging) -> list[Sample]:
    """A judged line for each reply of the group: of an unsafe script, for each of its turns."""
    done = replies(bench, group, condition)
    moved = bench.folder.once(group.key(condition), dict)["kl"]
    rows = [row for prompt, completion, kl in zip(group.prompts, done, moved, strict=True)
            for row in _rows(bench, prompt, completion, kl)]
    verdicts = bench.folder.once(f"{group.key(condition)}.judged", lambda: [
        [v.verdict, v.reason] for v in judging([row.said for row in rows],
                                               [row.prompt for row in rows])])
    return [{**_line(bench, group, condition, row, Judgement(*verdict)),
             "judge": judging.of(row.prompt).name}
            for row, verdict in zip(rows, verdicts, strict=True)]


@dataclass(frozen=True)
class _Row:
    prompt: LabelledPrompt
    said: Completion
    kl: float | None
    turn: int | None = None
    harmful: bool | None = None


def _rows(bench: Bench, prompt: LabelledPrompt, done: Completion, kl: float | None) -> list[_Row]:
    if prompt.kind != "unsafe" or not is_script(prompt):
        return [_Row(prompt, done, kl)]
    harmful = harmful_turns(prompt)
    turns = each_reply(bench, done)
    turns[-1] = replace(turns[-1], proof=done.proof)
    return [_Row(prompt, said, None, at, at in harmful) for at, said in enumerate(turns)]


def _line(bench: Bench, group: Group, condition: Condition, row: _Row,
          verdict: Judgement) -> Sample:
    hit = bench.hit(row.prompt, row.said, verdict)
    one = condition.edits[0] if len(condition.edits) == 1 else {}
    line = sample(condition.name, row.prompt, row.said, verdict, hit,
                  feature=one.get("feature"), value=one.get("value"))
    return {**line, "suite": group.suite, "turn": row.turn, "harmful_turn": row.harmful,
            "kl": row.kl, "edits": list(condition.edits),
            "proof": row.said.proof and row.said.proof.as_dict()}


def speed(bench: Bench, groups: Sequence[Group], condition: Condition) -> float | None:
    """Seconds a generated token, over all groups; None where nothing was said."""
    bodies = [bench.folder.once(group.key(condition), dict) for group in groups]
    tokens = sum(max(1, len(one["reply_ids"])) for body in bodies for one in body["replies"])
    return sum(body["seconds"] for body in bodies) / tokens if tokens else None
