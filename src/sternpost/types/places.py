"""Where: hookpoints, named positions, and what a chat template marks."""

import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sternpost.errors import HookpointError, PositionsError

_BLOCK = re.compile(r"(?:.*\.)?(?:layers|h|blocks|block|layer)\.(\d+)(?:\.(.+))?")
_FOLDER = re.compile(r"layer_?(\d+)")


@dataclass(frozen=True, slots=True)
class Hookpoint:
    """The residual stream after block `layer` (0-based): `hidden_states[layer + 1]`."""

    layer: int
    module: str | None = None
    """Path of another module whose output is meant (`steer(at=...)`); `layer` is then 0."""

    def __post_init__(self) -> None:
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or self.layer < 0:
            raise HookpointError(f"A layer is a whole number from 0 up; got {self.layer!r}.")

    def __str__(self) -> str:
        return self.module or f"layers.{self.layer}"

    @classmethod
    def parse(cls, name: "int | str | Hookpoint") -> "Hookpoint":
        """The hookpoint that `name` spells: 6, "layers.6", "model.layers.6", "layer_6",
        "blocks.6.hook_resid_post", "blocks.7.hook_resid_pre". Raises HookpointError."""
        found = cls.find(name)
        if found is None:
            raise HookpointError(
                f"{name!r} names no place in the residual stream. Give the 0-based block whose "
                "output is read: hookpoint=6, \"layers.6\" or \"blocks.6.hook_resid_post\".")
        return found

    @classmethod
    def find(cls, name: "int | str | Hookpoint") -> "Hookpoint | None":
        """As `parse`, but None for a name that speaks of no block at all."""
        if isinstance(name, Hookpoint):
            return name
        if isinstance(name, int):
            return cls(name)
        text = str(name).strip()
        if text.isdigit():
            return cls(int(text))
        if match := _FOLDER.fullmatch(text):
            return cls(int(match[1]))
        if match := _BLOCK.fullmatch(text):
            return cls(_layer_of(text, int(match[1]), match[2]))
        return None


def _layer_of(name: str, number: int, place: str | None) -> int:
    if place in (None, "hook_resid_post"):
        return number
    if place == "hook_resid_pre" and number > 0:
        return number - 1
    if place == "hook_resid_pre":
        raise HookpointError(f"{name!r} is the embedding, before any block; sternpost steers the "
                             "output of a block. Use an SAE of blocks.1.hook_resid_pre or later.")
    raise HookpointError(f"{name!r} is another place than the residual stream; sternpost steers "
                         f"the output of a block, e.g. hookpoint={number} for block {number}.")


_NAMES = ("all", "prompt", "t_inst", "tail", "response", "thinking", "answer")
_LAST = re.compile(r"last\((\d+)\)")


@cache  # asked for at every token
def _parts(names: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in names.split("+"))


@dataclass(frozen=True, slots=True)
class Positions:
    """Which tokens are written: names joined by `+`, as in `Positions("tail+response")`.

    all, prompt, t_inst, tail, response, last(k), thinking, answer. In a plain forward every name
    that depends on where the prompt ends needs `prompt_length`.
    """

    names: str
    prompt_length: int | tuple[int, ...] | None = None
    """Length of the prompt in the row's own real tokens; one number, or one a row."""

    def __post_init__(self) -> None:
        for part in self.parts:
            k = _LAST.fullmatch(part)
            if part not in _NAMES and (k is None or int(k[1]) < 1):
                raise PositionsError(f"Unknown position {part!r} in {self.names!r}. Known: "
                                     f"{', '.join(_NAMES)}, last(k) with k >= 1, joined by '+'.")
        if isinstance(self.prompt_length, list):
            object.__setattr__(self, "prompt_length", tuple(self.prompt_length))

    @property
    def parts(self) -> tuple[str, ...]:
        """The names, in order."""
        return _parts(self.names)

    @property
    def last(self) -> int:
        """The largest k of any `last(k)`, 0 if there is none."""
        return max((int(m[1]) for p in self.parts if (m := _LAST.fullmatch(p))), default=0)

    def __str__(self) -> str:
        return "+".join(self.parts)


class TemplateMarks(NamedTuple):
    """What a chat template writes around a reply, as text: found by `engines/`, read by
    `activations/positions.py`."""

    tail: str
    """What stands between the last user message and the reply."""
    think_open: str | None = None
    """Opens a reasoning segment, e.g. "<think>"; None where the template has none."""
    think_close: str | None = None
