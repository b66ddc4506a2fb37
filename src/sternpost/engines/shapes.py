"""How large a model is: from its config alone, nothing loaded, or as it stands in memory."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from sternpost.engines.architectures import find_blocks, width
from sternpost.engines.loading import check_config
from sternpost.errors import HookpointError, ModelError


@dataclass(frozen=True)
class Shape:
    """Sizes of a causal language model."""

    d_model: int
    n_layers: int
    parameters: int
    blocks: tuple[int, ...]
    """Parameters of each block."""

    def below(self, layer: int) -> int:
        """Parameters that a token passes up to the output of block `layer`, embedding aside."""
        return sum(self.blocks[:layer + 1])

    def check(self, layers: tuple[int, ...], name: str) -> None:
        """Raises HookpointError where there is no such block."""
        if wrong := [layer for layer in layers if layer >= self.n_layers]:
            raise HookpointError(f"Layer {wrong[0]} is out of range: {name} has {self.n_layers} "
                                 f"blocks, 0 to {self.n_layers - 1}. Give other layers.")


def shape_of(name: str, revision: str | None = None) -> Shape:
    """The shape that the config of `name`, a folder or Hub id, describes. Raises ModelError."""
    config = check_config(name, revision)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:
        raise ModelError(f"{name}: its config describes no causal language model that transformers "
                         f"can build: {str(error).splitlines()[0]}.") from error
    blocks = find_blocks(model).blocks
    return Shape(width(model), len(blocks), sum(p.numel() for p in model.parameters()),
                 tuple(sum(p.numel() for p in block.parameters()) for block in blocks))


def shape_entry(model: Any) -> dict[str, Any]:
    """The shape of a loaded causal language model as results.json has it: what tells one model from
    another whose folder is called anything. Tied weights count once, packed ones (4 bits) whole."""
    config = model.config.get_text_config()
    context = getattr(config, "max_position_embeddings", None)
    why = {} if context is not None else {"why": {"context": "its config states no longest text"}}
    return {"architecture": type(model).__name__, "n_layers": len(find_blocks(model).blocks),
            "d_model": width(model), "vocabulary": config.vocab_size, "context": context,
            "parameters": model.num_parameters(), **why}
