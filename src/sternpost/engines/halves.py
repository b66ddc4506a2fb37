"""A model's forward in two halves: up to a block's output, and from it on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from sternpost.engines.architectures import Blocks
from sternpost.types import Hookpoint


class _Enough(Exception):
    """Ends a forward at the block whose output was wanted."""


def until(blocks: Blocks, at: Hookpoint, **inputs: Any) -> tuple[Tensor, bool]:
    """The output of the block at `at` [row, seq, d_model], without running those above, and whether
    blocks give tuples. `inputs` are the trunk's; a cache among them is filled up to that block."""
    kept: list[Any] = []

    def keep(block: Any, args: Any, output: Any) -> None:
        kept.append(output)
        raise _Enough

    handle = blocks.at(at).register_forward_hook(keep)
    try:
        blocks.trunk(**inputs)
    except _Enough:
        pass
    finally:
        handle.remove()
    output = kept[0]
    return (output[0], True) if isinstance(output, tuple) else (output, False)


@contextmanager
def handed(blocks: Blocks, at: Hookpoint, h: Tensor, tupled: bool) -> Iterator[None]:
    """Inside, the blocks up to `at` give `h` instead of computing: a forward runs those above."""
    below = list(blocks.blocks[:at.layer + 1])
    before = [block.__dict__.get("forward") for block in below]
    for block in below:
        block.forward = lambda *args, **kwargs: (h,) if tupled else h
    try:
        yield
    finally:
        for block, own in zip(below, before, strict=True):
            if own is None:
                del block.forward
            else:
                block.forward = own
