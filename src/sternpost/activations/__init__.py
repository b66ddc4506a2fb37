"""Which tokens a name means, and residual-stream activations on disk."""

from sternpost.activations.positions import (
    Tokens,
    answer_of,
    before_tail,
    find_t_inst,
    finds_tail,
    keep_for_training,
    needs_template,
    select,
    tells_thinking,
    thinking_tokens,
)
from sternpost.activations.shards import Shards, open_shards, write_shards

__all__ = [
    "Shards", "Tokens", "answer_of", "before_tail", "find_t_inst", "finds_tail",
    "keep_for_training", "needs_template", "open_shards", "select", "tells_thinking",
    "thinking_tokens", "write_shards"]
