"""Activations as they come, shuffled in memory of a fixed size, and found again after a stop.

    groups of texts -> their rows, one after the other -> windows of `size` rows, each shuffled

A window is a function of where it starts and of the seed. So a resumed training needs no buffer on
disk: it reads the texts of its window again and goes on where it was, to the last bit.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sternpost.errors import InputError

Cursor = Mapping[str, Any]
"""Where a walk over texts stands: plain values."""


class Group(NamedTuple):
    """What a few texts gave."""

    rows: list[Tensor]
    """[token, d_model] of each layer, as many of each."""
    after: Cursor
    """Where the walk stands behind them."""


class Mark(NamedTuple):
    """Where a window starts."""

    cursor: Cursor
    """The group with its first row."""
    inside: int
    """That row's place in the group."""


EMPTY = 1000
"""Groups without a row, one after the other, after which the walk is given up."""


class Windows:
    """One window at a time of an endless walk."""

    def __init__(self, read: Callable[[Cursor], Group], size: int, seed: int,
                 start: Mark, number: int = 0) -> None:
        self.read, self.size, self.seed = read, size, seed
        self.number, self.start = number, start
        """Of the window that is held, or is to be read next."""
        self._next = start
        self._carried: Group | None = None
        self._rows: list[Tensor] = []

    def rows(self, number: int, most: int | None = None) -> list[Tensor]:
        """The rows of window `number` of each layer, in order; valid until the next is asked for.
        Windows can only be asked for in order; one of which but `most` rows are read is the last.
        """
        while not self._rows or self.number < number:
            if self._rows:
                self.number += 1
            self._fill(self.size if most is None else min(most, self.size))
        assert self.number == number
        return [rows[:most] for rows in self._rows]

    @property
    def following(self) -> Mark:
        """Where the window after the one that is held starts."""
        return self._next

    def batch(self, step: int, size: int) -> list[Tensor]:
        """Batch `step` of each layer: rows that lie anywhere in one window."""
        number, at = divmod(step, self.size // size)
        rows = self.rows(number)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        order = torch.randperm(self.size, generator=generator)[at * size:(at + 1) * size]
        return [one[order] for one in rows]

    def _fill(self, wanted: int) -> None:
        self.start = self._next
        cursor, inside = self.start
        group, filled, empty = self._carried or self.read(cursor), 0, 0
        while True:
            length = len(group.rows[0])
            take = min(wanted - filled, length - inside)
            for place, rows in zip(self._buffers(group), group.rows, strict=True):
                place[filled:filled + take] = rows[inside:inside + take]
            filled, inside = filled + take, inside + take
            if inside == length:
                cursor, inside = group.after, 0
            if filled == wanted:
                break
            empty = 0 if length else empty + 1
            if empty == EMPTY:
                raise InputError(f"{EMPTY} groups of texts in a row gave no token to train on. "
                                 "Give longer texts.")
            group = self.read(cursor)
        self._next, self._carried = Mark(cursor, inside), group if inside else None

    def _buffers(self, group: Group) -> list[Tensor]:
        if not self._rows:
            self._rows = [rows.new_empty(self.size, rows.shape[1]) for rows in group.rows]
        return self._rows
