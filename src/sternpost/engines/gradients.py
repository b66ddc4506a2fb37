"""What a reply's first token owes to the residual stream of its prompt."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sternpost.types import Completion, Hookpoint, Residuals

if TYPE_CHECKING:
    from sternpost.engines.transformers import TransformersEngine


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside, the model's own parameters ask for no gradient."""
    asking = [p for p in model.parameters() if p.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def gradient(engine: "TransformersEngine", completion: Completion, at: Hookpoint) -> Residuals:
    """The stream [seq, d_model] of a prompt, and d logit(first reply token) / d stream."""
    kept: list[Tensor] = []

    def open_up(block: Any, args: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        kept.append(h.detach().requires_grad_())
        return (kept[0], *output[1:]) if isinstance(output, tuple) else kept[0]

    ids, mask = engine.padded([list(completion.prompt_ids)], left=False)
    handle = engine.blocks.at(at).register_forward_hook(open_up)
    try:
        with torch.enable_grad():
            logits = engine.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            (found,) = torch.autograd.grad(logits[0, -1, completion.reply_ids[0]], kept)
    finally:
        handle.remove()
    return Residuals(ids[0].cpu(), kept[0][0].detach().float(), found[0].float())
