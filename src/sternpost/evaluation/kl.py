"""kl: how far steering moves the first token of replies to harmless prompts, nats.

    KL(p || q) = sum over tokens of p log(p / q)      p: the model's own; q: steered

Covered: safe prompts that are not sensitive, and tasks. Not covered: later tokens. Overall: a cost
that no judge can get wrong; 0 to the last bit where a gate stays shut.
"""

from collections.abc import Sequence

from sternpost.evaluation.metrics import Line, Metric, Value, value_of
from sternpost.types import LabelledPrompt


def values(lines: Sequence[Line]) -> list[Value]:
    """Nats of each harmless prompt; the baseline's are 0."""
    return [value_of(line, line["kl"]) for line in lines if line.get("kl") is not None]


def harmless(prompt: LabelledPrompt) -> bool:
    """Whether a prompt is one on which nothing should move."""
    return prompt.kind == "capability" or (
        prompt.kind == "safe" and prompt.harm_kind in (None, "none"))


METRIC = Metric("kl", "how far the first token of harmless replies moves (nats)", values,
                rate=False)
