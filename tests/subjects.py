"""Tiny random models of real architectures, an SAE for them, and what tests look at."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from sternpost.sae import SAE
from sternpost.types import Hookpoint

D, D_SAE, LAYER, VOCAB = 32, 96, 1, 64
SMALL: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": D, "intermediate_size": 64,
                         "num_hidden_layers": 4, "num_attention_heads": 4,
                         "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": None,
                         "eos_token_id": None, "initializer_range": 0.3}


def phi3(**changes: Any) -> Any:
    return Phi3ForCausalLM(Phi3Config(**{**SMALL, **changes}))


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SMALL))


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=D, n_layer=4, n_head=4,
                                      n_positions=64, pad_token_id=0, bos_token_id=None,
                                      eos_token_id=None, initializer_range=0.3))


def loses_its_prompt(model: Any, ids: Any, most: int) -> bool:
    """Whether generating `most` tokens ends otherwise than a forward of the whole: some versions of
    transformers drop Phi-3's cache and then show the model its last token alone."""
    import torch

    said = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=most,
                          do_sample=False, output_logits=True, return_dict_in_generate=True)
    with torch.no_grad():
        again = model(input_ids=said.sequences[:, :-1]).logits
    return float((said.logits[-1][0] - again[0, -1]).abs().max() / again.abs().max()) > 1e-4


def longrope() -> Any:
    """A Phi-3 that drops its cache and reads the prompt again after 16 tokens."""
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
            "rope_theta": 10000.0, "original_max_position_embeddings": 16}
    return phi3(original_max_position_embeddings=16, max_position_embeddings=64,
                rope_parameters=rope)


MODELS = {"phi3": phi3, "llama": llama, "gpt2": gpt2}


def make_sae(**changes: Any) -> SAE:
    g = torch.Generator().manual_seed(1)
    whole: dict[str, Any] = {
        "W_enc": torch.randn(D_SAE, D, generator=g), "W_dec": torch.randn(D_SAE, D, generator=g),
        "b_enc": 0.1 * torch.randn(D_SAE, generator=g), "b_dec": 0.1 * torch.randn(D, generator=g),
        "hookpoint": Hookpoint(LAYER), "k": 8,
        "threshold": torch.rand(D_SAE, generator=g) * 3, "residual_norm": 2.5}
    return SAE(**{**whole, **changes})


def stream(model: Any, ids: Tensor, mask: Tensor | None = None, layer: int = LAYER,
           **options: Any) -> tuple[Tensor, Tensor]:
    """Logits and the output of block `layer` of a plain forward; GPT-2 gets its position ids."""
    if mask is not None:
        options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    kept: list[Tensor] = []

    def look(block: Any, args: Any, out: Any) -> None:
        kept.append(out[0] if isinstance(out, tuple) else out)

    blocks = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    handle = blocks[layer].register_forward_hook(look)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, **options).logits
    handle.remove()
    return logits, kept[0]


def close(got: Tensor, want: Tensor, bound: float = 1e-5) -> None:
    off = float((got - want).abs().max() / want.abs().max())
    assert off <= bound, f"off by {off:.2g} relative, allowed {bound:.2g}"
