"""steering-vectors 0.12.2: `min_token_index` counts within each forward, so with a cache only the
prefill can be reached. Prints the stream's norm at a reply's tokens: with a cache, without.
"""

import torch
from steering_vectors import SteeringVector
from transformers import LlamaConfig, LlamaForCausalLM

model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2,
                                     num_attention_heads=4, intermediate_size=64))
ids, seen = torch.randint(1, 64, (1, 9)), []
model.model.layers[1].register_forward_pre_hook(lambda m, a: seen.append(float(a[0][0, -1].norm())))
for cached in (True, False):
    with SteeringVector({0: torch.full((32,), 50.)}).apply(model, min_token_index=9):
        model.generate(ids, max_new_tokens=4, do_sample=False, use_cache=cached)
    print(seen[-3:])  # should be equal; the last three tokens of the reply
