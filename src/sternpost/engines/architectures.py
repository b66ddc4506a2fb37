"""Where a model family keeps its blocks, and what it does not keep itself: one row a family.

A block's output, or the first item of the tuple it returns, is the residual stream after it. A
family without a row is found by its structure; `doctor` says whether that was right.
"""

from typing import Any, NamedTuple

from torch import Tensor, nn

from sternpost.errors import EditError, HookpointError, ModelError
from sternpost.types import Hookpoint


class Architecture(NamedTuple):
    """A family's row. The figures are max|dh| / max|h| of the unsteered model of transformers 5.23,
    random weights, float32; None: kept, to float rounding."""

    blocks: str
    """Module path of the block list, e.g. "model.layers"."""
    state: str = "past_key_values"
    """The argument that carries what was read before: a cache, or a recurrent state."""
    padding: float | None = None
    """A left-padded row against its lone run."""
    positions: float | None = None
    """The same where no position_ids are given; with them it is kept."""
    chunks: float | None = None
    """A prompt read in two cached parts against one."""
    batch: float | None = None
    """Several rows, carried on from their state, against each by itself."""


LAYERS, H = "model.layers", "transformer.h"
ARCHITECTURES: dict[str, Architecture] = {
    "apertus": Architecture(LAYERS),
    "arcee": Architecture(LAYERS),
    "bamba": Architecture(LAYERS, chunks=0.1),
    "biogpt": Architecture("biogpt.layers", positions=0.4),
    "bloom": Architecture(H),
    "codegen": Architecture(H),
    "cohere": Architecture(LAYERS),
    "cohere2": Architecture(LAYERS),
    "deepseek_v2": Architecture(LAYERS),
    "deepseek_v3": Architecture(LAYERS),
    "ernie4_5": Architecture(LAYERS),
    "exaone4": Architecture(LAYERS),
    "falcon": Architecture(H),
    "falcon_h1": Architecture(LAYERS),
    "falcon_mamba": Architecture("backbone.layers", "cache_params", chunks=0.2),
    "gemma": Architecture(LAYERS),
    "gemma2": Architecture(LAYERS),
    "gemma3": Architecture("model.language_model.layers"),
    "gemma3_text": Architecture(LAYERS),
    "glm": Architecture(LAYERS),
    "glm4": Architecture(LAYERS),
    "gpt2": Architecture(H, positions=2.0),
    "gpt_bigcode": Architecture(H, positions=1.0),
    "gpt_neo": Architecture(H, positions=1.0),
    "gpt_neox": Architecture("gpt_neox.layers"),
    "gpt_oss": Architecture(LAYERS),
    "gptj": Architecture(H),
    "granite": Architecture(LAYERS),
    "granitemoe": Architecture(LAYERS),
    "granitemoehybrid": Architecture(LAYERS),
    "jamba": Architecture(LAYERS, chunks=0.2),
    "lfm2": Architecture(LAYERS),
    "llama": Architecture(LAYERS),
    "mamba": Architecture("backbone.layers", "cache_params", chunks=0.6),
    "mamba2": Architecture("backbone.layers", "cache_params"),
    "mistral": Architecture(LAYERS),
    "mixtral": Architecture(LAYERS),
    "mpt": Architecture("transformer.blocks"),
    "nemotron": Architecture(LAYERS),
    "olmo": Architecture(LAYERS),
    "olmo2": Architecture(LAYERS),
    "olmo3": Architecture(LAYERS),
    "opt": Architecture("model.decoder.layers"),
    "phi": Architecture(LAYERS),
    "phi3": Architecture(LAYERS),
    "phimoe": Architecture(LAYERS),
    "qwen2": Architecture(LAYERS),
    "qwen2_moe": Architecture(LAYERS),
    "qwen3": Architecture(LAYERS),
    "qwen3_moe": Architecture(LAYERS),
    "qwen3_next": Architecture(LAYERS),
    "recurrent_gemma": Architecture(LAYERS, padding=0.2, chunks=0.1),
    "rwkv": Architecture("rwkv.blocks", "state", padding=1.0, batch=0.8),
    "seed_oss": Architecture(LAYERS),
    "smollm3": Architecture(LAYERS),
    "stablelm": Architecture(LAYERS),
    "starcoder2": Architecture(LAYERS),
    "xglm": Architecture(LAYERS, positions=0.7),
    "zamba2": Architecture(LAYERS),
}
"""By the config's `model_type`."""


class Blocks(NamedTuple):
    """The blocks of a model."""

    path: str
    """Module path of the block list, e.g. "model.layers"."""
    blocks: nn.ModuleList
    trunk: nn.Module
    """The module that runs the blocks; it is given input_ids, attention_mask and the cache."""
    architecture: Architecture
    """The family's row; for a family without one a row that says nothing but the path."""

    def at(self, hookpoint: Hookpoint) -> nn.Module:
        """The block whose output `hookpoint` is. Raises HookpointError if there is none."""
        if hookpoint.layer >= len(self.blocks):
            raise HookpointError(f"Layer {hookpoint.layer} is out of range: this model has "
                                 f"{len(self.blocks)} blocks, 0 to {len(self.blocks) - 1}.")
        return self.blocks[hookpoint.layer]


def find_blocks(model: nn.Module) -> Blocks:
    """The blocks of `model`. Raises ModelError where they cannot be told from its structure."""
    config = getattr(model, "config", None)
    row = ARCHITECTURES.get(getattr(config, "model_type", ""))
    if row is None or not _has(model, row.blocks):
        row = (row or Architecture(""))._replace(blocks=_by_structure(model, config))
    parent = row.blocks.rpartition(".")[0]
    blocks = model.get_submodule(row.blocks)
    assert isinstance(blocks, nn.ModuleList)
    return Blocks(row.blocks, blocks, model.get_submodule(parent), row)


class Place(NamedTuple):
    """Where a plan writes."""

    module: nn.Module
    trunk: nn.Module | None
    """What runs the block; None for a module that is no block."""
    architecture: Architecture


def find_place(model: nn.Module, at: Hookpoint) -> Place:
    """What `at` names in `model`. Raises HookpointError or ModelError."""
    if at.module is not None:
        return Place(model.get_submodule(at.module), None, Architecture(at.module))
    blocks = find_blocks(model)
    return Place(blocks.at(at), blocks.trunk, blocks.architecture)


def resolve(model: nn.Module, at: Any) -> Any:
    """A module path of `model` as its Hookpoint; anything else as it is."""
    modules = dict(model.named_modules()) if isinstance(at, str) else {}
    if not at or at not in modules:
        return at
    try:
        blocks = find_blocks(model)
    except ModelError:
        return Hookpoint(0, at)
    paths = [f"{blocks.path}.{layer}" for layer in range(len(blocks.blocks))]
    return Hookpoint(paths.index(at)) if at in paths else Hookpoint(0, at)


def _has(model: nn.Module, path: str) -> bool:
    try:
        return isinstance(model.get_submodule(path), nn.ModuleList)
    except AttributeError:
        return False


def _by_structure(model: nn.Module, config: Any) -> str:
    """The one list of modules that is as long as the config says the model is deep."""
    depth = getattr(_text(config), "num_hidden_layers", None)
    lists = [(name, module) for name, module in model.named_modules()
             if isinstance(module, nn.ModuleList) and len(module) == depth]
    shallow = min((name.count(".") for name, _ in lists), default=0)
    found = [name for name, _ in lists if name.count(".") == shallow]
    if len(found) != 1:
        raise ModelError(
            f"Cannot tell where {type(model).__name__} keeps its blocks: {len(found)} lists of "
            f"{depth} modules ({', '.join(found) or 'none'}). Name the module whose output is to "
            "be written: steer(..., at=\"path.of.the.module\").")
    return found[0]


def width(model: nn.Module) -> int:
    """d_model of a Hugging Face model."""
    config = _text(model.config)
    for name in ("hidden_size", "n_embd", "d_model"):
        if isinstance(value := getattr(config, name, None), int):
            return value
    raise ModelError(f"{type(model).__name__}'s config names no hidden_size.")


def _text(config: Any) -> Any:
    """The part of a config that is about the language model."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def check_kept(row: Architecture, rows: Tensor | None, positioned: bool,
               read: tuple[bool, int, int]) -> None:
    """Raises EditError where the model itself would compute something else than for a lone, whole
    prompt. `rows` [row, column]: the real tokens, None for all; `positioned`: position_ids are
    given; `read`: whether others were read before, how many columns are read now, of how many
    rows."""
    minds = row.padding is not None or row.positions is not None
    padded = minds and rows is not None and bool((~rows[:, 0] & rows.any(1)).any())
    carried, seq, n_rows = read
    if carried and n_rows > 1 and row.batch is not None:
        raise EditError("This architecture mixes rows that are carried on side by side from their "
                        f"state (hidden states are off by {row.batch:g}, relative). Generate one "
                        "row at a time, or with use_cache=False.")
    if padded and row.padding is not None:
        raise EditError("This architecture reads padding like text (hidden states of a left-padded "
                        f"row are off by {row.padding:g}, relative). Give rows of one length, or "
                        "one row at a time.")
    if padded and row.positions is not None and not positioned:
        raise EditError("Without position_ids this architecture counts padding (hidden states of a "
                        f"left-padded row are off by {row.positions:g}, relative). Give "
                        "position_ids=(attention_mask.cumsum(-1) - 1).clamp(min=0), or pad on the "
                        "right.")
    if carried and seq > 1 and row.chunks is not None:
        raise EditError("This architecture forgets what it read when more than one token follows "
                        f"(hidden states of a prompt read in chunks are off by {row.chunks:g}, "
                        "relative). Read the prompt in one forward.")
