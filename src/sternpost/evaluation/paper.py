"""The founding paper's own figures (arXiv 2411.11296), beside which ours are put.

    difference = ours - the paper's, points         covered: the paper's lies in our 95 % interval

The figures are data (paper.toml), each with its source. Covered: the model it steered. Not
covered: its judge, its prompts' order, its SAE. Overall: a figure that is covered agrees; one that
is not may differ by any of these.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure that the paper states."""

    benchmark: str
    metric: str
    source: str
    """Where it stands."""
    clamp: float | None = None
    """The clamp value that it was measured at; None for the model as it is."""
    value: float | None = None
    """The rate, percent."""
    change: float | None = None
    """The change against the baseline, points."""
    rounded: bool = False
    """Known to no more digits than are written."""


@dataclass(frozen=True, slots=True)
class Against:
    """One of our figures beside the paper's, percent or points."""

    figure: Figure
    difference: float
    """Ours minus the paper's, points."""
    covered: bool | None
    """Whether our 95 % interval holds the paper's figure; None where ours has none."""


@cache
def paper() -> Mapping[str, Any]:
    """paper.toml."""
    text = resources.files("sternpost.evaluation").joinpath("paper.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def figures() -> tuple[Figure, ...]:
    """All figures that the paper states."""
    return tuple(Figure(**row) for row in paper()["figure"])


def is_papers_model(name: str, shape: Mapping[str, Any] | None = None) -> bool:
    """Whether a model is the paper's: by its name or path and by its `shape`, as results.json has
    it. The shape must be the paper's whatever the name says; where the name says nothing the
    context must be too. Without a shape (older files) the name decides."""
    said = name.lower().replace("_", "-")
    if any(other in said for other in paper()["others"]):
        return False
    named = any(known in said for known in paper()["names"])
    if not shape:
        return named
    same = all(shape.get(key) == value for key, value in paper()["shape"].items())
    return same and (named or shape.get("context") == paper()["context"])


def benchmark_of(suite: str) -> str | None:
    """The paper's benchmark that a suite or task is, or None."""
    return next((name for name, known in paper()["benchmarks"].items()
                 if _plain(suite) in map(_plain, known)), None)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def stated(suite: str, metric: str, clamp: float | None) -> Figure | None:
    """What the paper states of a suite's metric at a clamp value (None: baseline), or None."""
    name = benchmark_of(suite)
    return next((one for one in figures() if (one.benchmark, one.metric) == (name, metric)
                 and _same(one.clamp, clamp)), None)


def in_paper(suite: str, metric: str) -> bool:
    """Whether the paper measured this, whatever it states of it."""
    return metric in paper()["metrics"].get(benchmark_of(suite) or "", ())


def papers_clamp(clamp: Sequence[Mapping[str, Any]] | None) -> float | None:
    """The clamp value of a steering, where it is one of the paper's; else None."""
    values = [float(edit["value"]) for edit in clamp or () if edit.get("value") is not None]
    known = [value for value in paper()["clamps"] if len(values) == 1 and _same(value, values[0])]
    return float(known[0]) if known else None


def against(figure: Figure, rate: Any, change: Any) -> Against | None:
    """Ours beside the paper's: `rate` our rate in that condition, `change` its paired difference
    (fractions), as results.json has them. None where ours was not measured."""
    if figure.change is not None:
        return _beside(figure, figure.change, change and change.get("delta"), change)
    share = rate["hits"] / rate["n"] if rate and rate.get("n") and "hits" in rate else None
    return _beside(figure, figure.value, share, rate)


def _beside(figure: Figure, theirs: float | None, ours: float | None, ends: Any) -> Against | None:
    if ours is None or theirs is None:
        return None
    low, high = ends.get("low"), ends.get("high")
    covered = None if low is None or high is None else 100 * low <= theirs <= 100 * high
    return Against(figure, 100 * ours - theirs, covered)


def _same(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else math.isclose(one, other)
