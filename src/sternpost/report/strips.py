"""Small pictures for a line of text: a rate on a track, shares of verdicts, seconds of stages."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sternpost.report.numerals import bounds, share, with_interval
from sternpost.report.plots import el, mark


def track(rates: Sequence[tuple[Any, str, str]], width: float = 160) -> Markup:
    """Rates on one line from 0 to 100 %: (rate, class, name), the interval as a thick bar."""
    parts = [el("line", class_="rail", x1=4, x2=width - 4, y1=9, y2=9)]
    for rate, class_, name in rates:
        value, ends = share(rate), bounds(rate)
        if value is None:
            continue
        if ends:
            parts.append(el("line", class_=f"span {class_}", x1=_x(ends[0], width),
                            x2=_x(ends[1], width), y1=9, y2=9))
        tip = f"{name} {with_interval(rate)}"
        shape = "square" if class_ == "s-over" else "circle"
        parts.append(mark(shape, (_x(value, width), 9), class_, tip, 4))
    label = ", ".join(f"{name} {with_interval(rate)}" for rate, _, name in rates)
    return el("svg", *parts, class_="strip", role="img", aria_label=label,
              viewBox=f"0 0 {width:g} 18")


def stack(counts: Sequence[tuple[str, int]], width: float = 300) -> Markup:
    """Counts as one bar of coloured parts: (verdict, count)."""
    total = sum(count for _, count in counts)
    parts, x = [], 0.0
    for name, count in counts:
        part = width * count / total if total else 0
        if part:
            parts.append(el("rect", el("title", f"{name}: {count} of {total}"), class_=f"v-{name}",
                            x=x, y=0, width=max(0.8, part - 1), height=14))
        x += part
    label = ", ".join(f"{name} {count}" for name, count in counts)
    return el("svg", *parts, class_="strip stack", role="img", aria_label=label,
              preserveAspectRatio="none", viewBox=f"0 0 {width:g} 14")


def amount(value: float, largest: float, width: float = 300) -> Markup:
    """One bar, `value` of `largest` long."""
    long = width * value / largest if largest > 0 else 0
    return el("svg", el("rect", class_="amount", x=0, y=0, width=max(1, long), height=8),
              class_="strip stack", aria_hidden="true", preserveAspectRatio="none",
              viewBox=f"0 0 {width:g} 8")


def _x(value: float, width: float) -> float:
    return 4 + value * (width - 8)
