"""How large a model is, from its config alone: nothing is loaded."""

from dataclasses import dataclass

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
