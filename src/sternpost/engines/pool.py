"""The places in which a sweep's rows decode side by side, each left to the next row when its own
has ended."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from sternpost.engines.rows import Rows
from sternpost.engines.shared import Forwards, Job

Ended = Callable[[list[int]], bool]
"""Whether a row ends that has said so much."""
REFILL = 16
"""New rows are taken in when one place in so many is free."""
SPARE = 16
"""Columns of room beyond a reply's length: the fewer, the more often rows are moved."""


@dataclass(frozen=True)
class Done:
    """What came of a job."""

    ids: list[int]
    stopped: bool
    """Whether a stop token followed; else the last token was not read any more."""
    count: int
    """Tokens edited."""
    tally: Tensor
    """[2, slot]: sums of what was read and written."""

    @property
    def read(self) -> list[int]:
        """The tokens of the reply that the model has read."""
        return self.ids if self.stopped else self.ids[:-1]


class Pool:
    """Rows at work."""

    def __init__(self, forwards: Forwards, size: int, longest: int, ended: Ended) -> None:
        self.forwards, self.size, self.room, self.ended = forwards, size, longest + SPARE, ended
        self.stop = forwards.engine.stop_ids()
        self.rows: Rows | None = None
        self.jobs: list[Job] = []
        """Of each place, also those that have ended."""
        self.live: dict[int, list[int]] = {}
        """What each place at work has said, the token that is read next with it."""

    @property
    def hungry(self) -> bool:
        """Whether so many places are free that it pays to take in rows."""
        return self.rows is None or REFILL * (self.size - len(self.live)) >= self.size

    def begun(self, rows: Rows, jobs: Sequence[Job], said: Sequence[list[int]],
              ) -> tuple[list[tuple[Job, Done]], "Waiting | None"]:
        """What came of rows that ended at once, and the others, to be taken in."""
        over, left = [], []
        for at, token in enumerate(rows.token.tolist()):
            if (done := self._done(rows, at, token, said[at])) is not None:
                over.append((jobs[at], done))
            else:
                left.append((at, jobs[at], said[at]))
        return over, Waiting(rows, left) if left else None

    def take(self, new: "Waiting", more: bool) -> "Waiting | None":
        """Takes in as many as there are places; gives the rest. `more`: others will come."""
        free = [place for place in range(len(self.jobs)) if place not in self.live]
        fresh = self.rows is None or not self.live
        if fresh:
            free = list(range(min(self.size, len(new.left))))
        now, rest = new.left[:len(free)], new.left[len(free):]
        index = [at for at, _, _ in now]
        if fresh:
            empty = self.size - len(now) if more or rest else 0
            index += index[-1:] * empty  # the last once more where nothing stands yet
            self.rows = new.rows.some(self._index(index), spare=self.room)
            self.jobs = [now[min(place, len(now) - 1)][1] for place in range(len(index))]
        else:
            assert self.rows is not None
            rows = new.rows.some(self._index(index))
            if self.rows.used < rows.used or self.rows.full:
                self._fit(range(len(self.jobs)), free, rows.used)
            self.rows.put(rows, self._index(free[:len(now)]), self._index(sorted(self.live)))
        for place, (_, job, ids) in zip(free, now, strict=False):
            self.jobs[place], self.live[place] = job, ids
        return Waiting(new.rows, rest) if rest else None

    def step(self, last: bool) -> Iterator[tuple[Job, Done]]:
        """One token for each row; gives what ended. `last`: nothing more will be taken in."""
        assert self.rows is not None
        if last and 2 * len(self.live) <= len(self.jobs):
            kept = sorted(self.live)
            self._fit(kept)
            self.jobs = [self.jobs[place] for place in kept]
            self.live = dict(enumerate(self.live[place] for place in kept))
        elif self.rows.full:
            self._fit(range(len(self.jobs)),
                      [place for place in range(len(self.jobs)) if place not in self.live])
        self.forwards.step(self.rows, sorted(self.live))
        tokens = self.rows.token.tolist()
        for place in sorted(self.live):
            done = self._done(self.rows, place, tokens[place], self.live[place])
            if done is not None:
                del self.live[place]
                yield self.jobs[place], done

    def _done(self, rows: Rows, at: int, token: int, ids: list[int]) -> Done | None:
        """What came of the row, once it has ended; else `token` is said."""
        stopped = token in self.stop
        if not stopped:
            ids.append(token)
            if not self.ended(ids):
                return None
        return Done(ids, stopped, int(rows.count[at]), rows.tally[at].clone())

    def _index(self, rows: Sequence[int]) -> Tensor:
        return self.forwards.index(rows)

    def _fit(self, kept: Sequence[int], ended: Sequence[int] = (), width: int = 0) -> None:
        assert self.rows is not None
        self.rows.mask[self._index(ended)] = False
        self.rows = self.rows.some(self._index(kept), width, self.room)


@dataclass(frozen=True)
class Waiting:
    """Rows that have begun and wait for a place."""

    rows: Rows
    left: list[tuple[int, Job, list[int]]]
    """Which of them, for what, and what was said."""
