"""Rows that decode side by side over one cache, each leaving its place to the next when it ends.

Every row's columns end at a common right edge, so one forward serves all of them; the columns
before a row's own are masked. Up to the written block rows that have read the same tokens are one:
a group, which has one row of cache there and parts when its rows do. Keys and values stand in
buffers that are written in place: the library's own cache copies all of them at every step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

Columns = tuple[Tensor, Tensor]
"""A layer's keys and values, both [row, head, column, d_head]."""
LINES = ("token", "setting", "open", "tally", "count")
"""What `Rows` has a row of, besides cache, group and mask."""


class Buffer(DynamicLayer):
    """A layer's keys and values with room for `room` columns, `used` of them written."""

    def __init__(self, room: int, given: Columns | None = None, used: int = 0) -> None:
        super().__init__()
        self.room, self.used = room, used
        if given is not None:
            self.update(*given)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any,
               **kwargs: Any) -> Columns:
        """Writes the new columns; gives all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = (
                new.new_zeros(*new.shape[:2], self.room, new.shape[-1])
                for new in (key_states, value_states))
        start, self.used = self.used, self.used + key_states.shape[-2]
        for whole, new in ((self.keys, key_states), (self.values, value_states)):
            assert whole is not None
            whole[:, :, start:self.used] = new
        return self.columns

    @property
    def columns(self) -> Columns:
        """Those written so far."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys[:, :, :self.used], self.values[:, :, :self.used]

    def get_seq_length(self) -> int:
        """How many columns are written."""
        return self.used

    def put(self, rows: Tensor, columns: Columns) -> None:
        """Writes the last columns of some rows."""
        for whole, new in ((self.keys, columns[0]), (self.values, columns[1])):
            assert whole is not None
            whole[rows, :, self.used - new.shape[2]:self.used] = new

    def joined(self, new: "Buffer") -> "Buffer":
        """A buffer with the rows of `new` below its own, all at this right edge."""
        (keys, values), theirs = self.columns, new.columns
        out = Buffer(self.room, used=self.used)
        out.lazy_initialization(keys, values)
        n, rows = len(keys), torch.arange(len(keys) + len(theirs[0]), device=keys.device)
        out.keys, out.values = (part.new_zeros(len(rows), part.shape[1], self.room, part.shape[-1])
                                for part in (keys, values))
        out.put(rows[:n], (keys, values))
        out.put(rows[n:], theirs)
        return out

    def moved(self, rows: Tensor, keep: int, used: int, room: int) -> "Buffer":
        """A buffer with the last `keep` columns of some rows, at the right edge `used`."""
        out = Buffer(room, used=used)
        keys, values = (part[rows, :, self.used - keep:] for part in self.columns)
        out.lazy_initialization(keys, values)
        out.keys, out.values = (part.new_zeros(*part.shape[:2], room, part.shape[-1])
                                for part in (keys, values))
        out.put(torch.arange(len(rows), device=keys.device), (keys, values))
        return out


def cache_of(buffers: Sequence[Buffer]) -> Cache:
    """A cache of these layers."""
    return Cache(layers=list(buffers))


class Rows:
    """Rows at work: their cache, and a line of each tensor a row."""

    def __init__(self, mask: Tensor, token: Tensor, setting: Tensor, is_open: Tensor,
                 slots: int) -> None:
        self.lower: list[Buffer] = []
        """Up to the written block, a row a group."""
        self.upper: list[Buffer] = []
        """Above it, a row a row."""
        self.group = torch.zeros_like(token)
        """[row]: its group."""
        self.leader = torch.zeros_like(token)
        """[group]: a row of it that has not ended; see `regroup`."""
        self.mask = mask
        """[row, column] bool: the row's own tokens, up to the right edge."""
        self.token = token
        """[row]: the next token to be read."""
        self.setting, self.open = setting, is_open
        """[row]: whose edits; whether its gate is open."""
        n = len(token)
        self.tally = torch.zeros(n, 2, slots, dtype=torch.float64, device=token.device)
        """[row, 2, slot]: sums of what was read and written, over the tokens edited."""
        self.count = torch.zeros(n, dtype=torch.long, device=token.device)
        """[row]: tokens edited."""

    @property
    def used(self) -> int:
        """The right edge."""
        return self.mask.shape[1]

    @property
    def full(self) -> bool:
        """Whether the buffers have no room for another column."""
        return self.used == self.lower[0].room

    def regroup(self, live: Tensor) -> None:
        """Parts the groups whose rows are about to read different tokens. Rows that have ended go
        along with one that has not."""
        ended = torch.ones_like(self.open)
        ended[live] = False
        for line in (self.token, self.group):
            line[ended] = line[live[0]]
        tokens = int(self.token.max()) + 1
        key, self.group = torch.unique(self.group * tokens + self.token, return_inverse=True)
        parent = key // tokens
        if not torch.equal(parent, torch.arange(len(self.lower[0].columns[0]),
                                                device=parent.device)):
            self.lower = [b.moved(parent, b.used, b.used, b.room) for b in self.lower]
        self.leader = torch.empty_like(parent)
        self.leader[self.group[live]] = live

    def some(self, rows: Tensor, width: int = 0, spare: int = 0) -> "Rows":
        """Some of the rows, a copy, at an edge of at least `width`, with room for `spare` more
        columns."""
        mask = self.mask[rows]
        first = int(mask.any(0).int().argmax())
        keep = self.used - first
        used = max(keep, width)
        edge = mask.new_zeros(len(rows), used)
        edge[:, used - keep:] = mask[:, first:]
        out = Rows(edge, *(getattr(self, name)[rows] for name in LINES[:3]), self.tally.shape[2])
        out.tally, out.count = self.tally[rows], self.count[rows]
        groups, out.group = torch.unique(self.group[rows], return_inverse=True)
        out.lower = [b.moved(groups, keep, used, used + spare) for b in self.lower]
        out.upper = [b.moved(rows, keep, used, used + spare) for b in self.upper]
        return out

    def put(self, new: "Rows", rows: Tensor) -> None:
        """Puts new rows in the place of some."""
        self.group[rows] = new.group + len(self.lower[0].columns[0])
        self.lower = [b.joined(own) for b, own in zip(self.lower, new.lower, strict=True)]
        for buffer, own in zip(self.upper, new.upper, strict=True):
            buffer.put(rows, own.columns)
        self.mask[rows] = False
        self.mask[rows, -new.used:] = new.mask
        for name in LINES:
            getattr(self, name)[rows] = getattr(new, name)
