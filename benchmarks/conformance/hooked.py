"""A transformers model that a library steers in place."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.conformance.subject import NEW


class Hooked:
    """Plain forwards and greedy replies of a model that something else has put hooks on."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.no_grad()
    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[row, seq, vocabulary] of a plain forward."""
        position = (mask.cumsum(1) - 1).clamp(min=0)
        out: Tensor = self.model(input_ids=ids, attention_mask=mask, position_ids=position).logits
        return out

    @torch.no_grad()
    def generate(self, ids: Tensor, cached: bool = True) -> Tensor:
        """[row, seq + NEW] greedy."""
        out: Tensor = self.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW,
            do_sample=False, use_cache=cached)
        return out
