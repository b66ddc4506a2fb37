"""What rooms meet at: an engine that replies, a judge that says what a reply is."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sternpost.types.counts import JudgeAccuracy
from sternpost.types.edits import Plan
from sternpost.types.places import Hookpoint
from sternpost.types.talk import (
    Completion,
    Judgement,
    Message,
    Request,
    Residuals,
    Sampling,
    Transcript,
    Verdict,
)

if TYPE_CHECKING:
    from torch import Tensor


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

    def sweep(self, requests: Sequence[Request], plans: Sequence[Plan], sampling: Sampling,
              decided: Callable[[str], bool] | None = None) -> list[list[Completion]]:
        """The completions of each plan, in the requests' order; the plans differ in their edits
        alone. With `decided` a reply may end as soon as that says yes to its text so far."""
        ...

    def residuals(self, transcripts: Sequence[Transcript], at: Hookpoint) -> Iterator[Residuals]:
        """Residual stream of each transcript's tokens, in order."""
        ...

    def at_t_inst(self, prompts: Sequence[Transcript], at: Hookpoint) -> "Tensor":
        """[prompt, d_model]: the stream at the last token of the last user message of each
        prompt: token ids up to the reply, or messages that end with the user's."""
        ...

    def gradients(self, completions: Sequence[Completion], at: Hookpoint,
                  path: "Callable[[Tensor], Tensor] | None" = None) -> list[Residuals]:
        """Residual stream of each prompt, and its gradient of the logit of the reply's first
        token; with a `path` ([seq, d_model] -> [step, seq, d_model]) the mean along it."""
        ...

    def nll(self, completions: Sequence[Completion]) -> list[float]:
        """Mean negative log-likelihood a reply token (nats) under the unsteered model."""
        ...


class Gate(Protocol):
    """When: reads the residual stream at t_inst, says how likely the request is harmful."""

    kind: str
    hookpoint: Hookpoint
    """Where it reads; always the unedited stream."""
    threshold: float
    """It fires on a risk above this."""

    def risk(self, h: "Tensor") -> "Tensor":
        """P(harm) in [0, 1] of each row of `h` [row, d_model], float64, on the CPU."""
        ...


class Judge(Protocol):
    """Gives each reply a verdict.

    A judge may also have `decided(text) -> bool`: whether a reply that begins so has its verdict.
    Where many settings are tried, replies then end there.
    """

    name: str
    verdicts: tuple[Verdict, ...]
    """Those that it can tell."""
    accuracy: JudgeAccuracy

    def __call__(self, completions: Sequence[Completion]) -> list[Judgement]:
        """One judgement a completion, in order."""
        ...


class Chat(Protocol):
    """Any service or model that replies to a conversation."""

    name: str
    """What a record calls it, such as "openai:gpt-4o-mini"."""

    def __call__(self, messages: Sequence[Message], max_tokens: int = 256) -> str:
        """The reply's text, at most `max_tokens` tokens. Raises EndpointError where none comes."""
        ...
