"""A look at a model from outside, for `doctor`: what it puts out, and which hooks it carries."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sternpost.types import Hookpoint

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
    return logits, kept[0]


def module_hooks(model: nn.Module) -> int:
    """How many forward hooks the model's modules carry."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
