"""The forwards of a sweep: prompts read once, rows begun and carried on with their own edits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sternpost.activations import Tokens, select
from sternpost.engines.halves import handed, until
from sternpost.engines.rows import Buffer, Columns, Rows, cache_of
from sternpost.steering import compile_plan, write
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
    """[prompt, column] ids from the first edited token on."""
    edited: Tensor
    """[prompt, column] of the rest."""
    h: Tensor
    """[prompt, column, d_model] of the rest, from the written block."""
    layers: list[Columns | None]
    """All columns up to the written block; above it those before the rest, None for none."""
    tupled: bool
    """Whether blocks give tuples."""


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

    def read(self, prompts: Sequence[Sequence[int]]) -> Read:
        """Reads prompts: whole up to the written block, above it up to the first edited token."""
        marks = [self.edited(ids) for ids in prompts]
        starts = [min(int(row.int().argmax()) if row.any() else len(row), len(row) - 1)
                  for row in marks]
        pairs = list(zip(prompts, starts, strict=True))
        head, head_mask = self.engine.padded([ids[:start] for ids, start in pairs], left=True)
        rest, rest_mask = self.engine.padded([ids[start:] for ids, start in pairs], left=True)
        edited, _ = self.engine.padded([row[start:].long().tolist() for row, start in
                                        zip(marks, starts, strict=True)], left=True)
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
        return Read(mask, rest, (edited * rest_mask).bool(), h,
                    [buffer.columns if buffer.used else None for buffer in buffers], tupled)

    # ---- rows ------------------------------------------------------------------------------

    def begin(self, read: Read, which: Sequence[int], settings: Sequence[int],
              shut: Sequence[bool]) -> Rows:
        """New rows, of the prompts `which` of those read, and their first tokens."""
        index = self.index(which)
        mask, rest = read.mask[index], read.rest[index]
        is_open = ~torch.tensor(list(shut), device=self.device)
        rows = Rows(mask, rest[:, -1], self.index(settings), is_open, self.slots.shape[1])
        prompts, rows.group = torch.unique(index, return_inverse=True)
        lower, upper = read.layers[:self.at.layer + 1], read.layers[self.at.layer + 1:]
        rows.lower = [Buffer(mask.shape[1], part and (part[0][prompts], part[1][prompts]))
                      for part in lower]
        rows.upper = [Buffer(mask.shape[1], part and (part[0][index], part[1][index]))
                      for part in upper]
        h = self._write(read.h[index], read.edited[index], rows)
        width = mask.shape[1] - rest.shape[1]
        rows.token = self._above(rows, h, (rest, _positions(mask)[:, width:]), read.tupled)
        return rows

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
        h = h[rows.group]
        if self.responds:
            h = self._write(h, torch.ones(h.shape[:2], dtype=torch.bool, device=h.device), rows)
        now = rows.token[:, None], rows.mask.sum(1, keepdim=True) - 1
        rows.token = self._above(rows, h, now, tupled)

    def _above(self, rows: Rows, h: Tensor, now: tuple[Tensor, Tensor], tupled: bool) -> Tensor:
        """[row]: the token that follows tokens `now` (ids and positions), whose stream at the
        written block is `h`."""
        # the blocks below are handed their output: only how much they have read is asked of them
        below = [Buffer(0, used=rows.used - h.shape[1]) for _ in rows.lower]
        with handed(self.blocks, self.at, h, tupled):
            return self._next(now[0], rows.mask, now[1], cache_of([*below, *rows.upper]))

    def _next(self, ids: Tensor, mask: Tensor, position: Tensor, cache: Any) -> Tensor:
        """[row]: the token that follows."""
        return self.model(input_ids=ids, attention_mask=mask.long(), position_ids=position,
                          past_key_values=cache, use_cache=True,
                          logits_to_keep=1).logits[:, -1].argmax(-1)

    def _write(self, h: Tensor, edited: Tensor, rows: Rows) -> Tensor:
        edited = edited & rows.open[:, None]
        on = edited[:, :, None] & self.table.rows[rows.setting][:, None, :]
        done = write(h.reshape(-1, h.shape[-1]), on.reshape(-1, on.shape[-1]), edited.reshape(-1),
                     self.table, self.sae, self.plan.how)
        slots = self.slots[rows.setting][:, None, :].expand(-1, h.shape[1], -1)
        for which, values in enumerate((done.before, done.after)):
            chosen = values.reshape(on.shape).gather(2, slots)
            rows.tally[:, which] += (chosen * edited[:, :, None]).sum(1)
        rows.count += edited.sum(1)
        return done.h.reshape(h.shape)


def _positions(mask: Tensor) -> Tensor:
    """[row, column]: index among the row's own tokens."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)
