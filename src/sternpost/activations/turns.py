"""Where each user message of a prompt ends, for who reads more than the last."""

from bisect import bisect_left
from collections.abc import Sequence

from sternpost.activations.positions import Decode, before_tail, find_t_inst
from sternpost.types import TemplateMarks


def find_turns(ids: Sequence[int], decode: Decode, marks: TemplateMarks,
               between: str) -> list[int]:
    """Index of the last token of every user message that was answered, and of the last one, in
    order. `between`: what the template puts between a message and its answer. As for the last, a
    token that holds the end of a message and the start of what follows counts as the message's.
    A message that itself says what stands between turns is read there too.
    """
    last = find_t_inst(ids, decode, marks.tail)
    text = decode(ids)
    text = text[:len(text) - len(marks.tail)]
    ends, at = [], text.find(between)
    while at >= 0:
        message = text[:at]
        ends.append(bisect_left(range(len(ids)), True, key=lambda end, message=message: decode(
            ids[:end]).startswith(message)) - 1)
        at = text.find(between, at + len(between))
    return [*sorted({end for end in ends if 0 <= end < last}), last]


def turns_before(ids: Sequence[int], tail: Sequence[int]) -> list[int]:
    """As `find_turns`, where what follows a message is known as token ids."""
    last = before_tail(ids, tail)
    ends = [at - 1 for at in range(1, last + 2 - len(tail))
            if tuple(ids[at:at + len(tail)]) == tuple(tail)]
    return [*ends, last]
