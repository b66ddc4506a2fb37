"""The planes: unsafe refusal against over-refusal with lines of equal D, and D against a cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from sternpost.report.conditions import Condition, find, label, marks, ordered
from sternpost.report.numerals import (
    bounds,
    percent,
    point_bounds,
    point_interval,
    point_value,
    points,
    share,
    value_text,
    with_interval,
)
from sternpost.report.plots import (
    Axis,
    Frame,
    Labels,
    axes,
    bars,
    el,
    line,
    mark,
    nice_ticks,
    picture,
)

SHAPES = {"baseline": "circle", "splice_in": "square", "clamp": "circle",
          "random_feature": "triangle", "diffmean": "diamond", "gated_clamp": "star"}

Size = tuple[float, float]
"""Width and height in px."""
Read = Callable[[Condition], tuple[float, tuple[float, float] | None] | None]
"""A condition's place on one axis, with its interval's ends; None where it has none."""


def in_percent(key: str) -> Read:
    """Reads a rate in percent."""
    def read(condition: Condition) -> tuple[float, tuple[float, float] | None] | None:
        value, ends = share(condition.get(key)), bounds(condition.get(key))
        return None if value is None else (
            100 * value, (100 * ends[0], 100 * ends[1]) if ends else None)
    return read


def in_points(condition: Condition) -> tuple[float, tuple[float, float] | None] | None:
    """Reads D in points."""
    d = condition.get("discrimination")
    value = point_value(d)
    return None if value is None else (value, point_bounds(d))


def refusal_plane(results: Mapping[str, Any], size: Size) -> Markup:
    """Unsafe refusal (up) against over-refusal (right), percent; diagonals of equal D."""
    conditions = ordered(results)
    reads = in_percent("over_refusal"), in_percent("unsafe_refusal")
    x_range = _range([reads[0](c) for c in conditions], 40, (0, 100))
    y_range = _range([reads[1](c) for c in conditions], 40, (0, 100))
    frame = _frame(size, x_range, y_range)
    titles = ("over-refusal, % of safe prompts", "unsafe refusal, %")
    return picture(frame, "Unsafe refusal against over-refusal for every condition", "plane",
                   axes(frame, titles, _ticks(frame)), _diagonals(frame),
                   _better(frame, find(results, "baseline")), _marks(results, frame, reads))


def cost_plane(results: Mapping[str, Any], size: Size, key: str, title: str) -> Markup:
    """D (up, points) against a cost or capability (right, percent)."""
    conditions = [c for c in ordered(results) if share(c.get(key)) is not None]
    reads = in_percent(key), in_points
    x_range = _range([reads[0](c) for c in conditions], 10, (0, 100))
    y_range = _range([reads[1](c) for c in conditions], 40, (-100, 100))
    frame = _frame(size, x_range, y_range)
    return picture(frame, f"D against {title} for every condition", "plane",
                   axes(frame, (title, "D, points"), _ticks(frame)),
                   _marks(results, frame, reads))


def _range(values: Sequence[Any], least: float, limits: tuple[float, float]) -> tuple[float, float]:
    """Round ends that hold all intervals, at least `least` apart, within `limits`."""
    ends = [end for value in values if value for end in (value[0], *(value[1] or ()))]
    low, high = (min(ends), max(ends)) if ends else limits
    step = 5 if high - low < 30 else 10
    low, high = step * math.floor(low / step), step * math.ceil(high / step)
    if low <= 25 and limits[0] == 0:
        low = 0
    high = max(high, min(limits[1], low + least))
    return max(limits[0], min(low, high - least)), min(limits[1], high)


def _frame(size: Size, x: tuple[float, float], y: tuple[float, float]) -> Frame:
    width, height = size
    edge = 0.035 * (x[1] - x[0])  # a mark at 0 stands clear of the axis
    return Frame(width, height, Axis(x[0] - edge, x[1], 38, width - 40), Axis(*y, height - 50, 30))


def _ticks(frame: Frame) -> tuple[list[float], list[float]]:
    return nice_ticks(frame.x.low, frame.x.high, 5), nice_ticks(frame.y.low, frame.y.high, 5)


def _diagonals(frame: Frame) -> Markup:
    parts = []
    for d in range(-80, 100, 20):
        ends = _diagonal(frame, d)
        if ends is None:
            continue
        (x1, y1), (x2, y2) = ends
        parts.append(el("line", class_="iso", x1=x1, y1=y1, x2=x2, y2=y2))
        at_top = y2 <= frame.y.end + 1
        parts.append(el("text", f"D {d}", class_="iso-label", x=x2 if at_top else x2 + 5,
                        y=y2 - 5 if at_top else y2 + 4,
                        text_anchor="middle" if at_top else "start"))
    return Markup("").join(parts)


def _diagonal(frame: Frame, d: float) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The pixels where the line y = x + d enters and leaves the frame."""
    start = max(frame.x.low, frame.y.low - d)
    end = min(frame.x.high, frame.y.high - d)
    return None if start >= end else (frame.point(start, start + d), frame.point(end, end + d))


def _better(frame: Frame, baseline: Condition | None) -> Markup:
    """Tints the half where D is above the baseline's."""
    d = point_value((baseline or {}).get("discrimination"))
    ends = None if d is None else _diagonal(frame, d)
    if ends is None:
        return Markup("")
    (x1, y1), (x2, y2) = ends
    left, top = frame.x.start, frame.y.end
    corners = [(x1, y1), (x2, y2), (x2, top), (left, top), (left, y1)]
    return el("polygon", el("title", "Above this line D is higher than the baseline's"),
              class_="better", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in corners))


def _marks(results: Mapping[str, Any], frame: Frame, reads: tuple[Read, Read]) -> Markup:
    labels = Labels(frame)
    below, above, named = [], [], []
    for condition in ordered(results):
        x, y = reads[0](condition), reads[1](condition)
        if x is None or y is None:
            continue
        at = frame.point(x[0], y[0])
        marked = marks(results, condition)
        labels.keep_mark_clear(at, 12 if marked else 7)
        kind = f"c-{condition['name']}" if condition["name"] in SHAPES else "c-other"
        across = (frame.x.at(x[1][0]), frame.x.at(x[1][1])) if x[1] else None
        down = (frame.y.at(y[1][0]), frame.y.at(y[1][1])) if y[1] else None
        below.append(bars(at, across, down, kind))
        for start, end in (((across[0], at[1]), (across[1], at[1])) if across else (at, at),
                           ((at[0], down[0]), (at[0], down[1])) if down else (at, at)):
            labels.keep_line_clear(start, end)
        if marked:
            above.append(el("circle", class_="ring", cx=at[0], cy=at[1], r=9.5))
        above.append(mark(SHAPES.get(condition["name"], "circle"), at, kind, tip(condition)))
        named.append((condition, at, marked))
    swept = [at for c, at, _ in named if c["name"] == "clamp"]
    path = line(swept, "c-clamp path")
    for start, end in pairwise(swept):
        labels.keep_line_clear(start, end)
    for condition, at, marked in sorted(named, key=lambda n: _rank(n[0], n[2])):
        clamped = condition["name"] == "clamp"
        text = value_text(condition["value"]) if clamped else label(condition)
        if marked:
            text = f"clamp {text}, {', '.join(marked)}"
        labels.add(text, at, "strong" if marked else "", needed=bool(marked) or not clamped)
    return Markup("").join([*below, path, *above, labels.drawn()])


def _rank(condition: Condition, marked: list[str]) -> int:
    """Labels that matter most choose their place first."""
    return 0 if marked else 2 if condition["name"] == "clamp" else 1


def tip(condition: Condition) -> str:
    """A condition's figures in a few lines, for the tooltip."""
    lines = [label(condition), f"unsafe refusal {with_interval(condition.get('unsafe_refusal'))}",
             f"over-refusal {with_interval(condition.get('over_refusal'))}",
             f"D {points(condition.get('discrimination'))} "
             f"{point_interval(condition.get('discrimination'))}",
             f"incoherent {percent(condition.get('incoherent'))}"]
    if condition.get("capability"):
        lines.append(f"capability {percent(condition['capability'])}")
    return "\n".join(lines)
