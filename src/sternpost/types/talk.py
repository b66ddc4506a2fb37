"""What is said: messages, requests, replies, verdicts."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from sternpost.types.edits import Proof

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["unsafe", "safe", "capability", "corpus"]
Verdict = Literal["refusal", "partial", "compliance", "incoherent", "unparsed", "shown", "absent"]
"""The last two are of judges of another behaviour than refusal: whether a reply shows it."""
Split = Literal["search", "gate_fit", "gate_calibration", "test"]
SPLITS: tuple[Split, ...] = ("search", "gate_fit", "gate_calibration", "test")

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
    harmful: tuple[int, ...] = ()
    """Of a script: the user turns, from 0, that ask for harm; none named: the last one."""


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
