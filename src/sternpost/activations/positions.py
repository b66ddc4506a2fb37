"""Named positions -> which tokens of this forward they are. The only place that decides it.

Every token is known by its index among its row's own real tokens (padding does not count), so a
name means the same token with left or right padding, with or without a KV cache, in one prefill
or in chunks. What a template marks comes in as values from `engines/`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sternpost.errors import PositionsError
from sternpost.types import Positions, TemplateMarks

Decode = Callable[[Sequence[int]], str]
"""Token ids -> text, special tokens kept."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of one forward, by row."""

    real: Bool[Tensor, "row seq"]
    """False for padding, and for what a row is fed after its end token."""
    index: Int[Tensor, "row seq"]
    """Each real token's index among its row's real tokens, from 0."""
    end: Int[Tensor, " row"]
    """Where `last(k)` ends: the prompt's length in `generate`, else the row's."""
    prompt_length: Int[Tensor, " row"] | None = None
    """None where the caller did not say where the prompt ends."""
    t_inst: Int[Tensor, " row"] | None = None
    """Index of the last token of the last user message, where the template was read."""
    thinking: Bool[Tensor, "row seq"] | None = None
    """Which response tokens belong to a reasoning segment."""


def select(positions: Positions, tokens: Tokens) -> Bool[Tensor, "row seq"]:
    """The tokens that `positions` names. Raises PositionsError for a name that needs what this
    call does not know."""
    if positions.parts == ("all",):
        return tokens.real
    chosen = [_part(part, positions, tokens) for part in positions.parts]
    return reduce(torch.logical_or, chosen) & tokens.real


def _part(part: str, positions: Positions, tokens: Tokens) -> Tensor:
    index, end = tokens.index, tokens.end[:, None]
    if part == "all":
        return tokens.real
    if part.startswith("last("):
        k = int(part.removeprefix("last(").rstrip(")"))
        return (index >= end - k) & (index < end)
    prompt = _known(tokens.prompt_length, part, "where the prompt ends",
                    f"Positions({str(positions)!r}, prompt_length=N), N in the row's own real "
                    "tokens; inside model.generate(...) it is known by itself")[:, None]
    if part == "prompt":
        return index < prompt
    if part == "response":
        return index >= prompt
    if part in ("thinking", "answer"):
        thinking = _known(tokens.thinking, part, "which tokens are reasoning",
                          "model.generate(...) with a tokenizer whose template marks a reasoning "
                          "segment, e.g. with <think>")
        return (index >= prompt) & (thinking if part == "thinking" else ~thinking)
    t_inst = _known(tokens.t_inst, part, "where the last user message ends",
                    "tokenizer=... so that the chat template can be read")[:, None]
    return (index == t_inst) if part == "t_inst" else (index > t_inst) & (index < prompt)


def _known(value: Tensor | None, part: str, what: str, give: str) -> Tensor:
    if value is None:
        raise PositionsError(f"positions={part!r}: this call does not know {what}. Give {give}.")
    return value


def finds_tail(positions: Positions | Tensor) -> bool:
    """Whether a name is found by where the last user message ends."""
    return isinstance(positions, Positions) and bool({"t_inst", "tail"} & set(positions.parts))


def tells_thinking(positions: Positions | Tensor) -> bool:
    """Whether a name tells a reasoning segment from the answer."""
    return isinstance(positions, Positions) and bool({"thinking", "answer"} & set(positions.parts))


def needs_template(positions: Positions | Tensor) -> bool:
    """Whether a name can only be resolved through the chat template."""
    return finds_tail(positions) or tells_thinking(positions)


def find_t_inst(ids: Sequence[int], decode: Decode, tail: str) -> int:
    """Index of the last token of the last user message in a prompt that ends with the template's
    `tail`. A token that holds the end of the message and the start of the tail counts as the
    message's."""
    text = decode(ids)
    if not text.endswith(tail):
        raise PositionsError(
            "positions 't_inst' and 'tail' need a prompt that ends as the chat template ends it, "
            f"with {tail!r}; this one ends with {text[-len(tail) or -20:]!r}. Build it with "
            "tokenizer.apply_chat_template(messages, add_generation_prompt=True).")
    message = text[:len(text) - len(tail)]
    end = len(ids)
    while end > 1 and decode(ids[:end - 1]).startswith(message):
        end -= 1
    return end - 1


def before_tail(ids: Sequence[int], tail: Sequence[int]) -> int:
    """As `find_t_inst`, where the tail is known as token ids."""
    if tuple(ids[-len(tail):]) != tuple(tail) or len(ids) == len(tail):
        raise PositionsError(
            f"This plan is for prompts that end with the tokens {list(tail)}, as the pack's chat "
            f"template ends them; this one ends with {list(ids[-len(tail):])}. Build it with "
            "tokenizer.apply_chat_template(messages, add_generation_prompt=True).")
    return len(ids) - len(tail) - 1


def is_thinking(response: str, marks: TemplateMarks) -> bool:
    """Whether a reply that so far reads `response` is inside a reasoning segment."""
    assert marks.think_open is not None
    assert marks.think_close is not None
    text = marks.tail + response
    return text.rfind(marks.think_open) > text.rfind(marks.think_close)


def thinking_tokens(ids: Sequence[int], decode: Decode, marks: TemplateMarks) -> list[bool]:
    """For each token of a response, whether it belongs to the reasoning: from the token that
    completes the opening mark to the one that completes the closing mark."""
    states = [is_thinking(decode(ids[:n]) if n else "", marks) for n in range(len(ids) + 1)]
    return [before or after for before, after in pairwise(states)]


def answer_of(reply: str, marks: TemplateMarks) -> str | None:
    """`reply` (special tokens kept) without its reasoning; None if it was cut off inside it."""
    if marks.think_open is None or marks.think_close is None:
        return reply
    if is_thinking(reply, marks):
        return None
    start = reply.rfind(marks.think_close)
    return reply if start < 0 else reply[start + len(marks.think_close):]


def keep_for_training(ids: Int[Tensor, " seq"], values: Tensor,
                      bos: int | None) -> Bool[Tensor, " seq"]:
    """Tokens an SAE is trained on: no BOS, no attention sinks (norm over 10 x the median)."""
    norms = values.float().norm(dim=-1)
    keep = norms <= 10 * norms.median()
    return keep if bos is None else keep & (ids != bos)
