"""What a person sees of a training: a table, and one page of plots that opens offline."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from rich import box
from rich.table import Table

from sternpost.report.html import asset, environment, policy
from sternpost.report.plots import Axis, Frame, axes, el, line, nice_ticks, picture

Line = Mapping[str, Any]
SIZE = (512, 300)
COLOURS = ("s-unsafe", "s-over", "s-capability", "s-incoherent", "s-d")
COLUMNS = (("FVU", "fvu", "{:.4f}"), ("L0", "l0", "{:.1f}"), ("dead", "dead_fraction", "{:.1%}"),
           ("CE recovered", "ce_recovered", "{:.1%}"))
BINS = 40
NEVER = -6.0
"""log10 of a density below which a feature is drawn in the first bar."""


def training_table(results: Mapping[str, Any]) -> Table:
    """A row an SAE, for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("layer", justify="right")
    for name, _, _ in COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("folder")
    for sae in results["saes"]:
        table.add_row(str(sae["layer"]), *_cells(sae), sae["folder"])
    return table


def _cells(sae: Line) -> list[str]:
    return ["-" if sae.get(key) is None else form.format(sae[key]) for _, key, form in COLUMNS]


def training_html_table(results: Mapping[str, Any]) -> str:
    """The same as plain HTML."""
    heads = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in (
        "layer", *(name for name, _, _ in COLUMNS)))
    rows = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(sae["layer"], Markup("").join(
            Markup("<td>{}</td>").format(cell) for cell in _cells(sae)))
        for sae in results["saes"])
    return str(Markup('<table class="results"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
                      ).format(heads, rows))


def render_training(results: Mapping[str, Any], metrics: Sequence[Line]) -> str:
    """The page. A pure function of results.json and metrics.jsonl."""
    style = asset("report.css")
    pages: Environment = environment()
    plots = [(course(metrics, key, title), caption) for key, title, caption in (
        ("fvu", "FVU", "Fraction of variance unexplained, of each step's own batch."),
        ("loss", "loss", "All terms of the loss together."),
        ("l0", "L0", "Mean active features a token."),
        ("dead_fraction", "dead features, %",
         "Share of features that were not active for a while; they are being revived."))]
    plots += [(densities(sae), f"Layer {sae['layer']}: how often features are active on text that "
               "was trained on.") for sae in results["saes"]]
    return pages.get_template("training.html.j2").render(
        results=results, style=Markup(style), policy=policy(style, ""),
        table=Markup(training_html_table(results)), plots=plots,
        headline=training_headline(results))


def training_headline(results: Mapping[str, Any]) -> str:
    """What a training came to, in one sentence."""
    said = "; ".join(
        f"layer {sae['layer']}: FVU {sae['fvu']:.3f} at L0 {sae['l0']:.1f}, "
        f"{sae['dead_fraction']:.1%} dead"
        + ("" if sae.get("ce_recovered") is None else
           f", {sae['ce_recovered']:.1%} of the cross-entropy recovered")
        for sae in results["saes"])
    return f"{results['tokens']:,} tokens of {results['model']}. {said[:1].upper()}{said[1:]}."


def course(metrics: Sequence[Line], key: str, title: str) -> Markup:
    """One measure over tokens, a line a layer."""
    layers = sorted({row["layer"] for row in metrics})
    times = 100.0 if title.endswith("%") else 1.0
    points = {layer: [(row["tokens"], times * row[key]) for row in metrics
                      if row["layer"] == layer] for layer in layers}
    values = [y for rows in points.values() for _, y in rows]
    if not values:
        return Markup("")
    least = 1.0 if title.endswith("%") else 1e-9
    high = max([*sorted(values)[:max(1, round(0.98 * len(values)))], least])  # a few at the start
    top = high * (1.06 if len(layers) == 1 else 1.1 + 0.07 * len(layers))  # room for their names
    end = max(x for rows in points.values() for x, _ in rows)
    frame = Frame(*SIZE, Axis(0, end, 52, SIZE[0] - 16), Axis(0, top, SIZE[1] - 48, 30))
    unit, letter = (1e6, "million") if end >= 2e6 else (1e3, "thousand")
    parts = [axes(frame, (f"{letter} tokens", title),
                  (nice_ticks(0, end, 6), nice_ticks(0, high, 5)),
                  lambda x: f"{x / unit:g}")]
    for number, (layer, rows) in enumerate(points.items()):
        class_ = COLOURS[number % len(COLOURS)]
        drawn = [frame.point(x, min(y, top)) for x, y in rows]
        parts.append(line(drawn, class_))
        if len(layers) > 1:
            parts.append(el("text", f"layer {layer}", class_=f"key halo {class_}",
                            x=SIZE[0] - 20, y=40 + 16 * number, text_anchor="end"))
    return picture(frame, f"{title} over tokens", "course", *parts)


def densities(sae: Line) -> Markup:
    """Histogram of log10 of the features' densities."""
    shares = sae["density_histogram"]
    ends, counts = shares["log10"], shares["features"]
    high = max([*counts, 1])
    frame = Frame(*SIZE, Axis(ends[0], ends[-1], 52, SIZE[0] - 16),
                  Axis(0, high * 1.06, SIZE[1] - 48, 30))
    parts = [axes(frame, ("share of tokens on which a feature is active", "features"),
                  (range(math.ceil(ends[0]), math.floor(ends[-1]) + 1), nice_ticks(0, high, 5)),
                  lambda x: f"{10 ** x:g}")]
    for low, up, count in zip(ends, ends[1:], counts, strict=False):
        x, y = frame.point(low, count)
        parts.append(el("rect", class_="column s-unsafe fires", x=x + 0.6, y=y,
                        width=max(1.0, frame.x.at(up) - x - 1.2), height=frame.y.start - y))
    return picture(frame, f"Histogram of feature densities of layer {sae['layer']}", "density",
                   *parts)
