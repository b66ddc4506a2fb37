"""Numbers as people read them: percentages, intervals, points, values, counts, times.

A rate is the dict of results.json, `{"hits", "n", "low", "high"}`, a bare fraction, or None.
"""

from collections.abc import Mapping
from typing import Any

NONE = "\N{EN DASH}"
"""Stands where there is no figure."""


def share(rate: Any) -> float | None:
    """The fraction that a rate stands for, or None where it has no meaning."""
    if isinstance(rate, Mapping):
        return rate["hits"] / rate["n"] if rate.get("n") else None
    return None if rate is None else float(rate)


def bounds(rate: Any) -> tuple[float, float] | None:
    """The interval's ends as fractions, or None where there is none."""
    if not isinstance(rate, Mapping) or share(rate) is None:
        return None
    low, high = rate.get("low"), rate.get("high")
    return None if low is None or high is None else (float(low), float(high))


def percent(rate: Any) -> str:
    """`58.3 %`, or a dash."""
    value = share(rate)
    return NONE if value is None else f"{100 * value:.1f} %"


def round_percent(rate: Any) -> str:
    """`58 %`; a decimal more where rounding would claim all or nothing (`99.6 %`)."""
    value = share(rate)
    if value is None:
        return NONE
    text = f"{100 * value:.0f}"
    return f"{100 * value:.1f} %" if text in ("0", "100") and value not in (0, 1) else f"{text} %"


def interval(rate: Any) -> str:
    """`[53.4, 63.0]` in percent, or nothing."""
    ends = bounds(rate)
    return f"[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else ""


def tally(rate: Any) -> str:
    """`233/400`, or nothing."""
    return f"{rate['hits']}/{rate['n']}" if isinstance(rate, Mapping) and rate.get("n") else ""


def with_interval(rate: Any) -> str:
    """`58.3 % [53.4, 63.0] (233/400)`, as far as there is."""
    count = tally(rate) and f"({tally(rate)})"
    return " ".join(part for part in (percent(rate), interval(rate), count) if part)


def points(difference: Any) -> str:
    """`52.3` points, or a dash."""
    value = point_value(difference)
    return NONE if value is None else f"{value + 0.0:.1f}"


def point_value(difference: Any) -> float | None:
    """The points of a `discrimination`, given as a dict, a number or None."""
    if isinstance(difference, Mapping):
        difference = difference.get("points")
    return None if difference is None else float(difference)


def point_bounds(difference: Any) -> tuple[float, float] | None:
    """The interval's ends of a `discrimination` in points, or None."""
    if not isinstance(difference, Mapping) or difference.get("points") is None:
        return None
    low, high = difference.get("low"), difference.get("high")
    return None if low is None or high is None else (float(low), float(high))


def point_interval(difference: Any) -> str:
    """`[46.1, 58.2]` in points, or nothing."""
    ends = point_bounds(difference)
    return f"[{ends[0]:.1f}, {ends[1]:.1f}]" if ends else ""


def value_text(value: float | None) -> str:
    """A clamp value: `8.0`, `0.125`, `-1200`; a dash for None."""
    if value is None:
        return NONE
    if abs(value) >= 1e6 or 0 < abs(value) < 1e-3:
        return f"{value:.3g}"
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text}.0" if abs(value) < 100 and "." not in text else text


def risk_text(risk: float | None) -> str:
    """A risk from 0 to 1: `0.964`, `under 0.001`, `over 0.999`; a dash for None."""
    if risk is None:
        return NONE
    if 0 < risk < 0.001:
        return "under 0.001"
    return "over 0.999" if 0.999 < risk < 1 else f"{risk:.3f}"


def count_text(count: float | None) -> str:
    """`950`, `24.6 k`, `40 M`, `1.2 G`; a dash for None."""
    if count is None:
        return NONE
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def seconds_text(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
