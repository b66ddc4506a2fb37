"""What must not change a steered stream: the cache, chunks, neighbours, padding. doctor's battery.

Each compares two ways to read the same tokens, by max|dh| / max|h| over the written block and all
above it, steered and unsteered: steered <= max(1e-5, twice unsteered). What the architecture's row
says the model itself does not keep is printed with its figure, and sternpost has to refuse it.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from sternpost.engines.probe import streams
from sternpost.errors import EditError
from sternpost.jobs.patient import Patient
from sternpost.types import Plan

Read = Callable[[Plan | None], Tensor]
"""A way to read tokens under a plan: [block, token, d_model]."""
WRONG = {True: 1e-3, False: 5e-2}
"""A float32 (or half-precision) model that is off by more than this by itself does not keep it."""


def cache(p: Patient) -> tuple[bool, str]:
    """Token by token over a cache, as decoding does, against one forward."""
    ids = p.prompt()
    parts = [{"input_ids": part} for part in (ids[:, :4], *ids[:, 4:].split(1, 1))]
    return _compare(p, _reading(p, *parts), _reading(p, {"input_ids": ids}), None, "with a cache")


def chunks(p: Patient) -> tuple[bool, str]:
    """A prompt in two cached parts against one forward."""
    ids = p.prompt()
    parts = [{"input_ids": part} for part in ids.tensor_split(2, 1)]
    return _compare(p, _reading(p, *parts), _reading(p, {"input_ids": ids}),
                    p.engine.blocks.architecture.chunks, "in chunks")


def batch(p: Patient) -> tuple[bool, str]:
    """A row among others, of the same length, against the row by itself."""
    ids = p.prompt()
    others = torch.cat([ids.roll(1, 1), ids, ids.flip(1)])
    return _compare(p, _reading(p, {"input_ids": others}, row=1), _reading(p, {"input_ids": ids}),
                    None, "in a batch")


def padding(p: Patient) -> tuple[bool, str]:
    """A left-padded row against the row by itself."""
    ids = p.prompt()
    pad = torch.cat([ids[:, :1].expand(1, 5), ids], 1)
    mask = torch.ones_like(pad)
    mask[:, :5] = 0
    given = {"input_ids": pad, "attention_mask": mask}
    if "position_ids" in inspect.signature(p.engine.model.forward).parameters:
        given["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    padded = _reading(p, given)
    return _compare(p, lambda plan: padded(plan)[:, 5:], _reading(p, {"input_ids": ids}),
                    p.engine.blocks.architecture.padding, "with left padding")


def _reading(p: Patient, *calls: dict[str, Tensor], row: int = 0) -> Read:
    return lambda plan: streams(p.engine, p.at, plan, calls, row)


def _compare(p: Patient, one: Read, other: Read, lost: float | None,
             how: str) -> tuple[bool, str]:
    whole = next(p.engine.model.parameters()).dtype == torch.float32
    plain, plan = _off(one(None), other(None)), p.plan()
    if plain > WRONG[whole] and lost is None:
        return False, (f"the unsteered model itself is off by {plain:.1g} {how}, and no row of the "
                       "architecture table says so: sternpost does not guard against it")
    if lost is not None:
        try:
            one(plan)
        except EditError:
            return True, (f"the model itself is off by {plain:.1g} {how} (its row says {lost:g}); "
                          "sternpost refuses to steer it so")
        return False, f"the model itself is off by {plain:.1g} {how}, and sternpost steered it"
    steered = _off(one(plan), other(plan))
    bound = max(1e-5 if whole else 2e-2, 2 * plain)
    return steered <= bound, f"{how} the steered stream is off by {steered:.1g}, " \
                             f"unsteered by {plain:.1g}"


def _off(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())
