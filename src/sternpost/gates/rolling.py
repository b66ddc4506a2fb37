"""What a conversation keeps of its risks: pure functions, no state of their own.

    rolling      max over turns of decay^(turns since) * risk
    hysteresis   opens after `on` tokens in a row over the threshold,
                 shuts after `off` tokens in a row that are not

    continuation hysteresis over a gate's risk at each response token, on > threshold

Covered: build-ups whose turns are each a little risky; replies that turn harmful midway. Not
covered: harm that no single turn and no single token shows. Overall: a conversation has its own
state, which the caller keeps; nothing passes from one row to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from sternpost.errors import GateError
from sternpost.types import Gate


def rolling(risks: Sequence[float], decay: float) -> float:
    """The risk of a conversation whose turns had `risks`, the latest last; 0 before its first.

    Turn by turn it is max(risk, decay * what it was).
    """
    if not 0 <= decay <= 1 or not all(0 <= risk <= 1 for risk in risks):
        raise GateError(f"Risks and their decay are numbers from 0 to 1; got decay {decay!r} and "
                        f"risks {list(risks)!r}.")
    held = 0.0
    for risk in risks:
        held = max(risk, decay * held)
    return held


def rolled(risks: Tensor, decay: float) -> Tensor:
    """[row, column]: `rolling` of risks [row, turn, column], the latest turn last; a row with fewer
    turns is filled up in front with -inf, and a turn that was not read, NaN, makes its row NaN."""
    since = torch.arange(risks.shape[1] - 1, -1, -1, dtype=risks.dtype)
    share = (decay ** since).clamp(min=1e-300)  # 0 times infinity would be no number
    return (risks * share[None, :, None]).amax(1)


class Opening(NamedTuple):
    """Whether each row's gate is open, and what speaks for changing that."""

    opened: Bool[Tensor, " row"]
    streak: Tensor
    """[row] tokens in a row, up to the last one, that spoke against the state."""


@dataclass(frozen=True)
class Hysteresis:
    """How long a risk must last to open a gate, and to shut it again."""

    on: int
    """Tokens in a row over the threshold that open it."""
    off: int
    """Tokens in a row not over it that shut it."""

    def __post_init__(self) -> None:
        if min(self.on, self.off) < 1:
            raise GateError(f"A gate opens and shuts after 1 token or more; got on={self.on!r}, "
                            f"off={self.off!r}.")

    def start(self, rows: int) -> Opening:
        """Shut, and nothing speaks for opening."""
        return Opening(torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.long))

    def step(self, before: Opening, over: Bool[Tensor, " row"]) -> Opening:
        """The state after one more token of each row; `over`: its risk is above the threshold."""
        opened, streak = before
        streak = torch.where(over != opened, streak + 1, 0)
        turned = streak >= torch.where(opened, self.off, self.on)
        return Opening(opened ^ turned, torch.where(turned, 0, streak))

    def along(self, before: Opening, over: Bool[Tensor, "row token"],
              read: Bool[Tensor, "row token"]) -> tuple[Opening, Bool[Tensor, "row token"]]:
        """The state after several tokens of each row, and whether the gate was open at each, once
        that token was read. Where a row has no such token (not `read`) it stays as it is, and is
        shut."""
        state, states = before, torch.zeros_like(over)
        for at in range(over.shape[1]):
            new, mine = self.step(state, over[:, at]), read[:, at]
            state = Opening(*(torch.where(mine, a, b) for a, b in zip(new, state, strict=True)))
            states[:, at] = state.opened & mine
        return state, states


@dataclass(frozen=True, eq=False)
class Continuation:
    """A gate that reads every response token of a row, and opens and shuts it there."""

    gate: Gate
    """Read at the written block or below, before the write; its threshold is its own."""
    on: int = 2
    """Tokens in a row over the threshold that open it."""
    off: int = 4
    """Tokens in a row not over it that shut it."""

    def __post_init__(self) -> None:
        _ = self.rule  # refuses what opens or shuts after no token

    @property
    def rule(self) -> Hysteresis:
        """When it opens and shuts."""
        return Hysteresis(self.on, self.off)
