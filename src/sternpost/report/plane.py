"""The planes: D against capability, unsafe refusal against over-refusal, D against a cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from sternpost.report.conditions import Condition, find, label, marks, ordered, same
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
    x_range = _range([reads[0](c) for c in conditions], 20, (0, 100))
    y_range = _range([reads[1](c) for c in conditions], 40, (0, 100))
    frame = _frame(size, x_range, y_range)
    titles = ("over-refusal, % of safe prompts", "unsafe refusal, %")
    return picture(frame, "Unsafe refusal against over-refusal for every condition", "plane",
                   axes(frame, titles, _ticks(frame)), _diagonals(frame),
                   _better(frame, find(results, "baseline")), _marks(results, frame, reads))


def trade_plane(results: Mapping[str, Any], size: Size) -> Markup:
    """D (up, points) against capability (right, percent); tinted: above the baseline in both."""
    conditions = [c for c in ordered(results) if share(c.get("capability")) is not None]
    reads = in_percent("capability"), in_points
    frame = _frame(size, _range([reads[0](c) for c in conditions], 20, (0, 100)),
                   _range([reads[1](c) for c in conditions], 30, (-100, 100)))
    return picture(frame, "D against capability for every condition", "plane trade",
                   axes(frame, ("capability, % of answers right", "D, points"),
                        _ticks(frame, 5 if size[0] < 500 else 10)),
                   _both(frame, find(results, "baseline"), reads), _marks(results, frame, reads))


def _both(frame: Frame, baseline: Condition | None, reads: tuple[Read, Read]) -> Markup:
    """Lines through the baseline, and the quarter that beats it in both ways tinted."""
    x, y = (read(baseline) if baseline else None for read in reads)
    if x is None or y is None:
        return Markup("")
    at = frame.point(x[0], y[0])
    top, right = frame.y.end, frame.x.end
    return Markup("").join([
        el("rect", el("title", "Higher D than the baseline, and no capability lost"),
           class_="better", x=at[0], y=top, width=right - at[0], height=at[1] - top),
        el("line", class_="cross", x1=frame.x.start, x2=right, y1=at[1], y2=at[1]),
        el("line", class_="cross", x1=at[0], x2=at[0], y1=frame.y.start, y2=top)])


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


def _ticks(frame: Frame, count: int = 5) -> tuple[list[float], list[float]]:
    return nice_ticks(frame.x.low, frame.x.high, count), nice_ticks(frame.y.low, frame.y.high, 5)


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
        gated = condition["name"] == "gated_clamp"
        labels.keep_mark_clear(at, 12 if marked or gated else 7)
        kind = f"c-{condition['name']}" if condition["name"] in SHAPES else "c-other"
        across = (frame.x.at(x[1][0]), frame.x.at(x[1][1])) if x[1] else None
        down = (frame.y.at(y[1][0]), frame.y.at(y[1][1])) if y[1] else None
        below.append(bars(at, across, down, kind))
        for start, end in (((across[0], at[1]), (across[1], at[1])) if across else (at, at),
                           ((at[0], down[0]), (at[0], down[1])) if down else (at, at)):
            labels.keep_line_clear(start, end)
        if marked or gated:
            above.append(el("circle", class_=f"ring {kind}", cx=at[0], cy=at[1],
                            r=12 if gated else 9.5))
        above.append(mark(SHAPES.get(condition["name"], "circle"), at, kind, tip(condition),
                          6.5 if gated else 5))
        named.append((condition, at, marked))
    swept = [at for c, at, _ in named if c["name"] == "clamp"]
    behind = _behind(named)
    paths = [line(swept, "c-clamp path"), line(behind, "c-gated_clamp behind")]
    for start, end in (*pairwise(swept), *pairwise(behind)):
        labels.keep_line_clear(start, end)
    for condition, at, marked in sorted(named, key=lambda n: _rank(n[0], n[2])):
        name, class_ = _label(condition, marked)
        labels.add(name, at, class_, needed=bool(marked) or condition["name"] != "clamp")
    return Markup("").join([*below, *paths[:2 if behind else 1], *above, labels.drawn()])


def _label(condition: Condition, marked: list[str]) -> tuple[str, str]:
    """What stands beside a mark, and its class."""
    value = value_text(condition.get("value"))
    if condition["name"] == "gated_clamp":
        known = f" {value}" if condition.get("value") is not None else ""
        return label(condition) + known, "strong c-gated_clamp"
    if condition["name"] != "clamp":
        return label(condition), ""
    return (f"clamp {value}, {', '.join(marked)}", "strong") if marked else (value, "")


def _behind(named: Sequence[tuple[Condition, tuple[float, float], list[str]]]
            ) -> list[tuple[float, float]]:
    """From the clamp to the same clamp behind the gate, what the gate alone does; else nothing."""
    gated = next(((c, at) for c, at, _ in named if c["name"] == "gated_clamp"), None)
    clamp = next((at for c, at, _ in named if gated and c["name"] == "clamp"
                  and same(c.get("value"), gated[0].get("value"))), None)
    return [clamp, gated[1]] if gated and clamp else []


def _rank(condition: Condition, marked: list[str]) -> int:
    """Labels that matter most choose their place first."""
    known = {"gated_clamp": 0, "baseline": 1, "clamp": 3}
    return 1 if marked else known.get(condition["name"], 2)


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
