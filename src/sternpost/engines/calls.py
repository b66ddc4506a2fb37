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
    turns_before,
)
from sternpost.engines.architectures import check_kept
from sternpost.engines.asked import Asked
from sternpost.engines.bound import bind, carried, given_to
from sternpost.engines.proofs import Opened, Orders, Piece, proofs
from sternpost.engines.reading import Reply, Stream
from sternpost.errors import EditError, PositionsError
from sternpost.types import Positions, Proof


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
    ends: Tensor | None = None
    """[row, turn]: where user messages end; see `find_ends`."""
    risks: Tensor | None = None
    """[row, column], NaN before all that a row's risk hangs on was read; None without a gate."""
    read: Tensor | None = None
    """What `risks` are made of: themselves, or with a decay [row, turn, column], NaN before a
    turn's end was read, -inf where there is no such turn."""
    reply: Reply | None = None
    """Of a continuation gate, once it has read."""
    doses: Tensor | None = None
    """[row, edit] of the last forward; None without a gate."""
    lengths: Tensor | None = None
    """[row of a forward]: length of the prompt in real tokens."""
    pieces: list[Piece] = field(default_factory=list)

    def proofs(self) -> list[Proof]:
        """One record a row of what this call's forwards wrote."""
        read = None if self.risks is None or self.doses is None else Opened(
            self.risks[:, 0].tolist(), self.doses.ne(0).any(1).tolist())
        said = None if self.reply is None else self.reply.risk.tolist()
        return proofs(self.orders, self.pieces, self.n_rows, read, said)

    @classmethod
    def of_generate(cls, asked: Asked, orders: Orders) -> "Call":
        """The call that a `model.generate(...)` is."""
        ids = asked.given.get("inputs", asked.given.get("input_ids"))
        given = ids if ids is not None else asked.given.get("inputs_embeds")
        if given is None:
            raise EditError("generate(...) was given no prompt. Pass input_ids=...")
        mask = asked.given.get("attention_mask")
        mask = None if mask is None else mask == 1
        beams = (asked.setting("num_beams") or 1) > 1
        if beams and orders.plan.continuation is not None:
            raise EditError("A continuation gate follows each reply, and beams change places. Give "
                            "one beam.")
        stop = None if beams else asked.stop_ids(given.device)
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
        stream = Stream(self, start, self._edited(tokens), tokens.index)
        if self.orders.plan.gate is not None:
            self._read_by_gates(stream, tokens)
        return stream

    def _read_by_gates(self, stream: Stream, tokens: Tokens) -> None:
        """Marks the tokens of a forward that gates read."""
        plan = self.orders.plan
        if tokens.t_inst is None:
            raise PositionsError("A gate reads t_inst: in a plain forward say where the prompt "
                                 "ends, positions=Positions('tail+response', prompt_length=N).")
        at = tokens.index == tokens.t_inst[:, None]
        if plan.decay:
            ends = self.ends_of(len(at)).to(at.device)
            at = (tokens.index[:, :, None] == ends[:, None, :]).any(2)
        stream.asked = tokens.real & at
        if plan.continuation is not None:
            assert tokens.prompt_length is not None
            stream.replied = tokens.real & (tokens.index >= tokens.prompt_length[:, None])

    def ends_of(self, rows: int) -> Tensor:
        """[row, turn] on the CPU, for that many rows: beams and sequences repeat a prompt's."""
        assert self.ends is not None
        return self.ends.cpu().repeat_interleave(rows // len(self.ends), 0)

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
            self.ends = self.find_ends(self.prompt_ids, self.prompt_mask)
            self.t_inst = self.ends[:, -1]
        return self.t_inst.to(device).repeat_interleave(each)

    def find_ends(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[row, turn]: index of the last token of the last user message among the row's real
        tokens; with a decay that of every one, the last one last, -1 in front where a row has
        fewer."""
        template, plan = self.orders.template, self.orders.plan
        if not finds_tail(plan.where) and plan.gate is None:
            return torch.zeros(len(ids), 1, dtype=torch.long)
        mask = mask.to(ids.device)
        rows = [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]
        if plan.decay:
            ends = [turns_before(row, plan.tail) for row in rows] if template is None else \
                template.turns(rows)
            most = max(map(len, ends))
            return torch.tensor([[-1] * (most - len(row)) + row for row in ends])
        if template is None:
            return torch.tensor([before_tail(row, plan.tail) for row in rows])[:, None]
        return torch.tensor(template.t_inst(rows))[:, None]

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
            self.ends = self.find_ends(ids, real & (index < length[:, None])).to(device)
            t_inst = self.ends[:, -1]
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
