"""What a gate was fitted on: rows of each side by category, group, language, or any other column.

A false-fire rate is known only for kinds of benign prompts that were there; each value with fewer
than 30 of them is named.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sternpost.stats.clusters import check_lengths

FEW = 30
"""Benign rows below which a value is warned of."""
UNNAMED = "unnamed"
"""Rows without a value."""


class Sides(NamedTuple):
    """Rows of one value."""

    harmful: int
    benign: int


@dataclass(frozen=True)
class Coverage:
    """Counts by column and value, values in order of their names."""

    counts: dict[str, dict[str, Sides]]
    warnings: tuple[str, ...]


def coverage(harmful: Sequence[bool], columns: Mapping[str, Sequence[str | None]]) -> Coverage:
    """How many rows of each side every value of every column has."""
    check_lengths(harmful=harmful, **columns)
    counts = {name: _counted(harmful, values) for name, values in columns.items()}
    few = [f"gate: {name} {value!r} has {sides.benign} benign rows, fewer than {FEW}: how often "
           "the gate fires on such prompts is not known." for name, found in counts.items()
           for value, sides in found.items() if sides.benign < FEW]
    return Coverage(counts, tuple(few))


def _counted(harmful: Sequence[bool], values: Sequence[str | None]) -> dict[str, Sides]:
    named = [UNNAMED if value is None else value for value in values]
    found = Counter(zip(named, map(bool, harmful), strict=True))
    return {value: Sides(found[value, True], found[value, False]) for value in sorted(set(named))}
