"""The pictures of a traced conversation, as inline SVG: bars over words, pairs, the gate's line."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sternpost.report.numerals import risk_text
from sternpost.report.plots import Axis, Frame, Point, el, line, picture
from sternpost.report.risks import ODDS_TICKS, Scale
from sternpost.report.trace_words import shorter, shown, signed

Entry = Mapping[str, Any]
TALL, LOW, WIDE = 56.0, 18.0, 10.0
"""Heights of the bars above and below a word; the width, which stretches with the word."""
PAIR = (150.0, 22.0)
LETTERS = 12
"""Of a token, on the axis of the gate's line."""


def lanes(tokens: Sequence[Entry], most: float) -> list[tuple[Markup | None, Markup | None]]:
    """Of each token the bar above it, of what it contributes: up or down from one line, its height
    the root of the amount; and the bar below it, of its surprise, in parts of the `most` there can
    be. None where nothing is known."""
    roots = [_root(token["contribution"]) for token in tokens]
    high, low = max([*roots, 0.0]), min([*roots, 0.0])
    scale = (TALL - 4) / ((high - low) or 1.0)
    return [(None if token["contribution"] is None else _above(root, 2 + scale * high, scale),
             None if token["surprise"] is None or not most else
             _below(min(1.0, token["surprise"] / most)))
            for token, root in zip(tokens, roots, strict=True)]


def _root(value: float | None) -> float:
    """The square root of an amount, with its sign: so small ones are seen beside large ones."""
    return math.copysign(math.sqrt(abs(value)), value) if value else 0.0


def _above(root: float, zero: float, scale: float) -> Markup:
    parts = [el("line", class_="zero", x1=0, x2=WIDE, y1=zero, y2=zero)]
    if height := scale * abs(root):
        parts.append(el("rect", class_="adds" if root > 0 else "takes", x=0.5, width=WIDE - 1,
                        y=zero - height if root > 0 else zero, height=height))
    return _lane(TALL, "above", parts)


def _below(share: float) -> Markup:
    return _lane(LOW, "below", [el("rect", class_="odd", x=0.5, width=WIDE - 1, y=0,
                                   height=share * LOW)])


def _lane(height: float, class_: str, parts: Sequence[Markup]) -> Markup:
    return el("svg", *parts, class_=class_, viewBox=f"0 0 {WIDE:g} {height:g}",
              preserveAspectRatio="none", aria_hidden="true")


def pair(feature: Entry, most: float) -> Markup:
    """A feature's contribution, full, over its ablation, outlined, on one line."""
    width, height = PAIR
    axis = Axis(-most, most, 2, width - 2)
    parts = [el("line", class_="zero", x1=axis.at(0), x2=axis.at(0), y1=0, y2=height)]
    for key, y in (("contribution", 2.0), ("ablation", 12.0)):
        value = feature[key]
        if value:
            start, end = sorted((axis.at(0), axis.at(value)))
            parts.append(el("rect", class_=f"{'adds' if value > 0 else 'takes'} {key}", x=start,
                            width=max(1.0, end - start), y=y, height=8))
    told = f"contributes {signed(feature['contribution'])}, ablated {signed(feature['ablation'])}"
    return el("svg", *parts, class_="strip pair", viewBox=f"0 0 {width:g} {height:g}", role="img",
              aria_label=told)


def risk_plot(trace: Entry, size: Point) -> Markup:
    """The gate's risk along the prompt, on the scale of the odds, with its threshold."""
    tokens = [token for token in trace["tokens"] if token["risk"] is not None]
    scale, gate, (width, height) = Scale(True), trace["gate"], size
    ticks = [risk for risk in ODDS_TICKS if risk in (0.0001, 0.01, 0.5, 0.99, 0.9999)]
    frame = Frame(width, height, Axis(-0.5, len(tokens) - 0.5, 52, width - 16),
                  Axis(scale(ticks[0]), scale(ticks[-1]), height - 92, 26))
    points = [frame.point(at, scale(token["risk"])) for at, token in enumerate(tokens)]
    y = frame.y.at(scale(gate["threshold"]))
    parts = [_grid(frame, scale, ticks), line(points, "c-gated_clamp"),
             el("line", class_="threshold dashed c-gated_clamp", x1=frame.x.start, x2=frame.x.end,
                y1=y, y2=y),
             el("text", f"threshold {risk_text(gate['threshold'])}", class_="label c-gated_clamp",
                x=frame.x.start + 6, y=y - 6)]
    every = max(1, -(-16 * len(tokens) // int(frame.x.end - frame.x.start)))
    for at, (token, (x, place)) in enumerate(zip(tokens, points, strict=True)):
        decides = token["part"] == "t_inst"
        tip = f"{shown(token['text'])}: {risk_text(token['risk'])}"
        parts.append(el("circle", el("title", tip), class_="mark c-gated_clamp", cx=x, cy=place,
                        r=6.5 if decides else 3.5 if every == 1 else 1.8))
        if decides or at % every == 0:
            parts.append(_under(token, x, frame.y.start + 12))
    return picture(frame, "The gate's risk at each token of the prompt", "risks", *parts)


def _grid(frame: Frame, scale: Scale, ticks: Sequence[float]) -> Markup:
    parts = [el("text", "risk, log scale of the odds", class_="title", x=4, y=14)]
    for risk in ticks:
        y = frame.y.at(scale(risk))
        parts += [el("line", class_="grid", x1=frame.x.start, x2=frame.x.end, y1=y, y2=y),
                  el("text", f"{risk:g}", class_="tick", x=frame.x.start - 8, y=y + 4,
                     text_anchor="end")]
    return Markup("").join(parts)


def _under(token: Entry, x: float, y: float) -> Markup:
    text = shown(token["text"]).strip() or "\u2423"
    strong = " strong" if token["part"] == "t_inst" else ""
    return el("text", shorter(text, LETTERS), class_=f"tick{strong}", x=x, y=y, text_anchor="end",
              transform=f"rotate(-60 {x:.1f} {y:.1f})")
