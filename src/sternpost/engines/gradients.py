"""What a reply's first token owes to the residual stream of its prompt."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sternpost.types import Completion, Hookpoint, Residuals

if TYPE_CHECKING:
    from sternpost.engines.transformers import TransformersEngine

Path = Callable[[Tensor], Tensor]
"""[seq, d_model] -> [step, seq, d_model]: the streams at which a gradient is taken."""


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


def gradient(engine: "TransformersEngine", completion: Completion, at: Hookpoint,
             path: Path | None = None) -> Residuals:
    """The stream [seq, d_model] of a prompt, and d logit(first reply token) / d stream: there, or
    the mean over the streams of a `path`."""
    own: list[Tensor] = []
    kept: list[Tensor] = []

    def open_up(block: Any, args: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        own.append(h[0].detach())
        kept.append((own[0][None] if path is None else path(own[0])).detach().requires_grad_())
        return (kept[0], *output[1:]) if isinstance(output, tuple) else kept[0]

    prompt = list(completion.prompt_ids)
    steps = 1 if path is None else len(path(torch.zeros(len(prompt), engine.d_model,
                                                        device=engine.model.device)))
    ids, mask = engine.padded([prompt] * steps, left=False)
    handle = engine.blocks.at(at).register_forward_hook(open_up)
    try:
        with torch.enable_grad():
            logits = engine.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            told = logits[:, -1, completion.reply_ids[0]].sum()  # rows do not depend on each other
            (found,) = torch.autograd.grad(told, kept)
    finally:
        handle.remove()
    return Residuals(ids[0].cpu(), own[0].float(), found.float().mean(0))
