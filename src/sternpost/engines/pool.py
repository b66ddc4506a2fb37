"""The places in which a sweep's rows decode side by side, each left to the next row when its own
has ended."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from sternpost.engines.rows import Rows
from sternpost.engines.shared import Forwards, Job

Ended = Callable[[int, list[int]], bool]
"""Whether a row ends: the next token to be read, and what was said up to and with it."""
REFILL = 4
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
        tokens, waiting = rows.token.tolist(), {}
        over = []
        for at, (job, ids) in enumerate(zip(jobs, said, strict=True)):
            if (done := self._done(rows, at, tokens[at], ids)) is not None:
                over.append((job, done))
            else:
                waiting[at] = job
        if not waiting:
            return over, None
        left = list(waiting)
        return over, Waiting(rows.some(self._index(left)), list(waiting.values()),
                             [said[at] for at in left])

    def take(self, new: "Waiting", more: bool) -> "Waiting | None":
        """Takes in as many as there are places; gives the rest. `more`: others will come."""
        free = [place for place in range(len(self.jobs)) if place not in self.live]
        if self.rows is None or not self.live:
            now = new.jobs[:self.size]
            free = list(range(self.size if more else len(now)))
            places = [min(place, len(now) - 1) for place in free]  # the last once more where empty
            self.rows = new.rows.some(self._index(places), spare=self.room)
            self.jobs = [new.jobs[at] for at in places]
        else:
            now = new.jobs[:len(free)]
            rows = new.rows if len(now) == len(new.jobs) else new.rows.some(
                self._index(range(len(now))))
            if self.rows.used < rows.used or self.rows.full:
                self._fit(range(len(self.jobs)), free, rows.used)
            self.rows.put(rows, self._index(free[:len(now)]))
        for place, job, ids in zip(free, now, new.said, strict=False):
            self.jobs[place], self.live[place] = job, ids
        rest = len(now)
        if rest == len(new.jobs):
            return None
        return Waiting(new.rows.some(self._index(range(rest, len(new.jobs)))), new.jobs[rest:],
                       new.said[rest:])

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
            if not self.ended(token, ids):
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
    jobs: list[Job]
    said: list[list[int]]

