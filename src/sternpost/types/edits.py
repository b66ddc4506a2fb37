"""What is written: edits, plans, and the proof of what was done."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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


@dataclass(frozen=True, slots=True)
class NormCap:
    """All edits of a token together move it by at most `limit` (median residual norms)."""

    limit: float

    def __post_init__(self) -> None:
        _check_limit(self)


@dataclass(frozen=True, slots=True, eq=False)
class MahalanobisCap:
    """All edits of a token together move it no further from `mean` than `limit` (standard
    deviations, by the covariance of the data), or than it was. `steering.mahalanobis_cap` makes
    one from data."""

    limit: float
    mean: "Tensor"
    """[d_model]"""
    whitener: "Tensor"
    """W [d_model, d_model]: W'W is the inverse covariance."""

    def __post_init__(self) -> None:
        _check_limit(self)


Cap = NormCap | MahalanobisCap


def _check_limit(cap: Any) -> None:
    if not isinstance(cap.limit, int | float) or isinstance(cap.limit, bool) or not cap.limit >= 0:
        raise EditError(f"{type(cap).__name__}: limit is a number from 0 up; got {cap.limit!r}.")


class How(NamedTuple):
    """How edits are written."""

    mode: Mode = "exact"
    error: ErrorTerm = "keep"
    cap: Cap | None = None


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
    policy: Any = None
    """A Policy: how much of each edit a row gets, by the gate's risks. None: all of it where the
    gate fires, nothing elsewhere."""
    tail: tuple[int, ...] = ()
    """Token ids that the chat template puts after the last user message, where no tokenizer is at
    hand (a pack's)."""
    pack: str | None = None
    """sha256 of the pack that this is a level of; stands in every proof."""
    cap: Cap | None = None
    """How far the edits may move a token; None: as far as they do."""
    check: "Callable[[Any], None] | None" = None
    """Asked once, with the model, before it is steered; raises if the plan is not for it."""
    decay: float = 0.0
    """What is left of a risk one user message later, from 0 to 1: a row's risk is the highest over
    its user messages of decay^(messages since) * risk. 0: the last message alone is read."""
    continuation: Any = None
    """A Continuation: a gate that reads every response token, and opens also rows on which `gate`
    did not fire; while it is open the edits are written there, whole. None: replies are not
    read."""

    @property
    def where(self) -> "Positions | Tensor":
        """`positions`, names as Positions."""
        if self.positions is None:
            return Positions("all" if self.gate is None else GATED)
        return Positions(self.positions) if isinstance(self.positions, str) else self.positions

    @property
    def reads_above(self) -> bool:
        """Whether the gate reads above the written block."""
        return self.gate is not None and self.gate.hookpoint.layer > self.sae.hookpoint.layer

    @property
    def how(self) -> How:
        """Mode, error term and cap."""
        return How(self.mode, self.error, self.cap)

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
            _check_gated(where, self.reads_above)
        elif self.policy is not None:
            raise EditError("A policy turns a gate's risks into doses, and this plan has no gate. "
                            "Give gate=...")
        _check_conversation(self)


GATED = "tail+response"
"""Where a gated plan writes: the first reply token is predicted at the prompt's last token."""
_AFTER_T_INST = ("t_inst", "tail", "response", "thinking", "answer")


def _check_gated(where: "Positions | Tensor", reads_above: bool) -> None:
    names = _AFTER_T_INST[reads_above:]
    if not isinstance(where, Positions) or not set(where.parts) <= set(names):
        raise EditError(f"A gate {'above the written block ' * reads_above}is read at t_inst, so "
                        f"what it gates is written {'later' if reads_above else 'there or later'}: "
                        f"{', '.join(names)}; got positions={where!r}.")


def _check_conversation(plan: Plan) -> None:
    if isinstance(plan.decay, bool) or not isinstance(plan.decay, int | float) \
            or not 0 <= plan.decay <= 1:
        raise EditError(f"decay is a number from 0 to 1; got {plan.decay!r}.")
    if plan.gate is None and (plan.decay or plan.continuation is not None):
        raise EditError("A decay and a continuation gate add to a gate, and this plan has none: it "
                        "writes every row. Give gate=...; with threshold=1.0 it never fires.")
    if plan.continuation is not None and \
            plan.continuation.gate.hookpoint.layer > plan.sae.hookpoint.layer:
        raise EditError("A continuation gate is read before its token is written, so at the "
                        f"written block or below: {plan.sae.hookpoint}; this one reads "
                        f"{plan.continuation.gate.hookpoint}.")


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
    """The gate's risk at t_inst, with a decay the highest over the turns; None without a gate."""
    fired: bool | None = None
    """Whether that opened the row; a continuation gate does not count."""
    pack: str | None = None
    continued: int = 0
    """Response tokens that only a continuation gate had written."""
    reply_risk: float | None = None
    """The highest risk that a continuation gate read in the reply; None without one, or where it
    read no token."""

    def as_dict(self) -> dict[str, Any]:
        """As files have it: null for what was not edited, since JSON has no NaN."""
        body = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        return body | {"hookpoint": str(self.hookpoint)}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Proof":
        """A proof that was kept."""
        plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                 for key, value in body.items() if key != "hookpoint"}
        for key in ("before", "after"):
            plain[key] = tuple(math.nan if one is None else one for one in plain[key])
        return cls(Hookpoint.parse(body["hookpoint"]), **plain)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
