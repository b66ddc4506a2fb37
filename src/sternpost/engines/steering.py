"""The context manager behind `steer`: one plan on one model.

One forward hook a hookpoint writes. An observer on the module that runs the blocks tells it which
tokens a forward holds: their rows, their index among the row's real tokens, where the prompt
ended. `generate` is wrapped on this one model object so that the prompt is what was passed in,
also where the model drops its cache and reads the prompt again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from sternpost.activations import needs_template, tells_thinking
from sternpost.engines.architectures import check_kept, find_place, width
from sternpost.engines.asked import Asked
from sternpost.engines.calls import Call
from sternpost.engines.dosing import dosed
from sternpost.engines.loading import tokenizer_of
from sternpost.engines.prefill import check_reads_above, prefilled
from sternpost.engines.proofs import Orders
from sternpost.engines.reading import Stream
from sternpost.engines.shadow import shadow
from sternpost.engines.templates import Template
from sternpost.errors import EditError, HookpointError, PolicyError, PositionsError
from sternpost.sae import SAE
from sternpost.steering import Change, Table, change, compile_plan, moved
from sternpost.types import Gate, Hookpoint, Plan, Positions, Proof

Reader = Callable[[Stream, Tensor], None]
"""Lets a gate read a forward's stream [row, seq, d_model] at its hookpoint."""
_PACKED = ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager")
"""Calls that pack several prompts into one row."""


class Run:
    """What happened inside a `steer` block."""

    def __init__(self) -> None:
        self.calls: list[list[Proof]] = []
        """The proofs of every finished call, in order."""

    @property
    def proof(self) -> list[Proof]:
        """One record a row, of the last finished call; empty before the first."""
        return self.calls[-1] if self.calls else []


class Steering:
    """The context manager behind `steer`. Holds hooks only between enter and exit."""

    def __init__(self, model: Any, plan: Plan, tokenizer: Any = None) -> None:
        if plan.check is not None:  # before all else: a pack names the model that it is for
            plan.check(model)
        self.model, self.plan = model, plan
        self.sae: SAE = plan.sae
        self.gate: Gate | None = plan.gate
        self.place = find_place(model, self.sae.hookpoint)
        self._check_place()
        self.table: Table = compile_plan(plan)
        if plan.policy is not None and len(set(map(len, self.table.lists))) > 1:
            raise PolicyError("A policy gives a dose for each edit of a row, so every row's list "
                              "has as many edits. Fill the shorter lists up.")
        self.n_lists = self.table.rows.shape[0] if _per_row(plan) else None
        self.tokenizer = tokenizer if tokenizer is not None else tokenizer_of(model)
        self.template = self._template()
        self.run = Run()
        self.call: Call | None = None
        self.stream: Stream | None = None
        """Of the forward on its way to the written block."""
        self.read: Stream | None = None
        """Of the last one that passed it."""
        self.together: Sequence[Steering] = (self,)
        """Those that are written by this one's hook: all read the stream before any has written.
        None where another one's hook writes this one's."""
        self._undo: list[Callable[[], None]] = []
        self.readers: list[tuple[Hookpoint, Reader]] = []
        """Where each gate reads, and how it is given a stream."""
        if (gate := self.gate) is not None:
            self.readers.append((gate.hookpoint, lambda stream, h: stream.gate(gate, h)))
        if (more := plan.continuation) is not None:
            self.readers.append((more.gate.hookpoint, lambda stream, h: stream.follow(more, h)))

    @property
    def orders(self) -> Orders:
        """What a call of the model is to carry out."""
        return Orders(self.plan, self.template, self.table, self.n_lists,
                      self.place.architecture)

    def _template(self) -> Template | None:
        positions = self.plan.where
        if self.gate is None and not needs_template(positions):
            return None
        if self.tokenizer is None and self.plan.tail and not tells_thinking(positions):
            return None
        if self.tokenizer is None:
            raise PositionsError(f"positions={str(positions)!r} are found through the chat "
                                 "template. Give it: steer(..., tokenizer=tokenizer).")
        template = self.tokenizer if isinstance(self.tokenizer, Template) \
            else Template(self.tokenizer)
        if tells_thinking(positions) and template.marks().think_close is None:
            raise PositionsError(f"positions={str(positions)!r}: this chat template marks no "
                                 "reasoning segment. Use 'response'.")
        return template

    # ---- entering and leaving --------------------------------------------------------------

    def __enter__(self) -> Run:
        if self._undo:
            raise EditError("This steering is already active; make another with steer(...).")
        self.run = Run()
        try:
            if self.place.architecture.padding is not None:  # its trunk is not given the mask
                self._undo.append(self.model.register_forward_pre_hook(
                    self._see_mask, with_kwargs=True).remove)
            if self.place.trunk is not None:
                self._undo.append(self.place.trunk.register_forward_pre_hook(
                    self._observe, with_kwargs=True).remove)
                self._undo.append(self.place.trunk.register_forward_hook(self._ran).remove)
            # first in line, so that whoever records hidden states sees the steered ones
            if self.together:
                writer = self.place.module.register_forward_hook(self._write, prepend=True)
                self._undo.append(writer.remove)
            for at, read in self.readers:
                if at != self.sae.hookpoint:
                    reader = find_place(self.model, at).module.register_forward_hook(
                        partial(self._read, read), prepend=True)
                    self._undo.append(reader.remove)
            for name, wrapper in {"generate": self._generate, **dict.fromkeys(_PACKED, _packed)
                                  }.items():
                if hasattr(self.model, name):
                    self._undo.append(shadow(self.model, name, wrapper))
        except BaseException:
            self._leave()
            raise
        return self.run

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._leave()

    def _leave(self) -> None:
        while self._undo:
            self._undo.pop()()
        self.call = self.stream = self.read = None

    # ---- what the hooks do -----------------------------------------------------------------

    def _generate(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        asked = Asked.of(self.model, original, args, kwargs)
        asked.check()
        if isinstance(self.plan.where, Tensor):
            raise PositionsError("A position mask fits one plain forward. In generate(...) use "
                                 "names, e.g. positions='tail+response'.")
        call = Call.of_generate(asked, self.orders)
        self._check_rows(call.n_rows)
        outer, self.call = self.call, call
        try:
            if self.plan.reads_above:
                kwargs = {**kwargs, **prefilled(self.model, asked, call)}
            out = original(*args, **kwargs)
            if not call.pieces:
                self._never_ran()
            self.run.calls.append(call.proofs())
        finally:
            self.call = outer
        return out

    def _see_mask(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        rows = None if mask is None else mask == 1
        check_kept(self.place.architecture, rows, True, (False, 0, 0))

    def _observe(self, trunk: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self.call
        if call is None:
            call = Call.of_forward(trunk, args, kwargs, self.orders)
            self._check_rows(call.n_rows)
        self.stream = call.observe(trunk, args, kwargs)

    def _ran(self, trunk: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.stream is not None:
            self._never_ran()

    def _never_ran(self) -> None:
        raise HookpointError(f"{self.sae.hookpoint} was not written: the model ran without calling "
                             "that module. Its edits would silently do nothing; steer another "
                             "place, or look at the model with `sternpost doctor`.")

    def _read(self, read: Reader, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Lets a gate below or above the written block read."""
        stream = self.stream or self.read  # a gate above reads after the block was written
        if stream is not None:
            read(stream, output[0] if isinstance(output, tuple) else output)

    def _write(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        sideways = getattr(block, "batch_first", True) is False  # torch's recurrent layers
        h = h.transpose(0, 1) if sideways else h
        changes = [change for steering in self.together if (change := steering.change(h))]
        if not changes:
            return None
        new = moved(h.reshape(-1, h.shape[-1]), changes).reshape(h.shape)
        new = new.transpose(0, 1) if sideways else new
        return (new, *output[1:]) if isinstance(output, tuple) else new

    def change(self, h: Tensor) -> Change | None:
        """What this plan makes of a forward's stream [row, seq, d_model]; None for nothing."""
        self.read = stream = self._stream_of(h)
        self.stream = None
        change = self._change(h, stream)
        if stream.call is not self.call:  # a plain forward is a call of its own
            self.run.calls.append(stream.call.proofs())
        return change

    def _stream_of(self, h: Tensor) -> Stream:
        if self.stream is not None:
            return self.stream
        if self.place.trunk is not None:
            raise HookpointError("The block was called by itself. Steering needs the whole model: "
                                 "call model(...) or model.generate(...).")
        if h.dim() != 3 or h.shape[-1] != self.sae.d_model:
            raise HookpointError(
                f"{self.sae.hookpoint} puts out {tuple(h.shape)}; this SAE reads "
                f"(batch, seq, {self.sae.d_model}). Name another module: steer(..., at=...).")
        call = self.call or Call(self.orders, h.shape[0], False)
        self._check_rows(call.n_rows)
        return call.anywhere(h)

    def _change(self, h: Tensor, stream: Stream) -> Change | None:
        if h.device != self.table.D.device:
            self.table, self.sae = self.table.to(h.device), self.sae.to(h.device)
        for at, read in self.readers:
            if at == self.sae.hookpoint:
                read(stream, h)
        edited, on, more = dosed(self.orders, stream, h)
        if not len(self.table.features) and self.plan.error == "keep":
            stream.record(edited, None, None)
            return None
        flat = h.reshape(-1, h.shape[-1])
        done = change(flat, on.reshape(len(flat), -1), edited.reshape(-1), self.table, self.sae,
                      self.plan.how)
        shape = (*h.shape[:2], -1)
        if len(self.table.features):
            stream.record(edited, done.before.reshape(shape), done.after.reshape(shape), more)
        else:
            stream.record(edited, None, None, more)
        return done

    def _check_place(self) -> None:
        sae, model, where = self.sae, self.model, self.plan.where
        if self.place.trunk is not None:
            if width(model) != sae.d_model:
                raise HookpointError(
                    f"SAE {sae.name or '(unnamed)'} was trained on d_model={sae.d_model}, but "
                    f"{type(model).__name__} has d_model={width(model)}. Use an SAE of this model.")
            if self.plan.reads_above:
                check_reads_above(model)
        elif self.gate is not None:
            raise EditError(f"A gate reads a block of the model; {sae.hookpoint} is none. Steer a "
                            "block, e.g. at=\"layers.6\".")
        elif isinstance(where, Positions) and where != Positions("all"):
            raise PositionsError(f"At {sae.hookpoint}, which is no block, nothing tells where a "
                                 f"prompt ends; got positions={str(where)!r}. Use 'all', or in a "
                                 "plain forward a bool mask [batch, seq].")

    def _check_rows(self, n_rows: int) -> None:
        if self.n_lists is not None and self.n_lists != n_rows:
            raise EditError(f"{self.n_lists} lists of edits for a batch of {n_rows} rows. Give one "
                            "list a row, or one flat list for all.")


def _per_row(plan: Plan) -> bool:
    return any(isinstance(item, Sequence) for item in plan.edits)


def _packed(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    raise EditError("Continuous batching packs several prompts into one row and cannot be steered. "
                    "Call model.generate(...) with a padded batch.")
