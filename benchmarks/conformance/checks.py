"""The checks: only what a user sees from outside, ids and logits, against the hook by hand.

    off          nothing asked for: logits bit-identical to the plain model's
    rows         every row of a batch is written
    decode       a reply is written token by token, not its prompt alone
    padding      a left-padded row is its lone run
    cache        a reply with a cache is one without
    clamp        a clamped SAE feature has the value that was asked for
    scored       an edit reaches the logits that a benchmark scores
    exception    after an exception the model is as it was
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from benchmarks.conformance.subject import NEW, Subject, by_hand

BOUND = 1e-4
"""Relative: max|difference| / max|reference|, of logits."""


class Steered(Protocol):
    """A model while a library steers it."""

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[row, seq, vocabulary] of a plain forward."""
        ...

    def generate(self, ids: Tensor, cached: bool = True) -> Tensor:
        """[row, seq + NEW] greedy."""
        ...


class NotOfferedError(Exception):
    """What the library does not promise; the text says why."""


@dataclass(frozen=True)
class Peer:
    """A library as its documentation drives it."""

    name: str
    edit: Literal["add", "clamp"]
    steered: Callable[[Subject, Any, bool, int], AbstractContextManager[Steered]]
    """(subject, a fresh model, whether anything is asked for, first column written)."""
    start: bool = False
    """Whether the first column written can be said."""
    clamps: str = "adds vectors; clamps no SAE feature"
    """Why no feature is clamped, where vectors are added."""
    leaves: bool = True
    """Whether leaving is promised: a context manager or the like."""


class Broken(Exception):
    """A check that failed; the text says how."""


def off_by(got: Tensor, want: Tensor) -> float:
    """max|difference| / max|reference|."""
    return float((got - want).abs().max() / want.abs().max())


def near(got: Tensor, want: Tensor, what: str) -> str:
    """Raises Broken unless they agree."""
    off = off_by(got.float(), want.float())
    if not off <= BOUND:
        raise Broken(f"{what}: logits off by {off:.2g}, relative")
    return f"off by {off:.1g}, relative"


@dataclass
class Checks:
    """The checks of one library."""

    peer: Peer
    subject: Subject

    def __post_init__(self) -> None:
        g = torch.Generator().manual_seed(1)
        vocabulary = len(self.subject.tokenizer)
        self.ids = torch.randint(10, vocabulary, (4, 9), generator=g)
        self.all = torch.ones_like(self.ids)
        self.plain = self.subject.model()
        self.change = self.subject.added if self.peer.edit == "add" else self.subject.clamped

    def _steered(self, model: Any = None, on: bool = True, start: int = 0) -> Any:
        return self.peer.steered(self.subject, model or self.subject.model(), on, start)

    @torch.no_grad()
    def _want(self, ids: Tensor, mask: Tensor, **options: Any) -> Tensor:
        position = (mask.cumsum(1) - 1).clamp(min=0)
        with by_hand(self.plain, self.change, **options):
            out: Tensor = self.plain(ids, attention_mask=mask, position_ids=position).logits
        return out

    @torch.no_grad()
    def _want_reply(self, ids: Tensor, **options: Any) -> Tensor:
        with by_hand(self.plain, self.change, **options):
            out: Tensor = self.plain.generate(ids, attention_mask=torch.ones_like(ids),
                                              max_new_tokens=NEW, do_sample=False)
        return out

    def off(self) -> str:
        """Bit-identical where nothing is asked for."""
        with torch.no_grad():
            want = self.plain(self.ids, attention_mask=self.all).logits
        with self._steered(on=False) as model:
            got = model.logits(self.ids, self.all)
        if not torch.equal(got, want):
            raise Broken(f"logits differ by up to {off_by(got, want):.1g}, relative")
        return "bit-identical"

    def rows(self) -> str:
        """All rows of a batch."""
        want = self._want(self.ids, self.all)
        with self._steered() as model:
            got = model.logits(self.ids, self.all)
        bad = [row for row in range(4) if off_by(got[row], want[row]) > BOUND]
        if bad:
            raise Broken(f"rows {bad} of a batch of 4 differ from the reference, by up to "
                         f"{off_by(got[bad], want[bad]):.2g}, relative")
        return near(got, want, "4 rows")

    def decode(self) -> str:
        """A reply's own tokens."""
        want, ids = self._want_reply(self.ids[:1]), self.ids[:1]
        assert not torch.equal(want, self._want_reply(ids, calls=1)), "the check has no power"
        with self._steered() as model:
            got = model.generate(ids)
        if torch.equal(got, self._want_reply(ids, calls=1)):
            raise Broken("only the prompt was written: the reply is that of a steered prefill")
        if not torch.equal(got, want):
            raise Broken(f"reply {got[0, 9:].tolist()}; with the hook {want[0, 9:].tolist()}")
        return f"{NEW} tokens as with the hook"

    def padding(self) -> str:
        """A left-padded row."""
        mask = self.all.clone()
        mask[1, :3] = 0
        with self._steered() as model:
            both = model.logits(self.ids[:2], mask[:2])
        with self._steered() as model:
            alone = model.logits(self.ids[1:2, 3:], self.all[1:2, 3:])
        near(alone, self._want(self.ids[1:2, 3:], self.all[1:2, 3:]), "the lone row")
        return near(both[1:2, 3:], alone, "a row with 3 padding tokens against its lone run")

    def cache(self) -> str:
        """With and without a cache; from a column on, where the library lets one say so."""
        start = 9 if self.peer.start else 0
        want = self._want_reply(self.ids[:1], start=start)
        replies = []
        for cached in (True, False):
            with self._steered(start=start) as model:
                replies.append(model.generate(self.ids[:1], cached))
        where = f"from column {start} on, " if start else ""
        for reply, name in zip(replies, ("with a cache", "without"), strict=True):
            if not torch.equal(reply, want):
                raise Broken(f"{where}{name}: {reply[0, 9:].tolist()}; with the hook "
                             f"{want[0, 9:].tolist()}")
        return f"{where}the same reply with and without"

    def clamp(self) -> str:
        """The clamped feature's value, read from what the logits came from."""
        if self.peer.edit != "clamp":
            raise NotOfferedError(self.peer.clamps)
        with self._steered() as model:
            return near(model.logits(self.ids, self.all), self._want(self.ids, self.all),
                        "h + (value - a) d")

    def scored(self) -> str:
        """Log-likelihood of a continuation."""
        def likelihood(logits: Tensor) -> Tensor:
            return logits[:, 4:-1].log_softmax(-1).gather(2, self.ids[:, 5:, None]).sum((1, 2))

        want = likelihood(self._want(self.ids, self.all))
        with torch.no_grad():
            plain = likelihood(self.plain(self.ids, attention_mask=self.all).logits)
        with self._steered() as model:
            got = likelihood(model.logits(self.ids, self.all))
        if torch.equal(got, plain):
            raise Broken("scores are those of the unsteered model")
        return near(got, want, "log-likelihoods")

    def exception(self) -> str:
        """An exception inside."""
        if not self.peer.leaves:
            raise NotOfferedError("no context manager: edits stay until they are taken off by hand")
        model = self.subject.model()
        with torch.no_grad():
            want = model(self.ids, attention_mask=self.all).logits
        try:
            with self._steered(model):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        with torch.no_grad():
            got = model(self.ids, attention_mask=self.all).logits
        if torch.equal(got, want):
            return "bit-identical afterwards"
        return near(got, want, "the model afterwards")


CHECKS = ("off", "rows", "decode", "padding", "cache", "clamp", "scored", "exception")
