"""One forward on its way to the written block: which tokens it writes, what gates read of it.

    risk of a row       its gate's at t_inst; with a decay the highest over its user messages of
                        decay^(messages since) * risk
    reply               a continuation gate reads every response token before it is written, so the
                        token that opens it is itself written

What was decided once stands, also where a forward reads the same tokens again.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sternpost.engines.proofs import Piece
from sternpost.errors import GateError, PositionsError
from sternpost.gates import Opening, rolled
from sternpost.policy import opened
from sternpost.types import Gate, Plan

if TYPE_CHECKING:
    from sternpost.engines.calls import Call


@dataclass
class Reply:
    """What a continuation gate has read of a call's replies."""

    state: Opening
    opened: Tensor
    """[row, token]: whether it was open at each response column so far."""
    risk: Tensor
    """[row]: the highest so far, -inf before the first."""


@dataclass
class Stream:
    """One forward on its way to the block: which of its tokens are written."""

    call: "Call"
    start: int
    edited: Tensor
    index: Tensor
    asked: Tensor | None = None
    """[row, seq]: the ends of user messages that a gate reads."""
    replied: Tensor | None = None
    """[row, seq]: response tokens, where a continuation gate reads."""
    opened: Tensor | None = None
    """[row, seq]: where it is open, on the CPU; None for nowhere."""

    def gate(self, gate: Gate, h: Tensor) -> None:
        """Lets the gate read what this forward holds of the ends of user messages. What was read
        once stands."""
        assert self.asked is not None
        rows, columns = self.asked.to(h.device).nonzero(as_tuple=True)
        call, decay = self.call, self.call.orders.plan.decay
        if call.risks is None:
            width = 1 + len(getattr(gate, "categories", ()))
            call.risks = torch.full((len(h), width), float("nan"), dtype=torch.float64)
            call.read = self._unread(width, len(h)) if decay else call.risks
        if len(rows):
            assert call.read is not None
            where = (rows.cpu(), self._turns(rows, columns, len(h))) if decay else (rows.cpu(),)
            fresh = call.read[(*where, 0)].isnan()
            seen = h[rows, columns]
            read = gate.risk(seen)[:, None] if call.read.shape[-1] == 1 else gate.risks(seen)
            call.read[tuple(part[fresh] for part in where)] = read[fresh]
            if decay:
                call.risks = rolled(call.read, decay)

    def _unread(self, width: int, rows: int) -> Tensor:
        """[row, turn, column]: NaN, -inf where a row has no such turn."""
        ends = self.call.ends_of(rows)
        risks = torch.full((*ends.shape, width), float("nan"), dtype=torch.float64)
        risks[ends < 0] = float("-inf")
        return risks

    def _turns(self, rows: Tensor, columns: Tensor, n_rows: int) -> Tensor:
        """Which of its row's turns each token ends."""
        at = rows.cpu()
        index = self.index.cpu()[at, columns.cpu()]
        return (self.call.ends_of(n_rows)[at] == index[:, None]).int().argmax(1)

    def doses(self, plan: Plan, n_edits: int) -> Tensor:
        """[row, edit]: how much of each edit the gate's risks ask for."""
        risks = self.call.risks
        if risks is None:  # nothing was read yet
            risks = torch.full((len(self.edited), 1), float("nan"), dtype=torch.float64)
        if bool((risks[:, 0].isnan() & self.edited.any(1).cpu()).any()):
            what = "the end of every user message, for its decay, and one" if plan.decay else \
                "t_inst, which"
            raise PositionsError(f"The gate reads {what} no forward of this call has shown "
                                 "before what is written. Give the whole prompt: "
                                 "model.generate(...), or one forward and a gate at the written "
                                 "block or below.")
        return opened(plan, risks, n_edits).nan_to_num(0.0).to(self.edited.device)

    def follow(self, continuation: Any, h: Tensor) -> None:
        """Lets a continuation gate read the response tokens of this forward, in their order."""
        assert self.replied is not None
        call, seq = self.call, h.shape[1]
        first = max(0, call.columns - self.start)  # of its columns the first that may be reply
        if first >= seq:
            return
        if call.reply is None:
            nowhere = torch.zeros(len(h), 0, dtype=torch.bool)
            call.reply = Reply(continuation.rule.start(len(h)), nowhere,
                               torch.full((len(h),), float("-inf"), dtype=torch.float64))
        reply = call.reply
        at = self.start + first - call.columns
        again = min(reply.opened.shape[1] - at, seq - first)
        new = self.replied[:, first + again:].cpu()
        over = self._over(continuation.gate, h[:, first + again:], new)
        reply.state, states = continuation.rule.along(reply.state, over, new)
        reply.opened = torch.cat([reply.opened, states], 1)
        self.opened = torch.zeros(h.shape[:2], dtype=torch.bool)
        self.opened[:, first:] = reply.opened[:, at:at + seq - first]
        self.opened &= self.replied.cpu()

    def _over(self, gate: Gate, h: Tensor, where: Tensor) -> Tensor:
        """[row, token]: whether the gate's risk is above its threshold, of the tokens asked for."""
        rows, columns = where.nonzero(as_tuple=True)
        over = torch.zeros_like(where)
        if len(rows):
            risks = gate.risk(h[rows.to(h.device), columns.to(h.device)])
            if bool(risks.isnan().any()):
                raise GateError("The continuation gate read a risk that is no number, which opens "
                                "nothing. Look at its weights, and at the model in this dtype.")
            over[rows, columns] = risks > gate.threshold
            reply = self.call.reply
            assert reply is not None
            reply.risk = reply.risk.scatter_reduce(0, rows, risks, "amax")
        return over

    def record(self, edited: Tensor, before: Tensor | None, after: Tensor | None,
               continued: Tensor | None = None) -> None:
        """Notes what was read and written; `continued`: tokens that only a continuation gate had
        written."""
        pieces = self.call.pieces
        while pieces and pieces[-1].start >= self.start:  # read again
            pieces.pop()
        pieces.append(Piece(self.start, edited, self.index, before, after, continued))
