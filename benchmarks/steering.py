"""What steering costs: greedy generation with and without a clamp, on a 27M-parameter Llama."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.record import alternate, write
from sternpost import Clamp, Hookpoint, steer
from sternpost.sae import SAE

D, D_SAE = 512, 4096


def measure(n: int = 11) -> None:
    """8 rows of 32 tokens, 32 new ones, one feature of a 4,096-feature SAE."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=4096, hidden_size=D, intermediate_size=1408, num_hidden_layers=8,
        num_attention_heads=8, eos_token_id=None, pad_token_id=0)).eval()
    sae = SAE(torch.randn(D_SAE, D), torch.randn(D_SAE, D), torch.zeros(D_SAE), torch.zeros(D),
              Hookpoint(1), k=32, threshold=torch.ones(D_SAE))
    ids = torch.randint(1, 4096, (8, 32))

    def plain() -> Any:
        return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids),
                              max_new_tokens=32, do_sample=False)

    def steered(edits: list[Clamp], mode: str) -> Callable[[], Any]:
        def run() -> Any:
            with steer(model, sae, edits, mode=mode):
                return plain()
        return run

    seconds = alternate({"unsteered": plain, "no_edits": steered([], "exact"),
                         "threshold": steered([Clamp(3, 8.0)], "threshold"),
                         "exact": steered([Clamp(3, 8.0)], "exact")}, n)
    write("steering", seconds, "unsteered",
          "generate, 8 rows, 32 prompt and 32 new tokens, Llama d_model 512, 8 blocks, float32; "
          "SAE d_sae 4096, k 32")
