"""`steer(model, sae, edits)`: any forward or `generate` of a transformers model inside is steered.

One forward hook a hookpoint writes. An observer on the module that runs the blocks tells it which
tokens a forward holds: their rows, their index among the row's real tokens, where the prompt
ended. `generate` is wrapped on this one model object so that the prompt is what was passed in,
also where the model drops its cache and reads the prompt again.

Covered: plain forwards, greedy, sampled and beam `generate`, padding on either side, any cache,
chunked prefill; a gate that decides each row once, at t_inst. Not covered: assisted generation,
guidance and continuous batching (refused), several processes, one model in several threads.
Overall: hooks and wrapper are gone when the block is left, also by an exception.
"""

import inspect
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from sternpost.activations import needs_template, tells_thinking
from sternpost.engines.architectures import find_blocks, width
from sternpost.engines.calls import Asked, Call, Stream
from sternpost.engines.loading import tokenizer_of
from sternpost.engines.proofs import Orders
from sternpost.engines.templates import Template
from sternpost.errors import EditError, HookpointError, PositionsError
from sternpost.sae import SAE, adopt
from sternpost.steering import Table, compile_plan, write
from sternpost.types import Gate, Plan, Proof

_REFUSED = {"assistant_model": "assisted generation", "custom_generate": "custom generation loops",
            "prompt_lookup_num_tokens": "prompt-lookup decoding", "assistant_early_exit":
            "early-exit decoding", "penalty_alpha": "contrastive search", "dola_layers":
            "DoLa decoding"}
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


def steer(model: Any, sae_or_plan: Any, edits: Sequence[Any] = (), *, mode: str | None = None,
          positions: Any = None, error: str | None = None, at: str | None = None,
          tokenizer: Any = None) -> "Steering":
    """A context in which `model` is steered; it gives a `Run` with the proof.

    `edits`: one list for all rows, or one list a row. `mode`: exact (default), threshold, relu.
    `positions`: all (default), prompt, t_inst, tail, response, thinking, answer, last(k), joined
    by "+"; or `Positions(...)`, or in a plain forward a bool mask [batch, seq]. `error`: keep
    (default) or drop. `at`: the block, for an SAE that does not say. Raises EditError,
    HookpointError, PositionsError, SAEError.
    """
    plan = _plan(sae_or_plan, edits, (mode, positions, error), at)
    return Steering(model, plan, tokenizer)


def _plan(sae_or_plan: Any, edits: Sequence[Any], given: tuple[Any, Any, Any],
          at: str | None) -> Plan:
    mode, positions, error = given
    if isinstance(sae_or_plan, Plan):
        if any(value is not None for value in given) or len(tuple(edits)):
            raise EditError("A plan brings its own edits, mode, positions and error; giving one of "
                            "them beside it is ambiguous. Build another Plan(...) instead.")
        return sae_or_plan
    return Plan(adopt(sae_or_plan, at), tuple(edits), mode or "exact",  # type: ignore[arg-type]
                "all" if positions is None else positions,
                error or "keep")  # type: ignore[arg-type]


class Steering:
    """The context manager behind `steer`. Holds hooks only between enter and exit."""

    def __init__(self, model: Any, plan: Plan, tokenizer: Any = None) -> None:
        self.model, self.plan = model, plan
        self.blocks = find_blocks(model)
        self.block = self.blocks.at(plan.sae.hookpoint)
        _check_width(model, plan.sae)
        self.sae: SAE = plan.sae
        self.table: Table = compile_plan(plan)
        self.gate: Gate | None = plan.gate
        self.n_lists = self.table.rows.shape[0] if _per_row(plan) else None
        self.tokenizer = tokenizer if tokenizer is not None else tokenizer_of(model)
        self.template = self._template()
        self.run = Run()
        self.call: Call | None = None
        self.stream: Stream | None = None
        self._undo: list[Callable[[], None]] = []

    @property
    def orders(self) -> Orders:
        """What a call of the model is to carry out."""
        return Orders(self.plan, self.template, self.table, self.n_lists)

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
        if self.plan.check is not None:
            self.plan.check(self.model)
        self.run = Run()
        observer = self.blocks.trunk.register_forward_pre_hook(self._observe, with_kwargs=True)
        self._undo.append(observer.remove)
        try:
            # first in line, so that whoever records hidden states sees the steered ones
            writer = self.block.register_forward_hook(self._write, prepend=True)
            self._undo.append(writer.remove)
            if self.gate is not None and self.gate.hookpoint != self.sae.hookpoint:
                reader = self.blocks.at(self.gate.hookpoint).register_forward_hook(
                    self._read, prepend=True)
                self._undo.append(reader.remove)
            self._undo.append(_shadow(self.model, "generate", self._generate))
            for name in _PACKED:
                if hasattr(self.model, name):
                    self._undo.append(_shadow(self.model, name, _packed))
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
        self.call = self.stream = None

    # ---- what the hooks do -----------------------------------------------------------------

    def _generate(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        asked = Asked.of(self.model, original, args, kwargs)
        for name, what in _REFUSED.items():
            if asked.setting(name) is not None:
                raise EditError(f"{what} ({name}=...) cannot be steered. Leave it out.")
        if asked.setting("guidance_scale") not in (None, 1, 1.0):
            raise EditError("Classifier-free guidance (guidance_scale=...) runs the model on two "
                            "prompts at once and cannot be steered. Leave it out.")
        if isinstance(self.plan.where, Tensor):
            raise PositionsError("A position mask fits one plain forward. In generate(...) use "
                                 "names, e.g. positions='tail+response'.")
        call = Call.of_generate(asked, self.orders)
        self._check_rows(call.n_rows)
        outer, self.call = self.call, call
        try:
            out = original(*args, **kwargs)
            self.run.calls.append(call.proofs())
        finally:
            self.call = outer
        return out

    def _observe(self, trunk: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self.call
        if call is None:
            call = Call.of_forward(trunk, args, kwargs, self.orders)
            self._check_rows(call.n_rows)
        self.stream = call.observe(trunk, args, kwargs)

    def _read(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Lets a gate below the written block read."""
        if self.stream is not None and self.gate is not None:
            self.stream.gate(self.gate, output[0] if isinstance(output, tuple) else output)

    def _write(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self.stream is None:
            raise HookpointError("The block was called by itself. Steering needs the whole model: "
                                 "call model(...) or model.generate(...).")
        stream, self.stream = self.stream, None
        h = output[0] if isinstance(output, tuple) else output
        new = self._apply(h, stream)
        if stream.call is not self.call:  # a plain forward is a call of its own
            self.run.calls.append(stream.call.proofs())
        if new is h:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    def _apply(self, h: Tensor, stream: Stream) -> Tensor:
        if h.device != self.table.D.device:
            self.table, self.sae = self.table.to(h.device), self.sae.to(h.device)
        if self.gate is not None:
            if self.gate.hookpoint == self.sae.hookpoint:
                stream.gate(self.gate, h)
            stream.edited = stream.opened(self.gate.threshold)
        edited = stream.edited.to(h.device)
        if not len(self.table.features) and self.plan.error == "keep":
            stream.record(edited, None, None)
            return h
        rows = self.table.rows
        if self.n_lists is not None:
            rows = rows.repeat_interleave(h.shape[0] // len(rows), 0)
        on = edited[:, :, None] & rows[:, None, :]
        flat = h.reshape(-1, h.shape[-1])
        done = write(flat, on.reshape(len(flat), -1), edited.reshape(-1), self.table, self.sae,
                     (self.plan.mode, self.plan.error))
        shape = (*h.shape[:2], -1)
        if len(self.table.features):
            stream.record(edited, done.before.reshape(shape), done.after.reshape(shape))
        else:
            stream.record(edited, None, None)
        return done.h.reshape(h.shape)

    def _check_rows(self, n_rows: int) -> None:
        if self.n_lists is not None and self.n_lists != n_rows:
            raise EditError(f"{self.n_lists} lists of edits for a batch of {n_rows} rows. Give one "
                            "list a row, or one flat list for all.")


def _per_row(plan: Plan) -> bool:
    return any(isinstance(item, Sequence) for item in plan.edits)


def _check_width(model: Any, sae: SAE) -> None:
    if width(model) != sae.d_model:
        raise HookpointError(
            f"SAE {sae.name or '(unnamed)'} was trained on d_model={sae.d_model}, but "
            f"{type(model).__name__} has d_model={width(model)}. Use an SAE of this model.")


def _packed(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    raise EditError("Continuous batching packs several prompts into one row and cannot be steered. "
                    "Call model.generate(...) with a padded batch.")


class _Shadow:
    """Stands before a method of one object, and may be taken away in any order."""

    def __init__(self, original: Callable[..., Any], before: Any,
                 wrapper: Callable[..., Any]) -> None:
        self.original, self.before, self.wrapper = original, before, wrapper
        self.active = True
        self.__signature__ = inspect.signature(original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.active:
            return self.original(*args, **kwargs)
        return self.wrapper(self.original, *args, **kwargs)


def _shadow(model: Any, name: str, wrapper: Callable[..., Any]) -> Callable[[], None]:
    """Puts `wrapper` before `model.NAME` on this object; gives back what undoes it."""
    shadow = _Shadow(getattr(model, name), model.__dict__.get(name), wrapper)

    def undo() -> None:
        shadow.active = False
        while isinstance(top := model.__dict__.get(name), _Shadow) and not top.active:
            if top.before is None:
                del model.__dict__[name]
            else:
                model.__dict__[name] = top.before

    model.__dict__[name] = shadow
    return undo
