"""What is written: edits, plans, and the proof of what was done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sternpost.errors import EditError
from sternpost.types.places import Hookpoint, Positions

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["exact", "threshold", "relu"]
ErrorTerm = Literal["keep", "drop"]
MODES: tuple[Mode, ...] = ("exact", "threshold", "relu")
ERROR_TERMS: tuple[ErrorTerm, ...] = ("keep", "drop")

@dataclass(frozen=True, slots=True)
class Clamp:
    """Set the feature's activation to `value` (activation units)."""

    feature: int
    value: float


@dataclass(frozen=True, slots=True)
class Floor:
    """Raise the feature's activation to at least `value` (activation units)."""

    feature: int
    value: float


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Lower the feature's activation to at most `value` (activation units)."""

    feature: int
    value: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiply the feature's activation by `factor` (no unit)."""

    feature: int
    factor: float


@dataclass(frozen=True, slots=True)
class Ablate:
    """Set the feature's activation to 0."""

    feature: int


@dataclass(frozen=True, slots=True, eq=False)
class Add:
    """Add `value` times a unit direction: a feature's decoder row, or a `[d_model]` tensor.

    `unit="residual_norm"`: in multiples of the median residual norm at the hookpoint, which is
    stored with the SAE; `unit="raw"`: as it is.
    """

    feature_or_direction: "int | Tensor"
    value: float
    unit: Literal["residual_norm", "raw"] = "residual_norm"

    def __post_init__(self) -> None:
        if self.unit not in ("residual_norm", "raw"):
            raise EditError(f"Add: unit is 'residual_norm' or 'raw'; got {self.unit!r}.")


Edit = Clamp | Floor | Ceiling | Scale | Ablate | Add


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is written where, and when: edits on features of one SAE, in a mode, at positions."""

    sae: Any
    """The SAE whose features the edits name; its `hookpoint` says where."""
    edits: tuple[Any, ...] = ()
    """One tuple of edits for all rows, or a tuple of such tuples, one a row."""
    mode: Mode = "exact"
    positions: "str | Positions | Tensor | None" = None
    """None: `tail+response` with a gate, else `all`."""
    error: ErrorTerm = "keep"
    gate: Any = None
    """A Gate: only rows on which it fires are written. None: every row is."""
    tail: tuple[int, ...] = ()
    """Token ids that the chat template puts after the last user message, where no tokenizer is at
    hand (a pack's)."""
    pack: str | None = None
    """sha256 of the pack that this is a level of; stands in every proof."""
    check: "Callable[[Any], None] | None" = None
    """Asked once, with the model, before it is steered; raises if the plan is not for it."""

    @property
    def where(self) -> "Positions | Tensor":
        """`positions`, names as Positions."""
        if self.positions is None:
            return Positions("all" if self.gate is None else GATED)
        return Positions(self.positions) if isinstance(self.positions, str) else self.positions

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise EditError(f"mode is one of {', '.join(MODES)}; got {self.mode!r}.")
        if self.error not in ERROR_TERMS:
            raise EditError(f"error is 'keep' or 'drop'; got {self.error!r}.")
        if self.error == "drop" and self.mode != "exact":
            raise EditError(f"error='drop' replaces h by the SAE's own reconstruction and needs "
                            f"mode='exact'; got mode={self.mode!r}.")
        where = self.where  # an unknown name is an error here, not later
        if self.gate is not None:
            _check_gated(where)
            _check_below(self.gate, self.sae)


GATED = "tail+response"
"""Where a gated plan writes: the first reply token is predicted at the prompt's last token."""
_AFTER_T_INST = ("t_inst", "tail", "response", "thinking", "answer")


def _check_gated(where: "Positions | Tensor") -> None:
    if not isinstance(where, Positions) or not set(where.parts) <= set(_AFTER_T_INST):
        raise EditError(f"A gate is read at t_inst, so a gated plan writes there or later: "
                        f"{', '.join(_AFTER_T_INST)}; got positions={where!r}.")


def _check_below(gate: Any, sae: Any) -> None:
    if gate.hookpoint.layer > sae.hookpoint.layer:
        raise EditError(f"The gate reads layer {gate.hookpoint.layer}, above layer "
                        f"{sae.hookpoint.layer}, which is written: it would decide too late. Use a "
                        f"gate at layer {sae.hookpoint.layer} or below.")


@dataclass(frozen=True, slots=True)
class Proof:
    """What was done to one row of one call."""

    hookpoint: Hookpoint
    positions: tuple[int, ...]
    """The row's edited tokens, counted from 0 over its own real tokens."""
    features: tuple[int | None, ...]
    """One an edit; None for a direction that is no feature."""
    before: tuple[float, ...]
    """Activation read, one an edit, mean over the edited positions; NaN where none was edited."""
    after: tuple[float, ...]
    """Activation written, likewise."""
    risk: float | None = None
    """The gate's risk at t_inst; None without a gate."""
    fired: bool | None = None
    pack: str | None = None
