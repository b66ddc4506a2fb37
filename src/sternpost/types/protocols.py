"""What rooms meet at: an engine that replies, a judge that says what a reply is."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

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


@runtime_checkable
class Gate(Protocol):
    """When: reads the residual stream at t_inst, says how likely the request is harmful.

    A row's risk is the same to the last bit whatever rows stand beside it.
    """

    kind: ClassVar[str]
    """What sort of gate it is, as files name it."""

    @property
    def hookpoint(self) -> Hookpoint:
        """Where it reads; always the unedited stream."""
        ...

    @property
    def threshold(self) -> float:
        """It fires on a risk above this."""
        ...

    @property
    def categories(self) -> tuple[str, ...]:
        """Hazard categories that it tells apart; empty where it knows harm alone."""
        ...

    def risk(self, h: "Tensor") -> "Tensor":
        """P(harm) in [0, 1] of each row of `h` [row, d_model], float64, on the CPU."""
        ...

    def risks(self, h: "Tensor") -> "Tensor":
        """[row, 1 + categories]: `risk` in column 0, then P(harm of the category) in their order,
        float64, on the CPU."""
        ...


class Policy(Protocol):
    """How much: a gate's risks -> a dose of each edit of a plan. It sees no prompt and no label."""

    def doses(self, risks: "Tensor", categories: Sequence[str]) -> "Tensor":
        """[row, edit]: doses (0: the row keeps its very bits; 1: the whole edit) for `risks`
        [row, 1 + categories]: the overall one, then those of `categories`."""
        ...


class Judge(Protocol):
    """Gives each reply a verdict.

    A judge may also have `decided(text) -> bool`: whether a reply that begins so has its verdict.
    Where many settings are tried, replies then end there. One that reads some languages alone has
    `languages` (two-letter codes), and one that judges replies to some kinds of prompts alone has
    `kinds`: whoever knows a prompt's language or kind asks it for no other.
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

    @property
    def name(self) -> str:
        """What a record calls it, such as "openai:gpt-4o-mini"."""
        ...

    def __call__(self, messages: Sequence[Message], max_tokens: int = 256) -> str:
        """The reply's text, at most `max_tokens` tokens. Raises EndpointError where none comes."""
        ...


class PromptClassifier(Protocol):
    """Any model or service that says how likely a request is harmful, outside the model steered."""

    name: str
    """What a record calls it, such as "hf:allenai/wildguard"."""

    def __call__(self, requests: Sequence[Request]) -> list[float]:
        """P(harm) in [0, 1] of each request, in order. NaN where none could be had, which is not
        "safe": `NaN > threshold` is false, so whoever compares asks for NaN first and counts it."""
        ...
