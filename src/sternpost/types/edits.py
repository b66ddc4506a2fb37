"""What is written: edits, plans, and the proof of what was done."""

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
    """What is written where: edits on the features of one SAE, in a mode, at positions."""

    sae: Any
    """The SAE whose features the edits name; its `hookpoint` says where."""
    edits: tuple[Any, ...] = ()
    """One tuple of edits for all rows, or a tuple of such tuples, one a row."""
    mode: Mode = "exact"
    positions: "str | Positions | Tensor" = "all"
    error: ErrorTerm = "keep"

    @property
    def where(self) -> "Positions | Tensor":
        """`positions`, names as Positions."""
        return Positions(self.positions) if isinstance(self.positions, str) else self.positions

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise EditError(f"mode is one of {', '.join(MODES)}; got {self.mode!r}.")
        if self.error not in ERROR_TERMS:
            raise EditError(f"error is 'keep' or 'drop'; got {self.error!r}.")
        if self.error == "drop" and self.mode != "exact":
            raise EditError(f"error='drop' replaces h by the SAE's own reconstruction and needs "
                            f"mode='exact'; got mode={self.mode!r}.")
        assert self.where is not None  # an unknown name is an error here, not later


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
    fired: bool | None = None
    pack: str | None = None
