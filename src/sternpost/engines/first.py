"""How far steering moves the first token of a reply.

    KL(p || q) = sum over tokens of p log(p / q)      p: the model's own; q: steered; nats
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from sternpost.engines.steering import Steering
from sternpost.engines.templates import turns_of
from sternpost.types import Plan, Request

if TYPE_CHECKING:
    from sternpost.engines.transformers import TransformersEngine


@torch.no_grad()
def first_token_kl(engine: "TransformersEngine", requests: Sequence[Request],
                   plan: Plan) -> list[float]:
    """Nats for each request, of the reply to its first user turn."""
    prompts = [engine.encode(engine.template.render(turns_of(r.messages)[0])) for r in requests]
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    out = [0.0] * len(prompts)
    for start in range(0, len(order), engine.batch_size):
        batch = order[start:start + engine.batch_size]
        own, steered = (_first(engine, [prompts[at] for at in batch], some)
                        for some in (None, plan))
        for at, value in zip(batch, kl_div(steered, own, reduction="none", log_target=True)
                             .sum(-1).clamp(min=0.0).tolist(), strict=True):
            out[at] = value
    return out


def _first(engine: "TransformersEngine", prompts: Sequence[list[int]],
           plan: Plan | None) -> Tensor:
    """[row, token]: log-probabilities of the reply's first token."""
    ids, mask = engine.padded(prompts, left=True)
    steered = nullcontext() if plan is None else Steering(engine.model, plan, engine.template)
    with engine.greedy(1), steered:
        out = engine.model.generate(input_ids=ids, attention_mask=mask, output_logits=True,
                                    return_dict_in_generate=True)
    return out.logits[0].float().log_softmax(-1)
