"""Counts over the lines of samples.jsonl: which of them count where, and their rates.

Rates are made by `stats`, over clusters, so that they equal those of results.json.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sternpost.report.conditions import Condition, key
from sternpost.stats import rate

Sample = Mapping[str, Any]
UNNAMED = "unnamed"
"""Stands for lines that have no category, or no source."""


def lines_of(samples: Sequence[Sample], condition: Condition | None) -> list[Sample]:
    """The lines that were made under a condition; none without one."""
    if condition is None:
        return []
    wanted = key(condition["name"], condition.get("value"))
    return [s for s in samples if key(s["condition"], s.get("value")) == wanted]


def side(sample: Sample) -> str:
    """`unsafe`, `safe`, `capability`, or `offensive`, which counts in neither refusal rate."""
    kind = str(sample["kind"])
    return "offensive" if kind != "capability" and sample.get("harm_kind") == "offensive" else kind


def rate_of(lines: Sequence[Sample], column: str = "hit") -> dict[str, Any] | None:
    """The share of lines where `column` is true, as in results.json; None without lines."""
    clusters = [str(s.get("cluster") or s.get("prompt_sha256") or s["prompt"]) for s in lines]
    found = rate([bool(s.get(column)) for s in lines], clusters)
    return None if found is None else found.as_dict()


def by_name(lines: Sequence[Sample], column: str) -> dict[str, list[Sample]]:
    """The lines by what stands in `column` (`category`, `source`), in order of appearance."""
    groups: dict[str, list[Sample]] = {}
    for sample in lines:
        groups.setdefault(str(sample.get(column) or UNNAMED), []).append(sample)
    return groups
