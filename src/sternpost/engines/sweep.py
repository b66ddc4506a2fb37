"""Many settings on many prompts, greedily; what settings share is computed once.

    the prompt before its first edited token    once a prompt
    the rest of the prompt                      once a prompt up to the written block, then a row
    the reply                                   rows of all settings side by side, `batch_size` of
                                                them; one that has ended makes room for the next;
                                                up to the written block rows that have read the
                                                same tokens are one

The unsteered reply is made first. It is each setting's draft: read in one forward, kept up to the
first token that the setting would not have said (speculative decoding, arXiv 2211.17192, whose
draft costs nothing here), and it stands for all rows that a gate leaves shut. With `decided` a row
ends as soon as its verdict is.

Covered: models whose every layer attends to all that came before, with a plain cache. Not covered:
sliding windows, recurrent layers, scripts of several turns, reasoning segments, gates that read
earlier turns or the reply; there all rows go through `generate`. Overall: the same replies, up to
float rounding.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from sternpost.activations import tells_thinking
from sternpost.engines.pool import Done, Pool
from sternpost.engines.rows import Rows
from sternpost.engines.shared import Forwards, Job, Read
from sternpost.engines.templates import turns_of
from sternpost.types import (
    Completion,
    Message,
    Plan,
    Positions,
    Proof,
    Request,
    Sampling,
    Transcript,
)

if TYPE_CHECKING:
    from sternpost.engines.transformers import TransformersEngine

Decided = Callable[[str], bool]
"""Whether a reply that begins so has its verdict."""
DRAFTED = 3
"""Settings from which on a draft pays."""
LOGITS = 2 ** 27
"""Most logits that the check of the drafts may put out at once; drafts are cut to that."""
UNSTEERED = -1
"""The setting of a row without edits."""
ASKED = {"position_ids", "past_key_values", "logits_to_keep"}
"""What a model's forward must take."""


def sweep(engine: "TransformersEngine", requests: Sequence[Request], plans: Sequence[Plan],
          sampling: Sampling, decided: Decided | None = None) -> list[list[Completion]]:
    """The completions of each plan, in the requests' order. The plans differ in their edits alone.

    With `decided` a reply ends as soon as that says yes to its text so far.
    """
    if not requests:
        return [[] for _ in plans]
    if any((p.decay, p.continuation) != (plans[0].decay, plans[0].continuation) for p in plans):
        return [engine.generate(requests, plan, sampling) for plan in plans]
    if not can_share(engine, plans[0], requests):
        edits = tuple(tuple(plan.edits) for plan in plans for _ in requests)
        every = engine.generate([r for _ in plans for r in requests],
                                replace(plans[0], edits=edits), sampling)
        return [every[at:at + len(requests)] for at in range(0, len(every), len(requests))]
    while True:
        try:
            return Sweep(engine, plans, sampling, decided).run(requests)
        except torch.OutOfMemoryError:
            if engine.batch_size == 1:
                raise
            engine.halve()


def can_share(engine: "TransformersEngine", plan: Plan, requests: Sequence[Request]) -> bool:
    """Whether settings can share on this model, with these prompts."""
    layers = DynamicCache(config=engine.model.config).layers
    return (all(type(layer) is DynamicLayer for layer in layers)
            and len(layers) in (0, engine.n_layers)
            and set(inspect.signature(engine.model.forward).parameters) >= ASKED
            and len(set(getattr(engine.model, "hf_device_map", {}).values())) <= 1
            and plan.policy is None and not plan.decay and plan.continuation is None
            and isinstance(plan.where, Positions) and not tells_thinking(plan.where)
            and engine.marks.think_close is None
            and all(len(turns_of(request.messages)) == 1 for request in requests))


class Sweep:
    """The work of one call."""

    def __init__(self, engine: "TransformersEngine", plans: Sequence[Plan], sampling: Sampling,
                 decided: Decided | None = None) -> None:
        engine.check(plans[0])
        self.engine, self.plan, self.n_plans = engine, plans[0], len(plans)
        self.forwards = Forwards(engine, plans)
        self.n, self.decided = sampling.max_new_tokens, decided
        self.prompts: list[list[int]] = []
        self.drafts: list[list[int]] = []
        """Of each prompt: the beginning of the reply that a row is likely to give."""
        self._known: dict[tuple[int, ...], bool] = {}
        """Beginnings of replies, and whether they have their verdict."""
        self._where: dict[int, list[int]] = {}
        """Of each prompt: its edited tokens."""
        self._said: dict[tuple[int, tuple[int, ...]], Completion] = {}
        """Of each prompt and reply, which many settings share: the completion but for its proof."""

    @torch.no_grad()
    def run(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """The completions of each plan, in the requests' order."""
        self.prompts = [self.engine.encode(self.engine.render(request)) for request in requests]
        self.drafts = [[] for _ in requests]
        risks = self._risks()
        shut = [risk is not None and not risk > self.plan.gate.threshold for risk in risks]
        alike = [at for at, closed in enumerate(shut) if closed or self.n_plans >= DRAFTED]
        done = dict(self._replies({at: [UNSTEERED] for at in alike}))
        for at in alike:
            self.drafts[at] = done[Job(at, UNSTEERED)].read[:self._room()]
        done |= dict(self._replies({at: list(range(self.n_plans)) for at, closed in enumerate(shut)
                                    if not closed}))
        return [[self._completion(request, setting, (at, risks[at]), done[
            Job(at, UNSTEERED if shut[at] else setting)]) for at, request in enumerate(requests)]
            for setting in range(self.n_plans)]

    def _room(self) -> int:
        """How many tokens a draft may have."""
        vocabulary = self.engine.model.get_output_embeddings().weight.shape[0]
        return max(0, LOGITS // (self.engine.batch_size * vocabulary) - 1)

    def _risks(self) -> list[float | None]:
        gate = self.plan.gate
        if gate is None:
            return [None] * len(self.prompts)
        h = self.engine.at_t_inst([Transcript(ids=tuple(ids)) for ids in self.prompts],
                                  gate.hookpoint)
        return gate.risk(h.to(self.forwards.device)).tolist()

    def _replies(self, wanted: dict[int, list[int]]) -> Iterator[tuple[Job, Done]]:
        """Every reply, as it ends. `wanted`: the settings of each prompt."""
        size = self.engine.batch_size
        queue = _Queue(self, wanted)
        pool, waiting = Pool(self.forwards, size, self.n, self._ended), None
        while queue.waiting or waiting or pool.live:
            if waiting is None and queue.waiting and pool.hungry:
                over, waiting = pool.begun(*self._begin(queue, size))
                yield from over
            elif waiting is not None and pool.hungry:
                waiting = pool.take(waiting, queue.waiting)
            else:
                yield from pool.step(last=not queue.waiting and waiting is None)

    def _begin(self, queue: "_Queue", most: int) -> tuple[Rows, list[Job], list[list[int]]]:
        read, places, jobs = queue.take(most)
        settings = [job.setting for job in jobs]
        rows, said = self.forwards.begin(read, places, settings,
                                         [setting == UNSTEERED for setting in settings])
        return rows, jobs, said

    def _ended(self, ids: list[int]) -> bool:
        """Whether a reply that begins so is long enough; most begin alike."""
        if len(ids) >= self.n or self.decided is None:
            return len(ids) >= self.n
        key = tuple(ids)
        if key not in self._known:
            (text,) = self.engine.texts([ids])
            self._known[key] = self.decided(text)
        return self._known[key]

    def _completion(self, request: Request, setting: int, whose: tuple[int, float | None],
                    reply: Done) -> Completion:
        at, risk = whose
        table, prompt = self.forwards.table, self.prompts[at]
        slots, key = table.lists[setting], (at, tuple(reply.ids))
        before, after = (reply.tally[:, :len(slots)] / reply.count).tolist() if reply.count else \
            [[float("nan")] * len(slots)] * 2
        where: list[int] = []
        if reply.count and (slots or self.plan.error == "drop"):
            if at not in self._where:
                self._where[at] = self.forwards.edited(prompt).nonzero().flatten().tolist()
            where = [*self._where[at], *range(len(prompt), len(prompt) + reply.count
                                              - len(self._where[at]))]
        proof = Proof(self.forwards.at, tuple(where), tuple(table.features[s] for s in slots),
                      tuple(before), tuple(after), risk,
                      None if risk is None else risk > self.plan.gate.threshold, self.plan.pack)
        if key not in self._said:
            said = self.engine.completion(prompt, reply.ids, None)
            self._said[key] = replace(said, request=request, messages=(
                *turns_of(request.messages)[0], Message("assistant", said.reply)))
        return replace(self._said[key], proof=proof)


class _Queue:
    """The jobs in order: prompts of like length are read together, as they come up, and those with
    drafts of like length begin together."""

    def __init__(self, sweep: Sweep, wanted: dict[int, list[int]]) -> None:
        self.sweep, self.wanted = sweep, wanted
        order = sorted(wanted, key=lambda at: len(sweep.prompts[at]))
        size = sweep.engine.batch_size
        self.parts = [order[at:at + size] for at in range(0, len(order), size)]
        self.read: Read | None = None
        self.which: list[int] = []
        self.jobs: list[Job] = []

    @property
    def waiting(self) -> bool:
        """Whether there is more to do."""
        return bool(self.jobs or self.parts)

    def take(self, most: int) -> tuple[Read, list[int], list[Job]]:
        """Prompts that were read, and at most so many jobs: their places among them, and they."""
        if not self.jobs:
            self.which = sorted(self.parts.pop(0), key=lambda at: len(self.sweep.drafts[at]))
            self.read = self.sweep.forwards.read([self.sweep.prompts[at] for at in self.which],
                                                 [self.sweep.drafts[at] for at in self.which])
            self.jobs = [Job(at, setting) for at in self.which for setting in self.wanted[at]]
        taken, self.jobs = self.jobs[:most], self.jobs[most:]
        assert self.read is not None
        return self.read, [self.which.index(job.prompt) for job in taken], taken
