"""Inline SVG from small functions: axes, bands, marks with intervals, labels that make room.

Colours are classes; the report's style sheet gives them, so that light and dark both work.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Point = tuple[float, float]
CROWDED = 70.0
"""A label that costs more than this (px^2 covered, and px away) is left out, if it may be."""
LETTER = 6.3
"""Mean width of a 12 px letter in px; wide enough for the fonts that we cannot know."""


def el(tag: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """One SVG element; `class_` and `stroke_width` become `class` and `stroke-width`."""
    pairs = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _number(value))
        for name, value in attributes.items() if value is not None)
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{}{}>{}</{}>").format(Markup(tag), pairs, inside, Markup(tag))


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2, 2.5, 5 times a power of ten) from `low` to `high`."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear map from [low, high] to the pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of `value`."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Frame:
    """A plotting area: where it stands in its picture, and its two axes."""

    width: float
    height: float
    x: Axis
    y: Axis

    def point(self, x: float, y: float) -> Point:
        """Pixels of a data point."""
        return self.x.at(x), self.y.at(y)

    def inside(self, box: "Box", slack: float = 2) -> bool:
        """Whether a box lies in the picture, `slack` px from its edges."""
        return (box.x >= self.x.start + slack and box.x + box.width <= self.width - slack
                and box.y >= self.y.end - slack and box.y + box.height <= self.y.start - slack)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in px, by its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    def nearest(self, to: Point) -> Point:
        """The box's point that is nearest to `to`."""
        return (min(max(to[0], self.x), self.x + self.width),
                min(max(to[1], self.y), self.y + self.height))

    def overlap(self, other: "Box") -> float:
        """The area that both cover, px^2."""
        if (other.x >= self.x + self.width or other.y >= self.y + self.height
                or self.x >= other.x + other.width or self.y >= other.y + other.height):
            return 0.0  # nearly always: labels are tried at 32 places each
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return across * down


def axes(frame: Frame, titles: tuple[str, str], ticks: tuple[Sequence[float], Sequence[float]],
         labels: Callable[[float], str] = "{:g}".format) -> Markup:
    """Grid lines, tick labels and the axes' titles (y's stands above, level, to be read)."""
    x, y = frame.x, frame.y
    parts = []
    for tick in ticks[1]:
        parts += [el("line", class_="grid", x1=x.start, x2=x.end, y1=y.at(tick), y2=y.at(tick)),
                  el("text", f"{tick:g}", class_="tick", x=x.start - 8, y=y.at(tick) + 4,
                     text_anchor="end")]
    for tick in ticks[0]:
        parts += [el("line", class_="stub", x1=x.at(tick), x2=x.at(tick), y1=y.start,
                     y2=y.start + 4),
                  el("text", labels(tick), class_="tick", x=x.at(tick), y=y.start + 19,
                     text_anchor="middle")]
    parts += [el("line", class_="axis", x1=x.start, x2=x.end, y1=y.start, y2=y.start),
              el("text", titles[0], class_="title", x=(x.start + x.end) / 2, y=y.start + 40,
                 text_anchor="middle"),
              el("text", titles[1], class_="title", x=4, y=14)]
    return Markup("").join(parts)


def line(points: Sequence[Point], class_: str) -> Markup:
    """A polyline through the points."""
    return el("polyline", class_=f"line {class_}", points=_path(points))


def band(lower: Sequence[Point], upper: Sequence[Point], class_: str) -> Markup:
    """The area between two lines."""
    return el("polygon", class_=f"band {class_}", points=_path([*lower, *reversed(upper)]))


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def bars(at: Point, across: Point | None, down: Point | None, class_: str) -> Markup:
    """The interval of a point as thin bars: `across` from x to x, `down` from y to y."""
    parts = []
    if across:
        parts.append(el("line", class_=f"bar {class_}", x1=across[0], x2=across[1],
                        y1=at[1], y2=at[1]))
    if down:
        parts.append(el("line", class_=f"bar {class_}", x1=at[0], x2=at[0],
                        y1=down[0], y2=down[1]))
    return Markup("").join(parts)


def mark(shape: str, at: Point, class_: str, tip: str = "", size: float = 5) -> Markup:
    """A mark (circle, square, triangle, diamond, cross) with a tooltip."""
    x, y = at
    corners = {"square": [(-.9, -.9), (.9, -.9), (.9, .9), (-.9, .9)],
               "triangle": [(0, -1.2), (1.1, .8), (-1.1, .8)],
               "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
               "star": [((1.5 if i % 2 == 0 else .65) * math.sin(i * math.pi / 5),
                         (-1.5 if i % 2 == 0 else -.65) * math.cos(i * math.pi / 5))
                        for i in range(10)]}
    title = [el("title", tip)] if tip else []
    if shape not in corners:
        return el("circle", *title, class_=f"mark {class_}", cx=x, cy=y, r=size)
    outline = [(x + size * dx, y + size * dy) for dx, dy in corners[shape]]
    return el("polygon", *title, class_=f"mark {class_}", points=_path(outline))


@dataclass(slots=True)
class Labels:
    """Places labels beside their points, each where it covers least of what stands already."""

    frame: Frame
    taken: list[tuple[Box, float]] = field(default_factory=list)
    """What stands already, and how much it matters not to cover it."""
    parts: list[Markup] = field(default_factory=list)

    marks: list[Point] = field(default_factory=list)

    def keep_mark_clear(self, at: Point, reach: float) -> None:
        """Takes the place of a mark, and sees that no other mark's label seems to be its own."""
        self.marks.append(at)
        self.keep_clear(at, reach)

    def keep_clear(self, at: Point, reach: float = 7, weight: float = 1.0) -> None:
        """Takes the place around a mark or a piece of line, so far to each side."""
        self.taken.append((Box(at[0] - reach, at[1] - reach, 2 * reach, 2 * reach), weight))

    def keep_line_clear(self, start: Point, end: Point) -> None:
        """Takes the place along a thin line."""
        pieces = max(1, round(math.dist(start, end) / 6))
        for i in range(pieces + 1):
            share = i / pieces
            self.keep_clear((start[0] + share * (end[0] - start[0]),
                             start[1] + share * (end[1] - start[1])), 2.0, 0.3)

    def add(self, text: str, at: Point, class_: str = "", needed: bool = True) -> None:
        """Puts `text` beside `at`, with a thin line to it where it had to move away.

        A text that is not needed is left out where there is no room.
        """
        bold = 1.12 if "strong" in class_ else 1.0
        width, height = bold * LETTER * len(text) + 4, 15.0
        places = [(self._cost(box) + 1.2 * gap + 40 * self._astray(box, at), box)
                  for gap, box in self._places(at, width, height)]
        cost, best = min(places, key=lambda place: place[0])
        if not needed and cost > CROWDED:
            return
        self.taken.append((best, 2.0))
        if self._astray(best, at) or math.dist(best.nearest(at), at) > 20:
            end = best.nearest(at)
            self.parts.append(el("line", class_="leader", x1=at[0], y1=at[1], x2=end[0], y2=end[1]))
        self.parts.append(el("text", text, class_=f"label {class_}", x=best.x + width / 2,
                             y=best.y + 11.5, text_anchor="middle"))

    def _astray(self, box: Box, at: Point) -> bool:
        """Whether another mark is about as near to the label as its own."""
        own = math.dist(box.nearest(at), at)
        return any(math.dist(box.nearest(other), other) < own + 3
                   for other in self.marks if other != at)

    def _places(self, at: Point, width: float, height: float) -> list[tuple[float, Box]]:
        boxes = []
        for gap in (11.0, 22.0, 36.0, 54.0):
            for turn in (0, 180, 270, 90, 315, 45, 225, 135):
                dx, dy = math.cos(math.radians(turn)), math.sin(math.radians(turn))
                boxes.append((gap, Box(at[0] + gap * dx + (dx - 1) * width / 2,
                                       at[1] + gap * dy + (dy - 1) * height / 2, width, height)))
        return boxes

    def _cost(self, box: Box) -> float:
        if not self.frame.inside(box):
            return 1e6
        return sum(box.overlap(other) * weight for other, weight in self.taken)

    def drawn(self) -> Markup:
        """All labels."""
        return Markup("").join(self.parts)


def picture(frame: Frame, label: str, class_: str, *parts: Markup) -> Markup:
    """The whole SVG, scaling with its place; `label` is what a screen reader says."""
    return el("svg", *parts, class_=f"plot {class_}", role="img", aria_label=label,
              viewBox=f"0 0 {frame.width:g} {frame.height:g}")
