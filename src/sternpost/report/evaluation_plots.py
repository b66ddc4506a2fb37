"""An evaluation's pictures: unsafe refusal against over-refusal, and bars of every group."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sternpost.report.evaluation_rows import figure_full, suites_of, title_of
from sternpost.report.evaluation_words import Words
from sternpost.report.groups import Bar, Chart, Group
from sternpost.report.numerals import bounds, share
from sternpost.report.plots import (
    Axis,
    Frame,
    Labels,
    Point,
    axes,
    bars,
    el,
    line,
    mark,
    nice_ticks,
    picture,
)

MOST_SUITES = 10
"""Benchmarks in one front; those with the most prompts."""
MOST_GROUPS = 16
"""Bars of one chart; those with the most prompts."""
AXES = ("category", "harm_kind", "language")
SIDES = (("baseline", "c-baseline", "circle"), ("steered", "c-gated_clamp", "star"))


@dataclass(frozen=True, slots=True)
class Place:
    """A benchmark in one condition: over-refusal to the right, unsafe refusal up."""

    safe: Any
    unsafe: Any

    @property
    def at(self) -> Point:
        """Percent of both."""
        return 100 * (share(self.safe) or 0), 100 * (share(self.unsafe) or 0)


def front_places(results: Mapping[str, Any]) -> list[tuple[str, Place, Place]]:
    """Every benchmark with both kinds, as (title, baseline, steered)."""
    runs, found = results.get("runs") or {}, []
    for suite in suites_of(results):
        sides = [runs.get(name, {}).get(suite) or {} for name in ("baseline", "steered")]
        places = [Place(side.get("over_refusal"), side.get("refusal")) for side in sides]
        if all(share(rate) is not None for p in places for rate in (p.safe, p.unsafe)):
            found.append((title_of(results, suite), *places))
    largest = sorted(found, key=lambda row: -row[2].unsafe["n"] - row[2].safe["n"])[:MOST_SUITES]
    return [row for row in found if row in largest]


def front(places: Sequence[tuple[str, Place, Place]], size: Point, words: Words) -> Markup:
    """Baseline (open) to steered (star) of every benchmark; diagonals of equal D."""
    rates = [(place.safe, place.unsafe) for _, *pair in places for place in pair]
    frame = _frame(size, _range([safe for safe, _ in rates], 20),
                   _range([unsafe for _, unsafe in rates], 40))
    ticks = nice_ticks(frame.x.low, frame.x.high), nice_ticks(frame.y.low, frame.y.high)
    return picture(frame, words("page.front_label"), "plane front",
                   axes(frame, (words("page.front_x"), words("page.front_y")), ticks),
                   _diagonals(frame), _marks(places, frame, words))


def _range(rates: Sequence[Any], least: float) -> tuple[float, float]:
    """Round ends, percent, that hold all intervals and are at least `least` apart."""
    ends = [100 * end for rate in rates for end in (bounds(rate) or (share(rate) or 0,) * 2)]
    low, high = 10 * math.floor(min(ends) / 10), 10 * math.ceil(max(ends) / 10)
    low = 0 if low <= 20 else low
    high = min(100, max(high, low + least))
    return min(low, high - least), high


def _frame(size: Point, x: Point, y: Point) -> Frame:
    edge = 0.035 * (x[1] - x[0])  # a mark at 0 stands clear of the axis
    return Frame(*size, Axis(x[0] - edge, x[1], 38, size[0] - 48), Axis(*y, size[1] - 50, 34))


def _diagonals(frame: Frame) -> Markup:
    parts = []
    for d in range(-80, 100, 20):
        start, end = max(frame.x.low, frame.y.low - d), min(frame.x.high, frame.y.high - d)
        if start >= end:
            continue
        (x1, y1), (x2, y2) = frame.point(start, start + d), frame.point(end, end + d)
        top = y2 <= frame.y.end + 1
        parts += [el("line", class_="iso", x1=x1, y1=y1, x2=x2, y2=y2),
                  el("text", f"D {d}", class_="iso-label", x=x2 if top else x2 + 5,
                     y=y2 - 5 if top else y2 + 4, text_anchor="middle" if top else "start")]
    return Markup("").join(parts)


def _marks(places: Sequence[tuple[str, Place, Place]], frame: Frame, words: Words) -> Markup:
    labels, below, above = Labels(frame), [], []
    for title, *pair in places:
        ends = [frame.point(*place.at) for place in pair]
        below.append(line(ends, "c-gated_clamp path"))
        labels.keep_line_clear(*ends)
        for (name, class_, shape), place, at in zip(SIDES, pair, ends, strict=True):
            labels.keep_mark_clear(at, 8)
            across, down = (
                None if found is None else (axis.at(100 * found[0]), axis.at(100 * found[1]))
                for axis, found in ((frame.x, bounds(place.safe)), (frame.y, bounds(place.unsafe))))
            below.append(bars(at, across, down, class_))
            tip = "\n".join([f"{title}, {words(f'words.{name}')}",
                             f"{words.named('metrics', 'refusal')} {figure_full(place.unsafe)}",
                             f"{words.named('metrics', 'over_refusal')} {figure_full(place.safe)}"])
            above.append(mark(shape, at, class_, tip, 6.5 if shape == "star" else 5))
    for title, _, after in places:
        labels.add(title, frame.point(*after.at), "strong c-gated_clamp")
    return Markup("").join([*below, *above, labels.drawn()])


# ---- groups --------------------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class GroupChart:
    """One chart of groups, with what is left out."""

    heading: str
    chart: Chart
    shown: int
    all: int


def group_charts(results: Mapping[str, Any], words: Words) -> Iterator[GroupChart]:
    """Refusal, over-refusal and attack success of every group of every benchmark."""
    for suite, by_axis in (results.get("groups") or {}).items():
        for axis in (name for name in AXES if name in by_axis):
            for metric in ("refusal", "over_refusal", "attack_success"):
                groups = [_group(str(name), entry, metric, words)
                          for name, entry in by_axis[axis].items()]
                known = [group for group in groups if group.n]
                if len(known) > 1:
                    kept = sorted(known, key=lambda group: -group.n)[:MOST_GROUPS]
                    title = f"{words.named('metrics', metric)}, %"
                    heading = words("page.group_heading", axis=words.named("axes", axis),
                                    suite=title_of(results, suite),
                                    metric=words.named("metrics", metric))
                    yield GroupChart(heading,
                                     Chart(title, tuple(sorted(kept, key=_steered)), legend=True),
                                     len(kept), len(known))


def _steered(group: Group) -> float:
    return -(share(group.bars[-1].rate) or 0)


def _group(name: str, entry: Mapping[str, Any], metric: str, words: Words) -> Group:
    return Group(name.replace("_", " "), tuple(
        Bar((entry.get(side) or {}).get(metric), words(f"words.{side}"), class_, shape)
        for side, class_, shape in SIDES), below=_moved((entry.get("paired") or {}).get(metric)))


def _moved(change: Mapping[str, Any] | None) -> str:
    """`+32 [+28, +36]`, points; nothing where there is no change."""
    if change is None:
        return ""
    at, low, high = (f"{round(100 * change[key]) + 0:+d}" for key in ("delta", "low", "high"))
    return f"{at} [{low}, {high}]"
