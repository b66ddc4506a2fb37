"""The gate's risks: those of both sides' test prompts, and their histogram."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sternpost.report.numerals import risk_text, round_percent, share
from sternpost.report.plots import Axis, Frame, Point, el, nice_ticks, picture

BINS = 26
CROWDED = 0.4
"""Where one plain bin holds more than this share of a side, the odds are drawn, log scale."""
EDGE = 1e-4
"""Risks nearer to 0 or 1 than this are drawn in the outermost bars of the log scale."""
ODDS_TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


@dataclass(frozen=True, slots=True)
class Risks:
    """The test prompts' risks, and what the gate does with them."""

    unsafe: tuple[float, ...]
    safe: tuple[float, ...]
    threshold: float | None
    unsafe_fires: Any
    """Rate of unsafe prompts on which it fired."""
    safe_fires: Any
    auroc: str
    """`0.930 [0.907, 0.951]`, or nothing."""

    @property
    def scale(self) -> "Scale":
        """The scale on which both sides can be read."""
        return scale_for((self.unsafe, self.safe))


def risks_of(gate: Mapping[str, Any], sides: Mapping[str, Sequence[Mapping[str, Any]]],
             fires: tuple[Any, Any], area: str) -> Risks | None:
    """The risks of the lines of both sides; None where a side has none."""
    unsafe, safe = (tuple(float(s["risk"]) for s in sides.get(kind, ())
                          if s.get("risk") is not None) for kind in ("unsafe", "safe"))
    if not unsafe or not safe:
        return None
    return Risks(unsafe, safe, gate.get("threshold"), *fires, area)


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a risk stands on the axis: the risk itself, or the logarithm of its odds."""

    odds: bool

    def __call__(self, risk: float) -> float:
        if not self.odds:
            return risk
        inside = min(max(risk, EDGE), 1 - EDGE)
        return math.log(inside / (1 - inside))


def scale_for(sides: Sequence[Sequence[float]]) -> Scale:
    """Plain, unless one plain bin would hold most of a side."""
    risks = [risk for side in sides for risk in side]
    if min(risks) < 0 or max(risks) > 1:
        return Scale(False)
    crowded = any(max(histogram(side, [i / BINS for i in range(BINS + 1)])) > CROWDED * len(side)
                  for side in sides if side)
    return Scale(crowded)


def edges(places: Sequence[float], threshold: float | None) -> list[float]:
    """Ends of about BINS equal bins that hold all places; the threshold is one of them."""
    low, high = min(places), max(places)
    width = (high - low) / BINS or 1.0
    start = low if threshold is None else threshold
    before, after = (math.ceil(max(0.0, gap) / width - 1e-9)
                     for gap in (start - low, high - start))
    # one bin more below: a place on a bin's lower end belongs to the bin before
    return [start + i * width for i in range(-before - 1, max(after, 1) + 1)]


def histogram(places: Sequence[float], ends: Sequence[float]) -> list[int]:
    """How many places each bin (low, high] holds; the outermost take what lies beyond."""
    counts = [0] * (len(ends) - 1)
    for place in places:
        counts[bisect_left(ends, place, 1, len(ends) - 1) - 1] += 1
    return counts


def risk_histogram(risks: Risks, size: Point) -> Markup:
    """Shares of unsafe (up) and safe (down) prompts by risk; strong where the gate fires."""
    scale = risks.scale
    at = None if risks.threshold is None else scale(risks.threshold)
    sides = [[scale(risk) for risk in side] for side in (risks.unsafe, risks.safe)]
    ends = edges([*sides[0], *sides[1], *([] if at is None else [at])], at)
    shares = [[100 * count / len(side) for count in histogram(side, ends)] for side in sides]
    top = [5 * math.ceil(max(side) / 5 + 0.3) for side in shares]
    width, height = size
    frame = Frame(width, height, Axis(ends[0], ends[-1], 34, width - 8),
                  Axis(-top[1], top[0], height - 50, 56))
    columns = [_columns(frame, ends, (side, sign), class_, at) for side, sign, class_ in
               ((shares[0], 1, "s-unsafe"), (shares[1], -1, "s-over"))]
    title = "risk that the gate sees" + (", log scale of the odds" if scale.odds else "")
    return picture(frame, "Histogram of the gate's risk for unsafe and safe prompts", "risks",
                   _grid(frame, scale, title), *columns, _zero(frame),
                   _threshold(frame, risks, at), _names(frame, risks, at))


def _grid(frame: Frame, scale: Scale, title: str) -> Markup:
    parts = []
    for tick in nice_ticks(frame.y.low, frame.y.high, 6):
        y = frame.y.at(tick)
        parts += [el("line", class_="grid", x1=frame.x.start, x2=frame.x.end, y1=y, y2=y),
                  el("text", f"{abs(tick):g}", class_="tick", x=frame.x.start - 7, y=y + 4,
                     text_anchor="end")]
    for risk in _ticks(frame, scale):
        x = frame.x.at(scale(risk))
        parts += [el("line", class_="stub", x1=x, x2=x, y1=frame.y.start, y2=frame.y.start + 4),
                  el("text", f"{risk:g}", class_="tick", x=min(x, frame.x.end - 12),
                     y=frame.y.start + 19, text_anchor="middle")]
    parts += [el("text", title, class_="title", x=(frame.x.start + frame.x.end) / 2,
                 y=frame.y.start + 40, text_anchor="middle"),
              el("text", "% of its side", class_="title", x=4, y=14)]
    return Markup("").join(parts)


def _ticks(frame: Frame, scale: Scale) -> list[float]:
    """The ticks that lie on the axis and whose labels leave each other room."""
    ticks = ODDS_TICKS if scale.odds else nice_ticks(frame.x.low, frame.x.high, 5)
    kept: list[float] = []
    for risk in ticks:
        x = frame.x.at(scale(risk))
        before = frame.x.at(scale(kept[-1])) if kept else -math.inf
        if frame.x.start - 1 <= x <= frame.x.end + 1 and x - before >= 40:
            kept.append(risk)
    return kept


def _columns(frame: Frame, ends: Sequence[float], side: tuple[Sequence[float], int], class_: str,
             threshold: float | None) -> Markup:
    shares, sign = side
    zero, parts = frame.y.at(0), []
    for low, high, value in zip(ends, ends[1:], shares, strict=False):
        if not value:
            continue
        x, y = frame.x.at(low), frame.y.at(sign * value)
        fires = threshold is not None and low >= threshold
        parts.append(el("rect", class_=f"column {class_}{' fires' if fires else ''}", x=x + 0.6,
                        y=min(y, zero), width=max(1.0, frame.x.at(high) - x - 1.2),
                        height=abs(y - zero)))
    return Markup("").join(parts)


def _zero(frame: Frame) -> Markup:
    y = frame.y.at(0)
    return el("line", class_="axis", x1=frame.x.start, x2=frame.x.end, y1=y, y2=y)


def _threshold(frame: Frame, risks: Risks, at: float | None) -> Markup:
    if at is None:
        return Markup("")
    x = frame.x.at(at)
    left, right = ("end", -8), ("start", 8)
    anchor, off = left if x > frame.x.start + 150 else right
    return Markup("").join([
        el("line", class_="threshold", x1=x, x2=x, y1=frame.y.end - 30, y2=frame.y.start),
        el("text", f"threshold {risk_text(risks.threshold)}", class_="key c-gated_clamp", x=x + off,
           y=frame.y.end - 20, text_anchor=anchor)])


def _names(frame: Frame, risks: Risks, at: float | None) -> Markup:
    """The sides' names, and right of the threshold the share of each on which the gate fires."""
    x = frame.x.start if at is None else frame.x.at(at)
    apart = x - frame.x.start >= 140 and x + 104 <= frame.x.end
    parts = []
    for name, count, fires, class_, y in (
            ("unsafe", len(risks.unsafe), risks.unsafe_fires, "s-unsafe", frame.y.end + 14),
            ("safe", len(risks.safe), risks.safe_fires, "s-over", frame.y.start - 9)):
        tail = "" if share(fires) is None else f"fires on {round_percent(fires)}"
        start = f"{name} (n = {count})"
        places = [(start, frame.x.start + 8), (tail, x + 8)] if apart else [
            (", ".join(text for text in (start, tail) if text), frame.x.start + 8)]
        parts += [el("text", text, class_=f"key halo {class_}", x=left, y=y)
                  for text, left in places]
    return Markup("").join(parts)
