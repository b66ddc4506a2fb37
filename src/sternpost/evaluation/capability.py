"""capability: the share of tasks that are answered right.

Covered: tasks with a known answer, generated or scored by log-likelihood. Not covered: open-ended
quality. Overall: the second cost of steering; families differ, so they stand apart too.
"""

from collections.abc import Sequence

from sternpost.evaluation.metrics import Line, Metric, Value, value_of


def values(lines: Sequence[Line]) -> list[Value]:
    """1 for a task that is answered right."""
    return [value_of(line, line["hit"]) for line in lines if line["kind"] == "capability"]


METRIC = Metric("capability", "tasks that are answered right", values)
