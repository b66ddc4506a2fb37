"""Horizontal bars in groups: a rate each, with its interval, its mark and its figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sternpost.report.numerals import bounds, round_percent, share, with_interval
from sternpost.report.plots import LETTER, Axis, Frame, el, mark, nice_ticks, picture

PITCH, THICK, GAP, HEADING = 15.0, 9.0, 13.0, 30.0
"""Px from bar to bar, of a bar, between groups, for a heading."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One rate of a group."""

    rate: Any
    name: str
    """What the legend and the tooltip call it."""
    class_: str
    shape: str = "circle"


@dataclass(frozen=True, slots=True)
class Group:
    """What stands in one row of the chart, one bar or several."""

    name: str
    bars: tuple[Bar, ...]
    above: str = ""
    """A heading over this group, where it is the first of its sort."""
    below: str = ""
    """What stands under its name, in a group of two bars or more."""

    @property
    def n(self) -> int:
        """Prompts in the largest of its rates."""
        return max((bar.rate["n"] for bar in self.bars if bar.rate), default=0)


@dataclass(frozen=True, slots=True)
class Chart:
    """All groups, and how they are read."""

    title: str
    groups: tuple[Group, ...]
    legend: bool = False
    line: tuple[float, str] | None = None
    """A fraction to compare all bars with, and its name."""


def bar_chart(chart: Chart, width: float) -> Markup:
    """The chart as a picture, as high as it needs to be; nothing without groups."""
    if not chart.groups:
        return Markup("")
    column = 160.0 if width > 400 else 140.0
    keys, low = _legend(chart, width) if chart.legend else (Markup(""), 4.0)
    low += 20 if chart.line else 0
    places, bottom = _places(chart.groups, low)
    x = Axis(0, _top(chart), column, width - 44)
    frame = Frame(width, bottom + 50, x, Axis(0, 1, bottom, low))
    rows = [_group(group, place, frame) for group, place in zip(chart.groups, places, strict=True)]
    return picture(frame, chart.title, "groups", keys, _grid(frame, chart.title),
                   _line(chart, frame), *rows)


def _places(groups: Sequence[Group], top: float) -> tuple[list[float], float]:
    """The px where each group's first bar begins, and where the last group ends."""
    places, y = [], top
    for group in groups:
        y += HEADING if group.above else GAP
        places.append(y)
        y += PITCH * len(group.bars)
    return places, y + GAP / 2


def _top(chart: Chart) -> float:
    """The axis' end, percent: round, at least 10, beyond every interval."""
    ends = [100 * end for group in chart.groups for bar in group.bars
            for end in (share(bar.rate) or 0, *(bounds(bar.rate) or ()))]
    high = max([*ends, 100 * chart.line[0] if chart.line else 0, 10])
    step = 5 if high <= 40 else 10
    return min(100.0, step * math.ceil(high / step - 1e-9))


def _grid(frame: Frame, title: str) -> Markup:
    parts = []
    for tick in nice_ticks(frame.x.low, frame.x.high, 5):
        x = frame.x.at(tick)
        parts += [el("line", class_="grid", x1=x, x2=x, y1=frame.y.end, y2=frame.y.start),
                  el("text", f"{tick:g}", class_="tick", x=x, y=frame.y.start + 17,
                     text_anchor="middle")]
    parts += [el("line", class_="axis", x1=frame.x.start, x2=frame.x.start, y1=frame.y.end,
                 y2=frame.y.start),
              el("text", title, class_="title", x=frame.width - 44, y=frame.y.start + 37,
                 text_anchor="end")]
    return Markup("").join(parts)


def _line(chart: Chart, frame: Frame) -> Markup:
    if chart.line is None:
        return Markup("")
    x, text = frame.x.at(100 * chart.line[0]), chart.line[1]
    return Markup("").join([
        el("line", class_="budget", x1=x, x2=x, y1=frame.y.end - 4, y2=frame.y.start),
        el("text", text, class_="label strong", x=x - 3, y=frame.y.end - 9)])


def _group(group: Group, top: float, frame: Frame) -> Markup:
    middle = top + PITCH * len(group.bars) / 2 + 4 - (PITCH / 2 if group.below else 0)
    room = int((frame.x.start - 36) / (1.05 * LETTER))
    fits = len(group.name) <= room
    name = group.name if fits else group.name[:room - 1] + "\N{HORIZONTAL ELLIPSIS}"
    parts = [el("text", el("title", group.name), name, class_="name", x=0, y=middle),
             el("text", f"{group.n}", class_="tick", x=frame.x.start - 8, y=middle,
                text_anchor="end")]
    if group.below:
        parts.append(el("text", group.below, class_="tick", x=0, y=middle + PITCH))
    if group.above:
        parts.append(el("text", group.above, class_="heading", x=0, y=top - 9))
    for i, bar in enumerate(group.bars):
        parts.append(_bar(bar, group.name, top + PITCH * (i + 0.5), frame))
    return Markup("").join(parts)


def _bar(bar: Bar, group: str, y: float, frame: Frame) -> Markup:
    value, ends = share(bar.rate), bounds(bar.rate)
    if value is None:
        return el("text", "\N{EN DASH}", class_="figure", x=frame.x.start + 6, y=y + 4)
    at = frame.point(100 * value, 0)[0]
    tip = f"{group}\n{bar.name} {with_interval(bar.rate)}"
    parts = [el("rect", el("title", tip), class_=f"fill {bar.class_}", x=frame.x.start,
                y=y - THICK / 2, width=max(0.5, at - frame.x.start), height=THICK)]
    far = at
    if ends:
        near, far = frame.x.at(100 * ends[0]), max(at, frame.x.at(100 * ends[1]))
        parts.append(el("line", class_=f"whisker {bar.class_}", x1=near, x2=far, y1=y, y2=y))
    parts += [mark(bar.shape, (at, y), bar.class_, tip, _size(bar)),
              el("text", round_percent(bar.rate), class_="figure", x=far + 7, y=y + 4)]
    return Markup("").join(parts)


def _size(bar: Bar) -> float:
    return 4.8 if bar.shape == "star" else 3.8


def _legend(chart: Chart, width: float) -> tuple[Markup, float]:
    """The bars' names above the chart, and the px where the chart may begin."""
    parts, x, y = [], 6.0, 12.0
    for bar in max((group.bars for group in chart.groups), key=len):
        long = 16 + 1.25 * LETTER * len(bar.name)  # its letters are larger and bold
        if x + long > width and x > 6:
            x, y = 6.0, y + 20
        parts += [mark(bar.shape, (x, y - 4), bar.class_, size=_size(bar)),
                  el("text", bar.name, class_=f"key {bar.class_}", x=x + 11, y=y)]
        x += long + 14
    return Markup("").join(parts), y + 8
