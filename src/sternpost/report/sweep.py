"""The sweep: unsafe refusal, over-refusal and incoherent replies against the clamp's value."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from sternpost.report.conditions import Condition, chosen_value, find, label, ordered, same
from sternpost.report.numerals import bounds, share, value_text, with_interval
from sternpost.report.plots import Axis, Frame, axes, band, bars, el, line, mark, picture

SERIES = (("unsafe_refusal", "unsafe refusal", "s-unsafe", "circle"),
          ("over_refusal", "over-refusal", "s-over", "square"),
          ("incoherent", "incoherent", "s-incoherent", "triangle"),
          ("capability", "capability", "s-capability", "diamond"))
CROWDED = 1 / 30
"""Where two values stand nearer than this share of the axis, all are spaced evenly."""


def swept(results: Mapping[str, Any]) -> list[Condition]:
    """The clamps that have a value, by value."""
    return [c for c in ordered(results) if c["name"] == "clamp" and c.get("value") is not None]


def evenly(values: Sequence[float]) -> bool:
    """Whether the values must be spaced evenly to be told apart."""
    gaps = [b - a for a, b in pairwise(values)]
    return bool(gaps) and min(gaps) < CROWDED * (values[-1] - values[0])


def sweep_plot(results: Mapping[str, Any], width: float) -> Markup:
    """Rates in percent with intervals as bands; baseline dashed; chosen values marked."""
    clamps = swept(results)
    if not clamps:
        return Markup("")
    wide = width > 500
    height = 400 if wide else 340
    values = [c["value"] for c in clamps]
    even = evenly(values)
    places = [float(i) for i in range(len(values))] if even else values
    slack = (places[-1] - places[0]) * 0.03 or 1.0
    x = Axis(places[0] - slack, places[-1] + slack, 38, width - (116 if wide else 14))
    frame = Frame(width, height, x, Axis(0, 100, height - (50 if wide else 92), 48))
    title = "clamp value, activation units" + (" (not to scale)" if even else "")
    shown = [s for s in SERIES if any(share(c.get(s[0])) is not None for c in clamps)]
    return picture(
        frame, "Rates against the clamp value", "sweep",
        axes(frame, (title, "% of replies"), (_thinned(places, frame), range(0, 101, 25)),
             lambda place: value_text(values[places.index(place)])),
        _chosen(results, frame, values, places), _baselines(results, frame, shown),
        *(_series(clamps, places, frame, series) for series in shown),
        _keys(clamps, shown, frame) if wide else _legend(shown, frame))


def _thinned(places: Sequence[float], frame: Frame) -> list[float]:
    """The places whose labels have room, the last one always."""
    kept: list[float] = []
    for place in reversed(places):
        if not kept or frame.x.at(kept[-1]) - frame.x.at(place) >= 38:
            kept.append(place)
    return kept[::-1]


def _series(clamps: Sequence[Condition], places: Sequence[float], frame: Frame,
            series: tuple[str, str, str, str]) -> Markup:
    key, title, class_, shape = series
    parts, points, lower, upper = [], [], [], []
    for clamp, place in zip(clamps, places, strict=True):
        value, ends = share(clamp.get(key)), bounds(clamp.get(key))
        if value is None:
            continue
        at = frame.point(place, 100 * value)
        points.append(at)
        if ends:
            lower.append(frame.point(place, 100 * ends[0]))
            upper.append(frame.point(place, 100 * ends[1]))
            parts.append(bars(at, None, (lower[-1][1], upper[-1][1]), class_))
        tip = f"{label(clamp)}\n{title} {with_interval(clamp[key])}"
        parts.append(mark(shape, at, class_, tip, 4))
    return Markup("").join([band(lower, upper, class_), line(points, class_), *parts])


def _baselines(results: Mapping[str, Any], frame: Frame, shown: Sequence[Any]) -> Markup:
    baseline = find(results, "baseline") or {}
    parts = []
    for key, title, class_, _ in shown:
        value = share(baseline.get(key))
        if value is not None:
            y = frame.y.at(100 * value)
            tip = f"baseline\n{title} {with_interval(baseline[key])}"
            parts.append(el("line", el("title", tip), class_=f"dashed {class_}",
                            x1=frame.x.start, x2=frame.x.end, y1=y, y2=y))
    return Markup("").join(parts)


def _chosen(results: Mapping[str, Any], frame: Frame, values: Sequence[float],
            places: Sequence[float]) -> Markup:
    texts: dict[float, list[str]] = {}
    for which, text in (("reference", "reference"), ("best_d", "best D")):
        for value, place in zip(values, places, strict=True):
            if same(value, chosen_value(results, which)):
                texts.setdefault(place, []).append(text)
    parts = []
    for place, names in texts.items():
        x, text = frame.x.at(place), ", ".join(names)
        half = 3.3 * len(text)
        parts += [el("line", class_="chosen", x1=x, x2=x, y1=frame.y.end - 6, y2=frame.y.start),
                  el("text", text, class_="label strong", y=frame.y.end - 12,
                     x=min(max(x, half + 2), frame.width - half - 2), text_anchor="middle")]
    return Markup("").join(parts)


def _keys(clamps: Sequence[Condition], shown: Sequence[Any], frame: Frame) -> Markup:
    """The lines' names at their right ends, pushed apart."""
    ends = []
    for key, title, class_, _ in shown:
        last = next((v for c in reversed(clamps) if (v := share(c.get(key))) is not None), None)
        if last is not None:
            ends.append((frame.y.at(100 * last), title, class_))
    parts, floor = [], -100.0
    for y, title, class_ in sorted(ends):
        floor = max(y, floor + 18)
        parts.append(el("text", title, class_=f"key {class_}", x=frame.x.end + 10, y=floor + 4))
    return Markup("").join(parts)


def _legend(shown: Sequence[Any], frame: Frame) -> Markup:
    """The lines' names below the plot, two a row, where there is no room at the right."""
    parts = []
    for i, (_, title, class_, shape) in enumerate(shown):
        x, y = frame.x.start + (i % 2) * 150, frame.y.start + 62 + 20 * (i // 2)
        parts += [mark(shape, (x, y - 4), class_, size=4),
                  el("text", title, class_=f"key {class_}", x=x + 12, y=y)]
    return Markup("").join(parts)
