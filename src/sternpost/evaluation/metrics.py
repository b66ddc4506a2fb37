"""What is counted of the lines of a suite: one short file a metric, all of one shape.

    lines of a condition -> one value a prompt (or reply, or conversation) -> rate or mean
    two conditions -> the same prompts' values -> paired difference, interval, p
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Line = dict[str, Any]
"""A line of samples.jsonl: the columns of `store.sample`, and suite, turn, harmful_turn."""


class Value(NamedTuple):
    """What one prompt, reply or conversation counts."""

    key: str
    """The same in both conditions: values are paired by it."""
    cluster: str
    """Values of one cluster are resampled together."""
    value: float
    """1 or 0 where the metric is a rate."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is counted."""

    name: str
    about: str
    """What it says, in one line."""
    values: Callable[[Sequence[Line]], list[Value]]
    rate: bool = True
    """A share of hits; else a mean."""


def value_of(line: Line, value: float) -> Value:
    """The value of one reply."""
    turn = line.get("turn")
    key = line["prompt_sha256"] if turn is None else f"{line['prompt_sha256']}:{turn}"
    return Value(f"{line['kind']}:{key}", line["cluster"] or line["prompt_sha256"], float(value))


def single(lines: Sequence[Line], kind: str) -> list[Line]:
    """The lines of single prompts of a kind; merely offensive ones are counted apart."""
    return [line for line in lines if line["kind"] == kind and line.get("turn") is None
            and line["harm_kind"] != "offensive"]
