"""dinghy's corpus on other bodies: a Llama, and a model of GRU layers. Of about dinghy's size, with
its tokenizer and its recipe but for fewer epochs and the Llama's learning rate. Never shipped.

A GRU block, bias-free (arXiv 1406.1078), after pre-norm residual networks:

    h <- h + W_o s,   s[t] = GRU(norm(h[t]), s[t - 1])
    h <- h + W_d (silu(W_g n) * W_u n),   n = norm(h)

Its state of every token that was read is kept where others keep a token's key, so that any prefix
can be carried on, and tokens that are masked, wherever they stand, are as if they were not there.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from sternpost.dinghy.corpus import training_rows
from sternpost.dinghy.tokens import encode
from sternpost.dinghy.training import Recipe, train
from sternpost.files import read_json, write_json
from sternpost.trials.load import load_model

EPOCHS = 1.2
"""As many as half an hour on one thread has room for; dinghy's own are 3.6."""
SIZE = {"llama": 352, "gru": 200}
"""Width of the MLP: about as many parameters as dinghy."""
RATE = {"llama": 0.002, "gru": 0.004}
"""Dinghy's, but for the Llama: there Muon turns queries and keys by themselves, and at twice this
rate training diverged after 200 steps."""


class GRUConfig(PretrainedConfig):
    """Sizes of a GRU model."""

    model_type = "sternpost_gru"

    def __init__(self, vocab_size: int = 64, hidden_size: int = 32, intermediate_size: int = 48,
                 num_hidden_layers: int = 4, **others: Any) -> None:
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.intermediate_size, self.num_hidden_layers = intermediate_size, num_hidden_layers
        super().__init__(**others)


class GRUBlock(nn.Module):
    """[row, seq, d_model] -> [row, seq, d_model]; a state a token in the cache."""

    def __init__(self, config: GRUConfig, layer: int) -> None:
        super().__init__()
        d, inner, self.layer = config.hidden_size, config.intermediate_size, layer
        self.mix_norm, self.mlp_norm = nn.RMSNorm(d, 1e-5), nn.RMSNorm(d, 1e-5)
        self.gru = nn.GRU(d, d, bias=False, batch_first=True)
        self.out = nn.Linear(d, d, bias=False)
        self.gate_up = nn.Linear(d, 2 * inner, bias=False)
        self.down = nn.Linear(inner, d, bias=False)

    def forward(self, h: Tensor, real: Tensor | None, cache: Any) -> Tensor:
        """The stream after this block. `real` [row, all columns so far]: None for all."""
        past = none = h.new_empty(len(h), 1, 0, h.shape[-1])
        if cache is not None:
            past = cache.update(none, none, self.layer)[0]
        state = self.states(self.mix_norm(h), real, past[:, 0])
        if cache is not None:
            cache.update(state[:, None], state[:, None], self.layer)
        h = h + self.out(state)
        gate, up = self.gate_up(self.mlp_norm(h)).chunk(2, -1)
        return h + self.down(nn.functional.silu(gate) * up)

    def states(self, x: Tensor, real: Tensor | None, past: Tensor) -> Tensor:
        """[row, seq, d_model]: the state after each token, real ones read one after the other."""
        rows, seq, d = x.shape
        past = torch.cat([x.new_zeros(rows, 1, d), past], 1)
        if real is None:
            return self.gru(x, past[None, :, -1].contiguous())[0]
        before, now = nn.functional.pad(real[:, :-seq].long(), (1, 0)), real[:, -seq:]
        last = (before * torch.arange(past.shape[1], device=x.device)).max(1).values
        begin = past[torch.arange(rows, device=x.device), last][None]
        order = (~now).long().argsort(dim=1, stable=True)[:, :, None].expand_as(x)
        return torch.empty_like(x).scatter(1, order, self.gru(x.gather(1, order), begin)[0])


class GRUTrunk(nn.Module):
    """Embedding, blocks, last norm."""

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(GRUBlock(config, at) for at in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, 1e-5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                position_ids: Tensor | None = None, past_key_values: Any = None,
                use_cache: bool = True,
                output_hidden_states: bool = False) -> BaseModelOutputWithPast:
        """Order is all that a position says here, so `position_ids` are not asked."""
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        real = None if attention_mask is None else attention_mask != 0
        streams = [self.embed_tokens(input_ids)]
        for block in self.layers:
            streams.append(block(streams[-1], real, past_key_values))
        return BaseModelOutputWithPast(
            self.norm(streams[-1]), past_key_values,
            tuple(streams) if output_hidden_states else None)


class GRUForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model of GRU layers."""

    config_class = GRUConfig
    base_model_prefix = "model"
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: GRUConfig) -> None:
        super().__init__(config)
        self.model = GRUTrunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """torch's own start suits a GRU."""
        if not isinstance(module, nn.GRU):
            super()._init_weights(module)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                position_ids: Tensor | None = None, past_key_values: Any = None,
                use_cache: bool = True, logits_to_keep: int = 0,
                **others: Any) -> CausalLMOutputWithPast:
        """Logits of the last `logits_to_keep` tokens, 0 for all."""
        out = self.model(input_ids, attention_mask, position_ids, past_key_values, use_cache,
                         bool(others.get("output_hidden_states")))
        assert out.last_hidden_state is not None
        return CausalLMOutputWithPast(
            logits=self.lm_head(out.last_hidden_state[:, -logits_to_keep:]),  # type: ignore
            past_key_values=out.past_key_values, hidden_states=out.hidden_states)


AutoConfig.register(GRUConfig.model_type, GRUConfig, exist_ok=True)
AutoModelForCausalLM.register(GRUConfig, GRUForCausalLM, exist_ok=True)


def untrained(name: str, recipe: Recipe, tokenizer: Any) -> Any:
    """A body of this name."""
    torch.manual_seed(recipe.seed)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": recipe.d_model,
             "intermediate_size": recipe.d_mlp, "num_hidden_layers": recipe.layers,
             "max_position_embeddings": 512, "tie_word_embeddings": True,
             "initializer_range": 0.03, "pad_token_id": tokenizer.pad_token_id,
             "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    if name == "gru":
        return GRUForCausalLM(GRUConfig(**sizes))
    config = LlamaConfig(
        **sizes, num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta})
    config._attn_implementation = "eager"  # as dinghy's
    return LlamaForCausalLM(config)


def trained(name: str, folder: Path, told: Callable[[int, int, float], None]) -> dict[str, Any]:
    """Trains a body into `folder`, unless it lies there; gives what it was made with."""
    if (folder / "recipe.json").is_file():
        return read_json(folder / "recipe.json")
    start = time.process_time()
    recipe = replace(Recipe(), d_mlp=SIZE[name], epochs=EPOCHS, lr=RATE[name])
    _, tokenizer = load_model("dinghy")
    model = untrained(name, recipe, tokenizer)
    train(model, encode(tokenizer, list(training_rows(recipe.rows, recipe.seed))), recipe, told)
    with tempfile.TemporaryDirectory() as building:
        model.bfloat16().save_pretrained(building)
        tokenizer.save_pretrained(building)
        made = {**asdict(recipe), "threads": torch.get_num_threads(), "torch": torch.__version__,
                "parameters": model.num_parameters(), "minutes": (time.process_time() - start) / 60}
        write_json(Path(building) / "recipe.json", made)
        shutil.copytree(building, folder, dirs_exist_ok=True)
    return made
