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
from sternpost.activations.turns import find_turns, turns_before

__all__ = [
    "Shards", "Tokens", "answer_of", "before_tail", "find_t_inst", "find_turns", "finds_tail",
    "keep_for_training", "needs_template", "open_shards", "select", "tells_thinking",
    "thinking_tokens", "turns_before", "write_shards"]
