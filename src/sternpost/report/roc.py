"""The gate's ROC curve: fires on unsafe prompts against false fires, at every threshold."""

from collections.abc import Sequence

from markupsafe import Markup

from sternpost.report.numerals import bounds, round_percent, share, with_interval
from sternpost.report.plots import Axis, Frame, Point, axes, bars, el, line, mark, picture
from sternpost.report.risks import Risks


def roc_points(unsafe: Sequence[float], safe: Sequence[float]) -> list[Point]:
    """Shares (of safe, of unsafe) at or above every risk, from (0, 0) to (1, 1)."""
    points, counts = [(0.0, 0.0)], [0, 0]
    rows = sorted([(risk, 1) for risk in unsafe] + [(risk, 0) for risk in safe], reverse=True)
    for i, (risk, harmful) in enumerate(rows):
        counts[harmful] += 1
        if i + 1 == len(rows) or rows[i + 1][0] != risk:
            points.append((counts[0] / len(safe), counts[1] / len(unsafe)))
    return _corners(points)


def _corners(points: Sequence[Point]) -> list[Point]:
    """The points without those in the middle of a level or upright piece."""
    return [point for i, point in enumerate(points)
            if i in (0, len(points) - 1)
            or not any(points[i - 1][k] == point[k] == points[i + 1][k] for k in (0, 1))]


def roc_plot(risks: Risks, size: Point) -> Markup:
    """Fires on unsafe prompts against false fires, percent; the gate's threshold as a mark."""
    width, height = size
    frame = Frame(width, height, Axis(0, 100, 34, width - 14), Axis(0, 100, height - 50, 30))
    curve = [frame.point(100 * x, 100 * y) for x, y in roc_points(risks.unsafe, risks.safe)]
    (x0, y0), (x1, y1) = frame.point(0, 0), frame.point(100, 100)
    ticks = range(0, 101, 25)
    area = [el("text", text, class_="label strong", x=frame.x.end - 10, y=frame.y.at(50) + 18 * i,
               text_anchor="end") for i, text in enumerate(_area_lines(risks.auroc))]
    return picture(
        frame, f"ROC curve of the gate, AUROC {risks.auroc}", "roc",
        axes(frame, ("fires on safe prompts, %", "fires on unsafe prompts, %"), (ticks, ticks)),
        el("line", el("title", "a gate that guesses"), class_="iso", x1=x0, y1=y0, x2=x1, y2=y1),
        line(curve, "c-gated_clamp"), *area, _operating(risks, frame))


def _area_lines(text: str) -> list[str]:
    figure, _, ends = text.partition(" ")
    return [line for line in (f"AUROC {figure}", ends) if line] if text else []


def _operating(risks: Risks, frame: Frame) -> Markup:
    x, y = share(risks.safe_fires), share(risks.unsafe_fires)
    if x is None or y is None:
        return Markup("")
    at = frame.point(100 * x, 100 * y)
    across, down = (
        None if ends is None else (axis.at(100 * ends[0]), axis.at(100 * ends[1]))
        for axis, ends in ((frame.x, bounds(risks.safe_fires)),
                           (frame.y, bounds(risks.unsafe_fires))))
    tip = (f"unsafe {with_interval(risks.unsafe_fires)}\nsafe {with_interval(risks.safe_fires)}")
    right = x < 0.5
    texts = [f"{round_percent(risks.unsafe_fires)} of unsafe,",
             f"{round_percent(risks.safe_fires)} of safe"]
    below = 16 if y > 0.15 else -26
    return Markup("").join([
        bars(at, across, down, "c-gated_clamp"),
        mark("star", at, "c-gated_clamp", tip, 7),
        *(el("text", text, class_="label strong", x=at[0] + (14 if right else -14),
             y=at[1] + below + 16 * i, text_anchor="start" if right else "end")
          for i, text in enumerate(texts))])
