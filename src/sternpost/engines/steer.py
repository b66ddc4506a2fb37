"""`steer(model, sae, edits)`: any forward or `generate` of a transformers model inside is steered.

Covered: plain forwards, greedy, sampled and beam `generate`, padding on either side, any cache,
chunked prefill; several plans at several hookpoints; any module, by its path; a gate that decides
each row once, at t_inst or over all user messages; a gate that follows each reply. Not covered:
assisted generation, guidance and continuous batching (refused), several processes, one model in
several threads. Overall: hooks and wrapper are gone when the block is left, also by an exception;
what a model itself computes differently in a batch, with padding or in chunks is refused
(architectures.py).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, overload

from sternpost.engines.architectures import resolve
from sternpost.engines.steering import Run, Steering
from sternpost.errors import EditError
from sternpost.sae import adopt
from sternpost.types import Plan


@overload
def steer(model: Any, sae_or_plan: Sequence[Plan],  # pyright: ignore[reportOverlappingOverload]
          *, tokenizer: Any = None) -> "Several": ...
@overload
def steer(model: Any, sae_or_plan: Any, edits: Sequence[Any] = (), *, mode: str | None = None,
          positions: Any = None, error: str | None = None, at: str | None = None,
          tokenizer: Any = None) -> "Steering": ...
def steer(model: Any, sae_or_plan: Any, edits: Sequence[Any] = (), *, mode: str | None = None,
          positions: Any = None, error: str | None = None, at: str | None = None,
          tokenizer: Any = None) -> "Steering | Several":
    """A context in which `model` is steered; it gives a `Run` with the proof, or, for a list of
    plans, one `Run` each.

    `edits`: one list for all rows, or one list a row. `mode`: exact (default), threshold, relu.
    `positions`: all (default), prompt, t_inst, tail, response, thinking, answer, last(k), joined
    by "+"; or `Positions(...)`, or in a plain forward a bool mask [batch, seq]. `error`: keep
    (default) or drop. `at`: the block, for an SAE that does not say; or the path of any module
    that puts out [batch, seq, d_model]. Raises EditError, HookpointError, PositionsError, SAEError.
    """
    if isinstance(sae_or_plan, list | tuple) and all(isinstance(p, Plan) for p in sae_or_plan):
        _check_alone((mode, positions, error, at), edits)
        return Several(model, sae_or_plan, tokenizer)
    plan = _plan(sae_or_plan, edits, (mode, positions, error), resolve(model, at))
    return Steering(model, plan, tokenizer)


def _plan(sae_or_plan: Any, edits: Sequence[Any], given: tuple[Any, Any, Any],
          at: Any) -> Plan:
    mode, positions, error = given
    if isinstance(sae_or_plan, Plan):
        _check_alone((*given, at), edits)
        return sae_or_plan
    return Plan(adopt(sae_or_plan, at), tuple(edits), mode or "exact",  # type: ignore[arg-type]
                "all" if positions is None else positions,
                error or "keep")  # type: ignore[arg-type]


def _check_alone(given: Sequence[Any], edits: Sequence[Any]) -> None:
    if any(value is not None for value in given) or len(tuple(edits)):
        raise EditError("A plan brings its own edits, mode, positions, error and place; giving one "
                        "beside it is ambiguous. Build another Plan(...) instead.")


class Several:
    """A context in which a model is steered by several plans; it gives a `Run` for each.

    A plan reads the stream as those at lower blocks have left it; those at one place all read it
    before any of them writes, and are written together. Raises EditError where two at one place
    drop the SAE's error: the stream cannot be replaced twice.
    """

    def __init__(self, model: Any, plans: Sequence[Plan], tokenizer: Any = None) -> None:
        if not plans:
            raise EditError("An empty list of plans steers nothing. Give plans, or an SAE and "
                            "edits.")
        dropping = [plan.sae.hookpoint for plan in plans if plan.error == "drop"]
        if twice := next((at for at in dropping if dropping.count(at) > 1), None):
            raise EditError(f"Two plans at {twice} with error='drop': each would put its own "
                            "reconstruction in the place of the stream. Let one of them drop, the "
                            "others keep.")
        self.steerings = [Steering(model, plan, tokenizer) for plan in plans]
        places = [steering.place.module for steering in self.steerings]
        for place, steering in zip(places, self.steerings, strict=True):
            first = places.index(place) == self.steerings.index(steering)
            steering.together = [other for where, other in zip(places, self.steerings, strict=True)
                                 if first and where is place]
        self._stack = ExitStack()

    def __enter__(self) -> tuple[Run, ...]:
        with ExitStack() as stack:
            runs = tuple(stack.enter_context(steering) for steering in self.steerings)
            self._stack = stack.pop_all()
        return runs

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, value, trace)
