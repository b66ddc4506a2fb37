"""Where a model family keeps its blocks: one row a family, and a search by structure for others.

A block's output, or the first item of the tuple it returns, is the residual stream after it.
"""

from typing import Any, NamedTuple

from torch import nn

from sternpost.errors import HookpointError, ModelError
from sternpost.types import Hookpoint

BLOCKS: dict[str, str] = {
    "gpt2": "transformer.h",
    "llama": "model.layers",
    "phi3": "model.layers",
}


class Blocks(NamedTuple):
    """The blocks of a model."""

    path: str
    """Module path of the block list, e.g. "model.layers"."""
    blocks: nn.ModuleList
    trunk: nn.Module
    """The module that runs the blocks; it is given input_ids, attention_mask and the cache."""

    def at(self, hookpoint: Hookpoint) -> nn.Module:
        """The block whose output `hookpoint` is. Raises HookpointError if there is none."""
        if hookpoint.layer >= len(self.blocks):
            raise HookpointError(f"Layer {hookpoint.layer} is out of range: this model has "
                                 f"{len(self.blocks)} blocks, 0 to {len(self.blocks) - 1}.")
        return self.blocks[hookpoint.layer]


def find_blocks(model: nn.Module) -> Blocks:
    """The blocks of `model`. Raises ModelError where they cannot be told from its structure."""
    config = getattr(model, "config", None)
    path = BLOCKS.get(getattr(config, "model_type", ""))
    if path is None or not _has(model, path):
        path = _by_structure(model, config)
    parent = path.rpartition(".")[0]
    blocks = model.get_submodule(path)
    assert isinstance(blocks, nn.ModuleList)
    return Blocks(path, blocks, model.get_submodule(parent))


def _has(model: nn.Module, path: str) -> bool:
    try:
        return isinstance(model.get_submodule(path), nn.ModuleList)
    except AttributeError:
        return False


def _by_structure(model: nn.Module, config: Any) -> str:
    """The one list of modules that is as long as the config says the model is deep."""
    depth = getattr(config, "num_hidden_layers", None)
    lists = [(name, module) for name, module in model.named_modules()
             if isinstance(module, nn.ModuleList) and len(module) == depth]
    shallow = min((name.count(".") for name, _ in lists), default=0)
    found = [name for name, _ in lists if name.count(".") == shallow]
    if len(found) != 1:
        raise ModelError(
            f"Cannot tell where {type(model).__name__} keeps its blocks: {len(found)} lists of "
            f"{depth} modules ({', '.join(found) or 'none'}). sternpost steers Hugging Face causal "
            "language models; open an issue that names the architecture.")
    return found[0]


def width(model: nn.Module) -> int:
    """d_model of a Hugging Face model."""
    config = model.config
    for name in ("hidden_size", "n_embd", "d_model"):
        if isinstance(value := getattr(config, name, None), int):
            return value
    raise ModelError(f"{type(model).__name__}'s config names no hidden_size.")
