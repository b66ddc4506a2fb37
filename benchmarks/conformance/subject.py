"""What every library is tried on: a small random Llama in a folder, an SAE, and the right answers.

The reference is the hook that one would write by hand; nothing of sternpost computes it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import sternpost
from sternpost.sae import SAE
from sternpost.types import Hookpoint

LAYER, FEATURE, VALUE, STRENGTH = 1, 5, 6.0, 6.0
NEW = 8
"""Tokens of a reply."""


@dataclass(frozen=True)
class Subject:
    """One model, and what is to be done to it."""

    folder: Path
    tokenizer: Any
    sae: SAE
    vector: Tensor
    """Unit length; STRENGTH of it are added."""

    def model(self) -> Any:
        """A fresh copy of the model."""
        return AutoModelForCausalLM.from_pretrained(self.folder).eval()

    def clamped(self, h: Tensor) -> Tensor:
        """h + (VALUE - a) d of the clamped feature."""
        pre = h @ self.sae.W_enc.T  # the subject's SAE has no biases
        assert self.sae.k is not None
        a = pre[..., FEATURE, None].relu()
        a = a.where(a >= pre.topk(self.sae.k).values[..., -1:], 0.0)
        return h + (VALUE - a) * self.sae.W_dec[FEATURE]

    def added(self, h: Tensor) -> Tensor:
        """h + STRENGTH v."""
        return h + STRENGTH * self.vector


def subject(folder: Path) -> Subject:
    """Writes the model to `folder`."""
    _, tokenizer = sternpost.load_model("dinghy")
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128,
                         num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
                         initializer_range=0.2, pad_token_id=tokenizer.pad_token_id,
                         bos_token_id=None, eos_token_id=None, max_position_embeddings=256)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = torch.nn.functional.normalize(torch.randn(256, 64), dim=1)
    sae = SAE(rows, rows.clone(), torch.zeros(256), torch.zeros(64), Hookpoint(LAYER), k=16)
    return Subject(folder, tokenizer, sae, torch.nn.functional.normalize(torch.randn(64), dim=0))


@contextmanager
def by_hand(model: Any, change: Callable[[Tensor], Tensor], calls: int | None = None,
            start: int = 0) -> Iterator[None]:
    """`change` at the block's output, from column `start` of the sequence on; of the first `calls`
    forwards only, where that is given."""
    seen = [0, 0]

    def hook(block: Any, args: Any, out: Any) -> Any:
        h = out[0] if isinstance(out, tuple) else out
        seen[0] += 1
        column = torch.arange(seen[1], seen[1] + h.shape[1])
        seen[1] += h.shape[1]
        if calls is not None and seen[0] > calls:
            return out
        new = torch.where((column >= start)[None, :, None], change(h), h)
        return (new, *out[1:]) if isinstance(out, tuple) else new

    handle = model.model.layers[LAYER].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
