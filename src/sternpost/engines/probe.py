"""A look at a model from outside, for `doctor`: what it puts out, and which hooks it carries."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from sternpost.engines.steer import steer
from sternpost.errors import HookpointError
from sternpost.types import Hookpoint, Plan

if TYPE_CHECKING:
    from sternpost.engines.transformers import TransformersEngine


@torch.no_grad()
def logits_and_stream(engine: "TransformersEngine", ids: Tensor, at: Hookpoint,
                      replace: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits [1, seq, vocabulary] and the residual stream [1, seq, d_model] of a plain forward;
    with `replace` the stream is replaced by it."""
    kept: list[Tensor] = []

    def look(block: Any, args: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        kept.append(h)
        if replace is None:
            return None
        return (replace, *output[1:]) if isinstance(output, tuple) else replace

    handle = engine.blocks.at(at).register_forward_hook(look)
    try:
        logits = engine.model(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    if not kept:
        raise _never_ran(engine, at)
    return logits, kept[0]


def _never_ran(engine: "TransformersEngine", at: Hookpoint) -> HookpointError:
    return HookpointError(f"The forward hook of {engine.blocks.path}[{at.layer}] never ran: this "
                          "model does not call its blocks as modules, so nothing can be read or "
                          "written there.")


@torch.no_grad()
def streams(engine: "TransformersEngine", at: Hookpoint, plan: Plan | None,
            calls: Sequence[dict[str, Any]], row: int = 0) -> Tensor:
    """[block, token, d_model], float32: one row of what the written block and those above it put
    out in these forwards, one after the other over one cache."""
    model, blocks = engine.model, engine.blocks
    blocks.at(at)
    kept: list[list[Tensor]] = []

    def look(block: Any, args: Any, output: Any) -> None:
        kept[-1].append((output[0] if isinstance(output, tuple) else output)[row].float())

    carry, name = len(calls) > 1, blocks.architecture.state
    state: dict[str, Any] = {}
    if carry and name == "past_key_values":
        state[name] = DynamicCache(config=model.config)
    with nullcontext() if plan is None else steer(model, plan):
        handles = [block.register_forward_hook(look) for block in blocks.blocks[at.layer:]]
        try:
            for call in calls:
                kept.append([])
                out = model(**call, **state, use_cache=carry)
                if not kept[-1]:
                    raise _never_ran(engine, at)
                if carry and not state:
                    state = {name: out[name]}
        finally:
            for handle in handles:
                handle.remove()
    return torch.cat([torch.stack(part) for part in kept], 1)


def module_hooks(model: nn.Module) -> int:
    """How many forward hooks the model's modules carry."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
