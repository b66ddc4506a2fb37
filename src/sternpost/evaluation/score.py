"""score: what a task scores where it counts no hits (a likelihood, an overlap), its own unit.

Covered: tasks of lm-evaluation-harness whose figure is a mean over documents. Not covered: figures
over a whole set, such as a corpus BLEU. Overall: compare it with itself; units differ by task.
"""

from collections.abc import Sequence

from sternpost.evaluation.metrics import Line, Metric, Value, value_of


def values(lines: Sequence[Line]) -> list[Value]:
    """What each document scored."""
    return [value_of(line, line["score"]) for line in lines if line.get("score") is not None]


METRIC = Metric("score", "what tasks that count no hits score (their own unit)", values, rate=False)
