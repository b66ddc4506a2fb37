"""The rows of an evaluation's table: benchmark by metric, each beside the paper's where it has one.

A figure is a rate or a mean of results.json, or the points of D.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sternpost.evaluation.paper import (
    Against,
    Figure,
    against,
    in_paper,
    is_papers_model,
    papers_clamp,
    stated,
)
from sternpost.report.evaluation_words import Words
from sternpost.report.numerals import NONE, bounds, point_bounds, point_value, share, value_text

ORDER = ("refusal", "over_refusal", "discrimination", "attack_success", "incoherent", "capability",
         "kl")
"""Metrics in reading order; others follow."""


@dataclass(frozen=True, slots=True)
class Papers:
    """What the paper states of a row."""

    baseline: Figure | None
    steered: Figure | None
    first: Against | None
    """Our baseline beside its."""
    second: Against | None
    """Our steered figure, or change, beside its."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one benchmark."""

    suite: str
    title: str
    """The benchmark's own name."""
    metric: str
    baseline: Any
    steered: Any
    paired: Mapping[str, Any] | None
    """The change: delta, low, high, p, p_holm, n."""
    papers: Papers | None = None
    """None where the model is not the paper's, or the paper measured no such thing."""
    why: str = ""
    """Why there is no figure."""

    @property
    def n(self) -> int | None:
        """What the figures are over, or None."""
        for known in (self.steered, self.baseline, self.paired):
            if isinstance(known, Mapping) and known.get("n"):
                return int(known["n"])
        return None


def rows_of(results: Mapping[str, Any]) -> list[Row]:
    """All rows, benchmarks in their order, metrics in reading order."""
    papers = is_papers_model(str(results.get("model")), results.get("shape"))
    return [row for suite in suites_of(results) for row in _suite(results, suite, papers)]


def suites_of(results: Mapping[str, Any]) -> list[str]:
    """Every benchmark that has a figure."""
    runs = results.get("runs") or {}
    known = [*(results.get("suites") or {}), *runs.get("baseline", {}), *runs.get("steered", {})]
    return list(dict.fromkeys(known))


def title_of(results: Mapping[str, Any], suite: str) -> str:
    """A benchmark's own name, or the suite's."""
    about = (results.get("suites") or {}).get(suite) or {}
    return str(about.get("title") or suite)


def _suite(results: Mapping[str, Any], suite: str, papers: bool) -> Iterator[Row]:
    runs = results.get("runs") or {}
    sides = [dict(runs.get(name, {}).get(suite) or {}) for name in ("baseline", "steered")]
    paired = dict((results.get("paired") or {}).get(suite) or {})
    whys = {**(sides[0].pop("why", None) or {}), **(sides[1].pop("why", None) or {}),
            **(paired.pop("why", None) or {})}
    d = (results.get("discrimination") or {}).get(suite)
    names = [*sides[0], *sides[1], *(["discrimination"] if d else ())]
    for metric in sorted(dict.fromkeys(names), key=_place):
        if metric == "discrimination":
            assert d is not None
            yield Row(suite, title_of(results, suite), metric, d.get("baseline"),
                      d.get("steered"), d.get("paired"))
            continue
        pair = (sides[0].get(metric), sides[1].get(metric), paired.get(metric))
        yield Row(suite, title_of(results, suite), metric, *pair,
                  _papers(results, (suite, metric), pair) if papers else None,
                  str(whys.get(metric) or ""))


def _place(metric: str) -> tuple[int, str]:
    return (ORDER.index(metric), "") if metric in ORDER else (len(ORDER), metric)


def _papers(results: Mapping[str, Any], what: tuple[str, str],
            ours: tuple[Any, Any, Any]) -> Papers | None:
    if not in_paper(*what):
        return None
    clamp = papers_clamp((results.get("steering") or {}).get("clamp"))
    first = stated(*what, None)
    second = stated(*what, clamp) if clamp is not None else None
    return Papers(first, second, first and against(first, ours[0], None),
                  second and against(second, ours[1], ours[2]))


# ---- figures as text -----------------------------------------------------------------------------

def figure_text(figure: Any) -> str:
    """`58.3 %`, `12.4` points of D, `0.031` of a mean, or a dash."""
    if isinstance(figure, Mapping) and "mean" in figure:
        return NONE if figure["mean"] is None else f"{figure['mean']:.3g}"
    if isinstance(figure, Mapping) and "points" in figure:
        value = point_value(figure)
        return NONE if value is None else f"{value + 0.0:.1f}"
    value = share(figure)
    return NONE if value is None else f"{100 * value:.1f} %"


def figure_ends(figure: Any) -> str:
    """`[53.4, 63.0]` in the figure's own unit, or nothing."""
    if isinstance(figure, Mapping) and "mean" in figure:
        ends = figure.get("low"), figure.get("high")
        return "" if None in ends else f"[{ends[0]:.3g}, {ends[1]:.3g}]"
    if isinstance(figure, Mapping) and "points" in figure:
        return _bracket(point_bounds(figure), 1)
    return _bracket(bounds(figure), 100)


def figure_full(figure: Any) -> str:
    """Figure, interval and count, as far as there are."""
    count = f"({figure['hits']}/{figure['n']})" if isinstance(figure, Mapping) \
        and figure.get("n") and "hits" in figure else ""
    return " ".join(part for part in (figure_text(figure), figure_ends(figure), count) if part)


def _bracket(ends: tuple[float, float] | None, times: float) -> str:
    return f"[{times * ends[0] + 0.0:.1f}, {times * ends[1] + 0.0:.1f}]" if ends else ""


def change_text(row: Row) -> str:
    """`+32.3`: points for rates and D, the metric's own unit for means; or a dash."""
    delta = (row.paired or {}).get("delta")
    return NONE if delta is None else _signed(delta, row)


def change_ends(row: Row) -> str:
    """`[+28.1, +36.4]`, or nothing."""
    low, high = ((row.paired or {}).get(key) for key in ("low", "high"))
    return "" if low is None or high is None else f"[{_signed(low, row)}, {_signed(high, row)}]"


def change_full(row: Row) -> str:
    """Change and interval."""
    return " ".join(part for part in (change_text(row), change_ends(row)) if part)


def _signed(value: float, row: Row) -> str:
    if is_mean(row):
        return f"{value:+.3g}"
    value = value if row.metric == "discrimination" else 100 * value
    return f"{round(value, 1) + 0.0:+.1f}"


def is_mean(row: Row) -> bool:
    """Whether a row's figures are means and not shares."""
    return any(isinstance(f, Mapping) and "mean" in f for f in (row.baseline, row.steered))


def p_text(row: Row) -> str:
    """The p-value as people read it: `0.012`, `<0.001`, or a dash."""
    paired = row.paired or {}
    p = paired.get("p_holm") if paired.get("p_holm") is not None else paired.get("p")
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def short_ends(row: Row, figure: Any) -> str:
    """A figure's interval as a terminal has room for it: `53-63`, `28 to 56` of D."""
    if is_mean(row):
        low, high = (figure or {}).get("low"), (figure or {}).get("high")
        return "" if low is None or high is None else f"{low:.2g}-{high:.2g}"
    if row.metric == "discrimination":
        points = point_bounds(figure)
        return f"{points[0]:.0f} to {points[1]:.0f}" if points else ""
    ends = bounds(figure)
    return f"{100 * ends[0]:.0f}-{100 * ends[1]:.0f}" if ends else ""


def short_change(row: Row) -> str:
    """The change's interval likewise: `+28 to +36`."""
    low, high = ((row.paired or {}).get(key) for key in ("low", "high"))
    if low is None or high is None:
        return ""
    if is_mean(row):
        return f"{low:+.2g} to {high:+.2g}"
    times = 1 if row.metric == "discrimination" else 100
    return f"{round(times * low) + 0:+d} to {round(times * high) + 0:+d}"


def clearly(row: Row) -> int:
    """1 where the change is clearly up, -1 down, 0 where its interval holds 0 or there is none."""
    low, high = ((row.paired or {}).get(key) for key in ("low", "high"))
    if low is None or high is None:
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0


def who(results: Mapping[str, Any], words: Words) -> str:
    """What was steered with: `pack dinghy at level high`, `feature 597 at 8.0`."""
    steering = results.get("steering") or {}
    pack = steering.get("pack")
    if pack:
        return words("steering.pack", source=pack.get("source"), level=pack.get("level"))
    edits: Sequence[Mapping[str, Any]] = steering.get("clamp") or ()
    return words("words.list").join(
        words("steering.clamp", feature=edit.get("feature"), value=value_text(edit.get("value")))
        for edit in edits) or words("steering.nothing")


def main_row(rows: Sequence[Row], metric: str) -> Row | None:
    """The row of a metric with the most prompts."""
    known = [row for row in rows if row.metric == metric
             and figure_text(row.steered or row.baseline) != NONE]
    return max(known, key=lambda row: row.n or 0, default=None)
