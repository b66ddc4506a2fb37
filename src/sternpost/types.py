"""The nouns that flow through the house, and the protocols its rooms meet at.

    prompts -> activations -> SAE features -> selection -> policy -> steered generation
    -> judgement -> report

Values are frozen. Nothing here imports torch; tensors appear in annotations only.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from sternpost.errors import EditError, HookpointError, PositionsError

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["exact", "threshold", "relu"]
ErrorTerm = Literal["keep", "drop"]
Kind = Literal["unsafe", "safe", "capability", "corpus"]
Verdict = Literal["refusal", "partial", "compliance", "incoherent", "unparsed"]
Split = Literal["search", "gate_fit", "gate_calibration", "test"]

MODES: tuple[Mode, ...] = ("exact", "threshold", "relu")
ERROR_TERMS: tuple[ErrorTerm, ...] = ("keep", "drop")
SPLITS: tuple[Split, ...] = ("search", "gate_fit", "gate_calibration", "test")

# ---- where -----------------------------------------------------------------------------------

_BLOCK = re.compile(r"(?:.*\.)?(?:layers|h|blocks|block|layer)\.(\d+)(?:\.(.+))?")
_FOLDER = re.compile(r"layer_?(\d+)")


@dataclass(frozen=True, slots=True)
class Hookpoint:
    """The residual stream after block `layer` (0-based): `hidden_states[layer + 1]`."""

    layer: int

    def __post_init__(self) -> None:
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or self.layer < 0:
            raise HookpointError(f"A layer is a whole number from 0 up; got {self.layer!r}.")

    def __str__(self) -> str:
        return f"layers.{self.layer}"

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
        return tuple(part.strip() for part in self.names.split("+"))

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


# ---- what is written -------------------------------------------------------------------------

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


# ---- what is said ----------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: role is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One conversation to answer. All that a policy, gate or engine may see: no label."""

    messages: tuple[Message, ...]
    """User turns with no reply between are a script, answered one by one."""
    text: str
    """The prompt as given, stripped; for a `messages` row its canonical JSON."""

    @property
    def sha256(self) -> str:
        """The prompt's fingerprint: sha256 over the UTF-8 of `text`."""
        return hashlib.sha256(self.text.encode("utf-8", errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """A request with what is known of it. Policies and gates take `Request`, never this."""

    request: Request
    kind: Kind
    category: str | None = None
    language: str | None = None
    harm_kind: str | None = None
    """harmful | offensive | sensitive | none"""
    task: str | None = None
    answer: str | None = None
    """The right reply, of a capability prompt."""
    group: str | None = None
    source: str | None = None
    viewpoint_pair: str | None = None
    family: str | None = None
    cluster: str | None = None
    """Rows of one cluster are split and resampled together."""
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How replies are made: greedily, at most `max_new_tokens` a turn."""

    max_new_tokens: int = 64


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's reply to a request."""

    request: Request
    reply: str
    """All the model wrote in its last turn, special tokens left out."""
    answer: str | None
    """`reply` without its reasoning segment; None where it was cut off while still thinking."""
    prompt_ids: tuple[int, ...] = ()
    reply_ids: tuple[int, ...] = ()
    """Tokens of the last turn, without the end token."""
    proof: Proof | None = None
    messages: tuple[Message, ...] = ()
    """The whole conversation, replies included."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says of one reply."""

    verdict: Verdict
    reason: str
    """The sign that decided it, in words."""


class Residuals(NamedTuple):
    """Residual stream of one text at a hookpoint."""

    ids: "Tensor"
    """[seq] token ids"""
    values: "Tensor"
    """[seq, d_model]"""
    gradient: "Tensor | None" = None
    """[seq, d_model] of one logit, where it was asked for."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A text to read activations from: token ids, else a conversation, else plain text."""

    ids: tuple[int, ...] = ()
    messages: tuple[Message, ...] = ()
    text: str = ""


# ---- what is counted -------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `n`, with a 95 % interval of the true share as fractions. Made by `stats/`."""

    hits: int
    n: int
    low: float
    high: float
    interval: Literal["wilson", "cluster"] = "wilson"

    @property
    def share(self) -> float:
        """hits / n, in [0, 1]; NaN for n = 0."""
        return self.hits / self.n if self.n else math.nan

    def as_dict(self) -> dict[str, Any]:
        """As in results.json: `interval` stands only where it is a cluster bootstrap."""
        body: dict[str, Any] = {"hits": self.hits, "n": self.n, "low": self.low, "high": self.high}
        return body | {"interval": "cluster"} if self.interval == "cluster" else body

    def __str__(self) -> str:
        return (f"{100 * self.share:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] "
                f"({self.hits}/{self.n})")


@dataclass(frozen=True, slots=True)
class Points:
    """A difference in percentage points with its 95 % interval."""

    points: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """As in results.json."""
        return {"points": self.points, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class JudgeAccuracy:
    """How well a judge agrees with human labels."""

    accuracy: Rate | None
    kappa: float | None
    n: int
    data: str = ""
    """What it was measured on, with the data's sha256."""


# ---- protocols -------------------------------------------------------------------------------

@runtime_checkable
class Engine(Protocol):
    """A chat model that can be looked into and steered."""

    n_layers: int
    d_model: int
    batch_size: int
    """Rows a forward: halved, for good, when memory runs out."""
    bos: int | None
    """The token that begins a text, which no SAE is trained on."""

    def render(self, request: Request) -> str:
        """The text that the model is given for the request's first user turn."""
        ...

    def generate(self, requests: Sequence[Request], plan: Plan | None,
                 sampling: Sampling) -> list[Completion]:
        """One reply a request, in order; greedy; steered by `plan`."""
        ...

    def residuals(self, transcripts: Sequence[Transcript], at: Hookpoint) -> Iterator[Residuals]:
        """Residual stream of each transcript's tokens, in order."""
        ...

    def gradients(self, completions: Sequence[Completion], at: Hookpoint) -> list[Residuals]:
        """Residual stream of each prompt, and its gradient of the logit of the reply's first
        token."""
        ...

    def nll(self, completions: Sequence[Completion]) -> list[float]:
        """Mean negative log-likelihood a reply token (nats) under the unsteered model."""
        ...


class Judge(Protocol):
    """Gives each reply a verdict."""

    name: str
    verdicts: tuple[Verdict, ...]
    """Those that it can tell."""
    accuracy: JudgeAccuracy

    def __call__(self, completions: Sequence[Completion]) -> list[Judgement]:
        """One judgement a completion, in order."""
        ...
