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
    """A layer's keys and values with room for `room` columns, `used` of them written, and for more
    rows than the `rows` in use."""

    def __init__(self, room: int, used: int = 0) -> None:
        super().__init__()
        self.room, self.used, self.rows = room, used, 0

    def make(self, like: Columns, capacity: int, rows: int) -> None:
        """Room for `capacity` rows, `rows` of them in use; nothing is written yet."""
        self.lazy_initialization(*like)
        self.rows = rows
        self.keys, self.values = (part.new_empty(capacity, part.shape[1], self.room, part.shape[3])
                                  for part in like)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any,
               **kwargs: Any) -> Columns:
        """Writes the new columns; gives all of them."""
        if not self.is_initialized:
            self.make((key_states, value_states), len(key_states), len(key_states))
        start, self.used = self.used, self.used + key_states.shape[-2]
        for whole, new in ((self.keys, key_states), (self.values, value_states)):
            assert whole is not None
            whole[:self.rows, :, start:self.used] = new
        return self.columns

    @property
    def columns(self) -> Columns:
        """Those written so far."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys[:self.rows, :, :self.used], self.values[:self.rows, :, :self.used]

    def get_seq_length(self) -> int:
        """How many columns are written."""
        return self.used

    def put(self, rows: Tensor, columns: Columns) -> None:
        """Writes the last columns of some rows; those before are zeros, as what is masked has to be
        finite: 0 times NaN is NaN."""
        for whole, new in ((self.keys, columns[0]), (self.values, columns[1])):
            assert whole is not None
            before = self.used - new.shape[2]
            whole[rows, :, before:self.used] = new
            if before:
                whole[rows, :, :before] = 0

    def split(self, parents: Tensor, children: Tensor, rows: int) -> None:
        """Copies rows into others; `rows` are in use then."""
        for whole in (self.keys, self.values):
            assert whole is not None
            whole[children, :, :self.used] = whole[parents, :, :self.used]
        self.rows = rows

    def taken(self, rows: Tensor, where: Tensor, space: tuple[int, int, int]) -> "Buffer":
        """A buffer with the columns `where` [row, column] of some rows, at the right edge of
        `space`: capacity, columns used, columns of room."""
        capacity, used, room = space
        out = Buffer(room, used)
        parts = self.columns
        out.make(parts, capacity, len(rows))
        for whole, part in zip((out.keys, out.values), parts, strict=True):
            assert whole is not None
            whole[:len(rows), :, :used - where.shape[1]] = 0
            whole[:len(rows), :, used - where.shape[1]:used] = part[rows[:, None], :,
                                                                    where].transpose(1, 2)
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
        key, which = torch.unique(self.group * tokens + self.token, return_inverse=True)
        parent = key // tokens
        more = torch.zeros_like(parent, dtype=torch.bool)
        more[1:] = parent[1:] == parent[:-1]  # all but the first child, which stays where it is
        group = parent.clone()
        if more.any():
            group[more] = self._free(parent[~more])[:int(more.sum())]
            rows = max(self.lower[0].rows, int(group.max()) + 1)
            for buffer in self.lower:
                buffer.split(parent[more], group[more], rows)
        self.group = group[which]
        self.leader = live[:1].repeat(self.lower[0].rows)
        self.leader[self.group[live]] = live

    def _free(self, taken: Tensor) -> Tensor:
        """Places for groups that are not taken, the lowest first."""
        free = torch.ones(len(self.token) + len(taken), dtype=torch.bool, device=taken.device)
        free[taken] = False
        return free.nonzero().flatten()

    def some(self, rows: Tensor, width: int = 0, spare: int = 0) -> "Rows":
        """Some of the rows, a copy, their columns moved together, at an edge of at least `width`,
        with room for `spare` more columns."""
        mask = self.mask[rows]
        longest = int(mask.sum(1).max())
        used = max(longest, width)
        # the real columns of each row, at the right; before them others, which are masked
        where = mask.int().argsort(dim=1, stable=True)[:, -longest:]
        out = Rows(mask.new_zeros(len(rows), used), self.token[rows], self.setting[rows],
                   self.open[rows], self.tally.shape[2])
        out.mask[:, used - longest:] = mask.gather(1, where)
        out.tally, out.count = self.tally[rows], self.count[rows]
        groups, out.group = torch.unique(self.group[rows], return_inverse=True)
        first = torch.empty_like(groups)
        first[out.group] = torch.arange(len(rows), device=rows.device)
        space = len(rows), used, used + spare
        out.lower = [b.taken(groups, where[first], space) for b in self.lower]
        out.upper = [b.taken(rows, where, space) for b in self.upper]
        return out

    def put(self, new: "Rows", rows: Tensor, live: Tensor) -> None:
        """Puts new rows in the place of some; `live` are those that have not ended."""
        n = new.lower[0].rows
        places = self._free(self.group[live])[:n]
        self.group[rows] = places[new.group]
        for buffer, own in zip(self.lower, new.lower, strict=True):
            buffer.rows = max(buffer.rows, int(places.max()) + 1)
            buffer.put(places, own.columns)
        for buffer, own in zip(self.upper, new.upper, strict=True):
            buffer.put(rows, own.columns)
        self.mask[rows] = False
        self.mask[rows, -new.used:] = new.mask
        for name in LINES:
            getattr(self, name)[rows] = getattr(new, name)
