"""A tiny random model of every architecture in the table, built from its config."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from subjects import VOCAB, D

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": D, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": None,
    "eos_token_id": None, "max_position_embeddings": 128, "initializer_range": 0.3}
OLD = {"n_embd": D, "n_layer": 4, "n_head": 4, "n_positions": 128}
ROTARY = {**OLD, "rotary_dim": 8}
HEADS = {"head_dim": 8}
WINDOW = {"head_dim": 8, "sliding_window": 64}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SMALL_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
DEEPSEEK = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
            "v_head_dim": 8, "head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2,
            "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_shared_experts": 1,
            "n_group": 1, "topk_group": 1, "num_key_value_heads": 4}
SSM = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 2,
       "mamba_chunk_size": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "apertus": {}, "arcee": {}, "bamba": {**SSM, "attn_layer_indices": [1, 3]}, "biogpt": {},
    "bloom": {"n_layer": 4, "n_head": 4}, "codegen": ROTARY, "cohere": {},
    "cohere2": {"sliding_window": 64}, "deepseek_v2": {**DEEPSEEK, "topk_method": "greedy"},
    "deepseek_v3": DEEPSEEK, "ernie4_5": HEADS, "exaone4": {},
    "falcon": {"new_decoder_architecture": False},
    "falcon_h1": {**SSM, "mamba_d_ssm": 64}, "falcon_mamba": {"state_size": 8}, "gemma": HEADS,
    "gemma2": WINDOW, "gemma3_text": WINDOW, "glm": HEADS, "glm4": HEADS, "gpt2": OLD,
    "gpt_bigcode": OLD, "gpt_neo": {"num_layers": 4, "num_heads": 4,
                                    "attention_types": [[["global", "local"], 2]]},
    "gpt_neox": {}, "gpt_oss": {**EXPERTS, **HEADS}, "gptj": ROTARY, "granite": {},
    "granitemoe": EXPERTS,
    "granitemoehybrid": {**SSM, **EXPERTS, "layer_types": ["mamba", "attention"] * 2,
                         "shared_intermediate_size": 32},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2,
              "num_experts_per_tok": 1, "expert_layer_period": 2, "use_mamba_kernels": False,
              "mamba_d_state": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 8}, "llama": {},
    "mamba": {"state_size": 8},
    "mamba2": {"head_dim": 8, "num_heads": 8, "state_size": 8, "n_groups": 2, "chunk_size": 8,
               "expand": 2},
    "mistral": {}, "mixtral": EXPERTS, "mpt": {"d_model": D, "n_heads": 4, "n_layers": 4,
                                               "max_seq_len": 128},
    "nemotron": {}, "olmo": {}, "olmo2": {}, "olmo3": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": D}, "phi": {}, "phi3": {}, "phimoe": EXPERTS,
    "qwen2": {}, "qwen2_moe": {**SMALL_EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": HEADS, "qwen3_moe": {**SMALL_EXPERTS, **HEADS},
    "qwen3_next": {**SMALL_EXPERTS, **HEADS, "linear_num_value_heads": 4,
                   "linear_num_key_heads": 2, "linear_key_head_dim": 8,
                   "linear_value_head_dim": 8, "shared_expert_intermediate_size": 32,
                   "layer_types": ["linear_attention", "full_attention"] * 2},
    "recurrent_gemma": {**HEADS, "attention_window_size": 64, "lru_width": D},
    "rwkv": {"attention_hidden_size": D}, "seed_oss": HEADS, "smollm3": {}, "stablelm": {},
    "starcoder2": {}, "xglm": {"d_model": D, "num_layers": 4, "attention_heads": 4,
                               "ffn_dim": 64},
    "zamba2": {"mamba_d_state": 8, "mamba_ngroups": 1, "n_mamba_heads": 8, "chunk_size": 8,
               "num_mem_blocks": 1, "num_key_value_heads": 4, "adapter_rank": 4,
               "layers_block_type": ["mamba", "hybrid"] * 2, "hybrid_layer_ids": [1, 3]}}


FAST = {"bloom", "falcon", "gemma2", "gpt2", "jamba", "llama", "mamba", "mixtral", "opt",
        "recurrent_gemma", "rwkv"}
"""The fast tests take these; the slow ones all."""


def family(name: str, **changes: Any) -> Any:
    """A random model; skips what this transformers does not have."""
    import pytest

    try:
        config = AutoConfig.for_model(name, **{**SHAPE, **FAMILIES[name], **changes})
    except ValueError as error:
        if "identifier" not in str(error):
            raise
        pytest.skip(f"this transformers has no {name}")
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()
