"""One call of a model, plain or `generate`: which tokens each of its forwards holds, and the proof.

Everything is kept in the row's own real tokens, so nothing depends on padding, on the cache, or on
how a prompt is cut into forwards.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sternpost.activations import (
    Tokens,
    before_tail,
    finds_tail,
    select,
    tells_thinking,
    thinking_tokens,
)
from sternpost.engines.architectures import check_kept
from sternpost.engines.asked import Asked
from sternpost.engines.bound import bind, carried, given_to
from sternpost.engines.proofs import Opened, Orders, Piece, proofs
from sternpost.errors import EditError, PositionsError
from sternpost.policy import opened
from sternpost.types import Gate, Plan, Positions, Proof


@dataclass
class Stream:
    """One forward on its way to the block: which of its tokens are written."""

    call: "Call"
    start: int
    edited: Tensor
    index: Tensor
    asked: Tensor | None = None
    """[row, seq]: the t_inst of each row, where a gate reads it."""

    def gate(self, gate: Gate, h: Tensor) -> None:
        """Lets the gate read the rows whose t_inst this forward holds. A row is decided once."""
        assert self.asked is not None
        rows, columns = self.asked.to(h.device).nonzero(as_tuple=True)
        risks = self.call.risks
        if risks is None:
            width = 1 + len(getattr(gate, "categories", ()))
            risks = torch.full((h.shape[0], width), float("nan"), dtype=torch.float64)
            self.call.risks = risks
        if len(rows):
            fresh = risks[rows.cpu(), 0].isnan()
            seen = h[rows, columns]
            read = gate.risk(seen)[:, None] if risks.shape[1] == 1 else gate.risks(seen)
            risks[rows.cpu()[fresh]] = read[fresh]

    def doses(self, plan: Plan, n_edits: int) -> Tensor:
        """[row, edit]: how much of each edit the gate's risks ask for."""
        risks = self.call.risks
        if risks is None:  # nothing was read yet
            risks = torch.full((len(self.edited), 1), float("nan"), dtype=torch.float64)
        if bool((risks[:, 0].isnan() & self.edited.any(1).cpu()).any()):
            raise PositionsError("The gate reads t_inst, which no forward of this call has shown "
                                 "before what is written. Give the whole prompt: "
                                 "model.generate(...), or one forward and a gate at the written "
                                 "block or below.")
        return opened(plan, risks, n_edits).nan_to_num(0.0).to(self.edited.device)

    def record(self, edited: Tensor, before: Tensor | None, after: Tensor | None) -> None:
        """Notes what was read and written."""
        pieces = self.call.pieces
        while pieces and pieces[-1].start >= self.start:  # read again
            pieces.pop()
        pieces.append(Piece(self.start, edited, self.index, before, after))


@dataclass
class Call:
    """A `generate`, or a plain forward, from its start to its proof."""

    orders: Orders
    n_rows: int
    generating: bool
    prompt_ids: Tensor | None = None
    prompt_mask: Tensor | None = None
    """[row, column] of what `generate` was given; None until the first forward shows it."""
    columns: int = 0
    """Length of the prompt, padding included."""
    stop: Tensor | None = None
    """Tokens after which a row is finished and only fed padding; None where rows are beams."""
    alive: Tensor | None = None
    seen: int = 0
    """Columns that this call's forwards have read."""
    response: Tensor | None = None
    """[row, column] response ids seen so far, where reasoning has to be told apart."""
    t_inst: Tensor | None = None
    risks: Tensor | None = None
    """[row, column], NaN before a row's t_inst was read; None without a gate."""
    doses: Tensor | None = None
    """[row, edit] of the last forward; None without a gate."""
    lengths: Tensor | None = None
    """[row of a forward]: length of the prompt in real tokens."""
    pieces: list[Piece] = field(default_factory=list)

    def proofs(self) -> list[Proof]:
        """One record a row of what this call's forwards wrote."""
        read = None if self.risks is None or self.doses is None else Opened(
            self.risks[:, 0].tolist(), self.doses.ne(0).any(1).tolist())
        return proofs(self.orders, self.pieces, self.n_rows, read)

    @classmethod
    def of_generate(cls, asked: Asked, orders: Orders) -> "Call":
        """The call that a `model.generate(...)` is."""
        ids = asked.given.get("inputs", asked.given.get("input_ids"))
        given = ids if ids is not None else asked.given.get("inputs_embeds")
        if given is None:
            raise EditError("generate(...) was given no prompt. Pass input_ids=...")
        mask = asked.given.get("attention_mask")
        mask = None if mask is None else mask == 1
        stop = None if (asked.setting("num_beams") or 1) > 1 else asked.stop_ids(given.device)
        columns = given.shape[1] if mask is None else max(mask.shape[1], given.shape[1])
        return cls(orders, given.shape[0], True, ids, mask, columns, stop)

    @classmethod
    def of_forward(cls, trunk: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any],
                   orders: Orders) -> "Call":
        """The call that a plain forward is."""
        given = given_to(bind(trunk, args, kwargs))
        return cls(orders, given.shape[0], False)

    def observe(self, trunk: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream:
        """The forward that `trunk` is about to run."""
        bound = bind(trunk, args, kwargs)
        given, ids = given_to(bound), bound.get("input_ids")
        mask = bound.get("attention_mask")
        mask = mask == 1 if isinstance(mask, Tensor) and mask.dim() == 2 else None
        architecture = self.orders.architecture
        state = bound.get(architecture.state)
        start = self._start(state, given.shape[1], mask)
        before = start > 0 if self.generating else carried(state)
        check_kept(architecture, mask if self.prompt_mask is None else self.prompt_mask,
                   bound.get("position_ids") is not None, (before, given.shape[1], len(given)))
        self.seen = start + given.shape[1]
        if self.generating:
            tokens = self._generating(given, ids, mask, start)
        else:
            tokens = self._forward(given, ids, mask, start)
        asked = None
        if self.orders.plan.gate is not None:
            if tokens.t_inst is None:
                raise PositionsError("A gate reads t_inst: in a plain forward say where the prompt "
                                     "ends, positions=Positions('tail+response', prompt_length=N).")
            asked = tokens.real & (tokens.index == tokens.t_inst[:, None])
        return Stream(self, start, self._edited(tokens), tokens.index, asked)

    def anywhere(self, h: Tensor) -> Stream:
        """What a module that is no block has put out, [row, seq, d]: every token is real."""
        rows, seq = h.shape[:2]
        start = self.seen if self.generating else 0
        self.seen = start + seq
        index = torch.arange(start, self.seen, device=h.device).expand(rows, seq)
        end = torch.full((rows,), self.seen, device=h.device)
        tokens = Tokens(torch.ones(rows, seq, dtype=torch.bool, device=h.device), index, end)
        return Stream(self, start, self._edited(tokens), index)

    def _start(self, state: Any, seq: int, mask: Tensor | None) -> int:
        """How many columns were read before this forward. A recurrent state does not tell."""
        if state is None:
            return 0
        try:
            return int(state.get_seq_length())
        except (AttributeError, ValueError):
            if self.generating:
                return self.seen
        read = mask.shape[1] - seq if mask is not None else 0
        if read == 0 and self.orders.plan.where != Positions("all"):
            raise PositionsError(
                "This model's recurrent state does not tell how many tokens it has read, so only "
                "positions='all' can be found in a plain forward that carries one. Give an "
                "attention_mask over all tokens so far, or call model.generate(...).")
        return read

    def _edited(self, tokens: Tokens) -> Tensor:
        positions = self.orders.plan.where
        if isinstance(positions, Positions):
            return select(positions, tokens)
        if positions.dtype != torch.bool or positions.shape != tokens.real.shape:
            raise PositionsError(
                f"A position mask is a bool tensor [batch, seq] = {tuple(tokens.real.shape)} here; "
                f"got {positions.dtype} {tuple(positions.shape)}.")
        return positions.to(tokens.real.device) & tokens.real

    # ---- inside generate -------------------------------------------------------------------

    def _generating(self, given: Tensor, ids: Tensor | None, mask: Tensor | None,
                    start: int) -> Tokens:
        rows, seq, device = given.shape[0], given.shape[1], given.device
        each = rows // self.n_rows  # beams and num_return_sequences repeat every row
        if self.prompt_mask is None:
            self.prompt_mask = torch.ones(self.n_rows, self.columns, dtype=torch.bool)
            if mask is not None and mask.shape[1] >= self.columns:
                self.prompt_mask = mask[::each, :self.columns]
        if self.lengths is None or self.lengths.shape[0] != rows or self.lengths.device != device:
            self.lengths = self.prompt_mask.sum(1).to(device).repeat_interleave(each)
        length = self.lengths
        column = torch.arange(start, start + seq, device=device)
        inside = column < self.columns
        real = self._alive(ids, inside, start, rows, device)
        index = length[:, None] + column - self.columns
        if start < self.columns:  # else all of it is reply
            prompt = self.prompt_mask.to(device).repeat_interleave(each, 0)
            at = column.clamp(max=self.columns - 1)
            real = torch.where(inside, prompt[:, at], real)
            index = torch.where(inside, prompt.long().cumsum(1)[:, at] - 1, index)
        return Tokens(real, index, length, length, self._t_inst(each, device),
                      self._thinking(ids, inside, start))

    def _alive(self, ids: Tensor | None, inside: Tensor, start: int, rows: int,
               device: Any) -> Tensor:
        """[row, seq]: whether the row had not ended before this token."""
        if self.stop is None or ids is None:
            return torch.ones(rows, len(inside), dtype=torch.bool, device=device)
        ended = torch.isin(ids, self.stop.to(device)) & ~inside
        alive = ended.long().cumsum(1) == 0
        if start >= self.columns and self.alive is not None:
            alive &= self.alive[:, None].to(device)
        self.alive = alive[:, -1]
        return alive

    def _t_inst(self, each: int, device: Any) -> Tensor | None:
        if self.orders.template is None and not self.orders.plan.tail:
            return None
        if self.t_inst is None:
            assert self.prompt_mask is not None
            if self.prompt_ids is None or self.prompt_ids.shape != self.prompt_mask.shape:
                raise PositionsError("positions 't_inst' and 'tail' are read off the whole prompt, "
                                     "as input_ids, which generate(...) was not given.")
            self.t_inst = self.find_t_inst(self.prompt_ids, self.prompt_mask)
        return self.t_inst.to(device).repeat_interleave(each)

    def find_t_inst(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[row]: index of the last token of the last user message among the row's real tokens."""
        template, plan = self.orders.template, self.orders.plan
        if not finds_tail(plan.where) and plan.gate is None:
            return torch.zeros(len(ids), dtype=torch.long)
        mask = mask.to(ids.device)
        rows = [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]
        if template is None:
            return torch.tensor([before_tail(row, plan.tail) for row in rows])
        return torch.tensor(template.t_inst(rows))

    def _thinking(self, ids: Tensor | None, inside: Tensor, start: int) -> Tensor | None:
        positions = self.orders.plan.where
        if not tells_thinking(positions):
            return None
        template = self.orders.template
        assert template is not None
        if self.stop is None or ids is None:
            raise PositionsError("positions 'thinking' and 'answer' cannot follow beams or prompts "
                                 "given as embeddings. Use one beam and input_ids.")
        fresh = ids[:, ~inside]
        earlier = self.response if start >= self.columns and self.response is not None \
            else fresh[:, :0]
        self.response = torch.cat([earlier.to(fresh), fresh], 1)
        out = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        if fresh.shape[1]:
            flags = [thinking_tokens(row, template.decode, template.marks())
                     for row in self.response.tolist()]
            out[:, -fresh.shape[1]:] = torch.tensor(flags)[:, -fresh.shape[1]:].to(out)
        return out

    # ---- a plain forward -------------------------------------------------------------------

    def _forward(self, given: Tensor, ids: Tensor | None, mask: Tensor | None,
                 start: int) -> Tokens:
        rows, seq, device = given.shape[0], given.shape[1], given.device
        if mask is None or mask.shape[1] < start + seq:
            mask = torch.ones(rows, start + seq, dtype=torch.bool, device=device)
        mask = mask[:, :start + seq]
        index = (mask.long().cumsum(1) - 1)[:, start:]
        real = mask[:, start:]
        length = self._prompt_length(rows, device)
        t_inst = None
        if length is not None and (self.orders.template is not None or self.orders.plan.tail):
            if ids is None or start:
                raise PositionsError("positions 't_inst' and 'tail' are read off the whole prompt, "
                                     "as input_ids, which this forward was not given.")
            t_inst = self.find_t_inst(ids, real & (index < length[:, None])).to(device)
        return Tokens(real, index, mask.sum(1), length, t_inst)

    def _prompt_length(self, rows: int, device: Any) -> Tensor | None:
        positions = self.orders.plan.where
        given = positions.prompt_length if isinstance(positions, Positions) else None
        if given is None:
            return None
        lengths = torch.tensor([given] * rows if isinstance(given, int) else list(given))
        if len(lengths) != rows:
            raise PositionsError(f"prompt_length has {len(lengths)} numbers for a batch of {rows} "
                                 "rows. Give one number, or one a row.")
        return lengths.to(device)
