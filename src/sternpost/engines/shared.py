"""The forwards of a sweep: prompts read once, rows begun and carried on with their own edits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from sternpost.activations import Tokens, select
from sternpost.engines.halves import handed, until
from sternpost.engines.rows import Buffer, Columns, Rows, cache_of
from sternpost.steering import Written, changed, compile_plan, moved, read
from sternpost.types import Plan, Positions

if TYPE_CHECKING:
    from sternpost.engines.transformers import TransformersEngine


class Job(NamedTuple):
    """One reply to be made."""

    prompt: int
    setting: int


@dataclass(frozen=True)
class Read:
    """Some prompts, read up to the written block."""

    mask: Tensor
    """[prompt, column]: real tokens."""
    rest: Tensor
    """[prompt, column] ids from the first edited token on, and the draft after them."""
    edited: Tensor
    """[prompt, column] of the rest."""
    draft: Tensor
    """[prompt, column] of the rest: tokens of a draft, at the right edge."""
    h: Tensor
    """[prompt, column, d_model] of the rest, from the written block."""
    acts: Tensor
    """[prompt, column, slot] of the rest: what is read there, the same in all settings."""
    layers: list[Columns | None]
    """All columns up to the written block; above it those before the rest, None for none."""
    tupled: bool
    """Whether blocks give tuples."""

    @property
    def width(self) -> int:
        """Columns before the rest."""
        return self.mask.shape[1] - self.rest.shape[1]

    def of(self, index: Tensor) -> "Read":
        """Some of the prompts, a row each, without the columns that none of them uses and without
        layers."""
        used = self.mask[index].any(0)
        rest = used[self.width:]
        return Read(self.mask[index][:, used], self.rest[index][:, rest],
                    self.edited[index][:, rest], self.draft[index][:, rest],
                    self.h[index][:, rest], self.acts[index][:, rest], [], self.tupled)

    def layer(self, layer: int, rows: Tensor, index: Tensor, room: int) -> Buffer:
        """A layer's columns for the prompts `rows` [row], without the columns that none of the
        prompts `index` uses."""
        columns, out = self.layers[layer], Buffer(room)
        if columns is None:
            return out
        mine = self.mask[index].any(0)[:columns[0].shape[2]].nonzero().flatten()
        out.make(columns, len(rows), len(rows))
        out.used = len(mine)
        out.put(torch.arange(len(rows), device=rows.device),
                (columns[0][rows[:, None], :, mine].transpose(1, 2),
                 columns[1][rows[:, None], :, mine].transpose(1, 2)))
        return out


class Forwards:
    """What a model computes for plans that differ in their edits alone."""

    def __init__(self, engine: "TransformersEngine", plans: Sequence[Plan]) -> None:
        self.engine, self.model, self.blocks = engine, engine.model, engine.blocks
        self.plan = plans[0]
        assert isinstance(self.plan.where, Positions)
        self.where, self.at = self.plan.where, self.plan.sae.hookpoint
        self.device = engine.model.get_input_embeddings().weight.device
        self.sae = self.plan.sae.to(self.device)
        edits = tuple(tuple(plan.edits) for plan in plans)
        self.table = compile_plan(replace(self.plan, edits=edits)).to(self.device)
        longest = max(map(len, self.table.lists))
        self.slots = torch.tensor([[*slots, *[0] * (longest - len(slots))]
                                   for slots in self.table.lists], dtype=torch.long,
                                  device=self.device).reshape(len(plans), longest)
        """[setting, slot]: each list's slots, filled up with slot 0."""
        self.responds = bool({"all", "response"} & set(self.where.parts))
        self._edited: dict[tuple[int, ...], Tensor] = {}

    def index(self, rows: Sequence[int]) -> Tensor:
        """Row numbers as a tensor."""
        return torch.tensor(list(rows), dtype=torch.long, device=self.device)

    def edited(self, ids: Sequence[int]) -> Tensor:
        """[token]: which tokens of a prompt are edited."""
        key = tuple(ids)
        if key not in self._edited:
            n, t_inst = torch.tensor([len(ids)]), None
            if {"t_inst", "tail"} & set(self.where.parts):
                t_inst = torch.tensor(self.engine.template.t_inst([ids]))
            whole = Tokens(torch.ones(1, len(ids), dtype=torch.bool), torch.arange(len(ids))[None],
                           n, n, t_inst)
            self._edited[key] = select(self.where, whole)[0]
        return self._edited[key]

    # ---- prompts ---------------------------------------------------------------------------

    def read(self, prompts: Sequence[Sequence[int]], drafts: Sequence[Sequence[int]]) -> Read:
        """Reads prompts, each with a draft of its reply: whole up to the written block, above it up
        to the first edited token."""
        marks = [self.edited(ids) for ids in prompts]
        starts = [min(int(row.int().argmax()) if row.any() else len(row), len(row) - 1)
                  for row in marks]
        pairs = list(zip(prompts, starts, strict=True))
        head, head_mask = self.engine.padded([ids[:start] for ids, start in pairs], left=True)
        rest, rest_mask = self.engine.padded(
            [[*ids[start:], *said] for (ids, start), said in zip(pairs, drafts, strict=True)],
            left=True)
        edited, _ = self.engine.padded(
            [[*row[start:].long().tolist(), *[int(self.responds)] * len(said)]
             for row, start, said in zip(marks, starts, drafts, strict=True)], left=True)
        mask = torch.cat([head_mask, rest_mask], 1).bool()
        position, width = _positions(mask), head.shape[1]
        buffers = [Buffer(mask.shape[1]) for _ in self.blocks.blocks]
        cache = cache_of(buffers)
        if width:
            self.blocks.trunk(input_ids=head, attention_mask=head_mask,
                              position_ids=position[:, :width], past_key_values=cache,
                              use_cache=True)
        h, tupled = until(self.blocks, self.at, input_ids=rest, attention_mask=mask.long(),
                          position_ids=position[:, width:], past_key_values=cache, use_cache=True)
        column = torch.arange(rest.shape[1], device=self.device)
        draft = column >= rest.shape[1] - self.index([len(said) for said in drafts])[:, None]
        return Read(mask, rest, (edited * rest_mask).bool(), draft, h, self._acts(h),
                    [buffer.columns if buffer.used else None for buffer in buffers], tupled)

    # ---- rows ------------------------------------------------------------------------------

    def begin(self, read: Read, which: Sequence[int], settings: Sequence[int],
              shut: Sequence[bool]) -> tuple[Rows, list[list[int]]]:
        """New rows, of the prompts `which` of those read; what each says of its draft, and the
        token that follows. The rest of the draft is as if it had never been read."""
        index = self.index(which)
        some = read.of(index)
        mask, rest, draft, width = some.mask, some.rest, some.draft, some.width
        is_open = ~torch.tensor(list(shut), device=self.device)
        rows = Rows(mask, rest[:, -1], self.index(settings), is_open, self.slots.shape[1])
        layers, room = range(len(read.layers)), mask.shape[1]
        rows.upper = [read.layer(layer, index, index, room) for layer in
                      layers[self.at.layer + 1:]]
        edited = some.edited & is_open[:, None]
        done = self._change(some.h, some.acts, edited, rows)
        most = int(draft.sum(1).max()) + 1
        below = [Buffer(0, used=width) for _ in layers[:self.at.layer + 1]]
        scores = self._above(rows, done.h.reshape(*rest.shape, -1),
                             (rest, _positions(mask)[:, width:]), (some.tupled, below, most))
        said = _agreed(rest, draft, scores)
        rows.mask = torch.cat([mask[:, :width], mask[:, width:] & (~draft | said)], 1)
        unsaid = (draft & ~said).sum(1)
        rows.token = scores[torch.arange(len(index)), most - 1 - unsaid].argmax(-1)
        self._count(rows, done, edited & (~draft | said))
        pairs = torch.stack([index, said.sum(1)], 1)
        _, rows.group = torch.unique(pairs, dim=0, return_inverse=True)
        first = torch.empty(int(rows.group.max()) + 1, dtype=torch.long, device=self.device)
        first[rows.group] = torch.arange(len(index), device=self.device)
        rows.lower = [read.layer(layer, index[first], index, room)
                      for layer in layers[:self.at.layer + 1]]
        return rows, [ids[keep].tolist() for ids, keep in zip(rest, said, strict=True)]

    def step(self, rows: Rows, live: Sequence[int]) -> None:
        """Reads a token a row and finds the next; `live` rows have not ended."""
        rows.regroup(self.index(live))
        before = rows.used
        rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(rows.mask), 1)], 1)
        mask = rows.mask[rows.leader]
        above = [Buffer(0, used=before) for _ in rows.upper]
        h, tupled = until(self.blocks, self.at, input_ids=rows.token[rows.leader, None],
                          attention_mask=mask.long(), position_ids=mask.sum(1, keepdim=True) - 1,
                          past_key_values=cache_of([*rows.lower, *above]), use_cache=True)
        acts = self._acts(h)[rows.group] if self.responds else h
        h = h[rows.group]
        if self.responds:
            edited = rows.open[:, None].expand(h.shape[:2])
            done = self._change(h, acts, edited, rows)
            self._count(rows, done, edited)
            h = done.h.reshape(h.shape)
        now = rows.token[:, None], rows.mask.sum(1, keepdim=True) - 1
        below = [Buffer(0, used=before) for _ in rows.lower]
        rows.token = self._above(rows, h, now, (tupled, below, 1))[:, 0].argmax(-1)

    def _above(self, rows: Rows, h: Tensor, now: tuple[Tensor, Tensor],
               how: tuple[bool, list[Buffer], int]) -> Tensor:
        """[row, last, token]: the logits of what follows the last tokens of `now` (ids and
        positions), whose stream at the written block is `h`."""
        # the blocks below are handed their output: only how much they have read is asked of them
        tupled, below, last = how
        with handed(self.blocks, self.at, h, tupled):
            out = self.model(input_ids=now[0], attention_mask=rows.mask.long(), position_ids=now[1],
                             past_key_values=cache_of([*below, *rows.upper]), use_cache=True,
                             logits_to_keep=last)
        return out.logits[:, -last:]

    def _acts(self, h: Tensor) -> Tensor:
        """[row, column, slot]: what the slots of all settings read."""
        acts = read(h.reshape(-1, h.shape[-1]), self.sae, self.table, self.plan.how.mode)
        return acts.reshape(*h.shape[:2], -1)

    def _change(self, h: Tensor, acts: Tensor, edited: Tensor, rows: Rows) -> Written:
        on = edited[:, :, None] & self.table.rows[rows.setting][:, None, :]
        flat = h.reshape(-1, h.shape[-1])
        done = changed(flat, acts.reshape(len(flat), -1),
                       (on.reshape(len(flat), -1), edited.reshape(-1)), self.table,
                       (self.sae, self.plan.how))
        return Written(moved(flat, [done]), done.before, done.after)

    def _count(self, rows: Rows, done: Written, edited: Tensor) -> None:
        """Adds what was read and written at the tokens `edited` to the rows' proof."""
        slots = self.slots[rows.setting][:, None, :].expand(-1, edited.shape[1], -1)
        for which, values in enumerate((done.before, done.after)):
            chosen = values.reshape(*edited.shape, -1).gather(2, slots)
            rows.tally[:, which] += (chosen * edited[:, :, None]).sum(1)
        rows.count += edited.sum(1)


def _agreed(rest: Tensor, draft: Tensor, scores: Tensor) -> Tensor:
    """[row, column]: the draft's tokens up to the first that the row would not have said."""
    said = torch.zeros_like(draft)
    ahead = scores.shape[1] - 1
    if ahead:  # amax is many times as fast as argmax
        drafted = scores[:, :-1].gather(2, rest[:, -ahead:, None])[:, :, 0]
        said[:, -ahead:] = drafted == scores[:, :-1].amax(-1)
    return draft & ((draft & ~said).cumsum(1) == 0)


def _positions(mask: Tensor) -> Tensor:
    """[row, column]: index among the row's own tokens."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)
