"""What the module that runs the blocks was called with."""

import inspect
from typing import Any

from torch import Tensor, nn

from sternpost.errors import EditError


def carried(state: Any) -> bool:
    """Whether a cache or recurrent state holds anything."""
    for asked in ("get_seq_length", "has_previous_state"):
        try:
            return bool(getattr(state, asked)())
        except (AttributeError, ValueError):
            continue
    return state is not None


def bind(trunk: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of its forward, by name."""
    if not args:  # as the models of transformers call theirs: a signature takes a while to be read
        return kwargs
    return dict(inspect.signature(trunk.forward).bind_partial(*args, **kwargs).arguments)


def given_to(bound: dict[str, Any]) -> Tensor:
    """Its ids [row, seq] or embeddings [row, seq, d_model]."""
    given = bound.get("input_ids")
    given = given if given is not None else bound.get("inputs_embeds")
    if given is None:
        raise EditError("The model was called without input_ids and without inputs_embeds.")
    return given
