"""The atlas: a page a feature, and an index of all to search, sort and walk through.

Every page is one file that loads nothing and opens offline. Its texts come from prompts and models
and may hold anything: all are escaped, and what cannot be seen is made visible.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate, groupby, pairwise
from typing import Any

from markupsafe import Markup, escape

from sternpost.errors import InputError
from sternpost.report.html import asset, environment, policy
from sternpost.report.numerals import NONE, bounds, count_text, point_value, risk_text, share, tally
from sternpost.report.plots import Axis, Frame, axes, el, nice_ticks, picture
from sternpost.stats import rate

Feature = Mapping[str, Any]
PAGE = "feature-{}.html"
SIDES = ("unsafe", "safe")
"""Categories that are no hazard: all prompts of a side."""
OPEN = ("safe", "capability", "corpus")
"""Kinds of text that are shown at once; any other is folded away until asked for."""
RATE, POINTS = ("hits", "n", "low", "high"), ("points", "low", "high")
_CODED = (*range(0x80, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = ({code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}
          | dict.fromkeys((0x0A, 0x2028, 0x2029), "\N{RETURN SYMBOL}")
          | {code: f"\u27e8U+{code:04X}\u27e9" for code in _CODED}
          | dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}"))


def atlas_pages(about: Mapping[str, Any], features: Iterable[Feature]
                ) -> Iterator[tuple[str, str]]:
    """(file name, HTML) of the index, then of every feature in the order given.

    `features` is read twice, for the index and all labels, and then for the pages: a list, or an
    object whose `__iter__` starts anew, so that tens of thousands need not be in memory at once.
    """
    if iter(features) is features:
        raise InputError("The atlas reads the features twice; got an iterator, to be read once. "
                         "Give a list, or an object whose __iter__ starts anew.")
    names: dict[str, str] = {}
    rows = [_row(feature, names) for feature in features]
    labels = {row[0]: row[1] for row in rows}
    if len(labels) < len(rows):
        raise InputError(f"A feature has one page; got {len(labels)} different ids on {len(rows)} "
                         "features. Give each feature once.")
    yield "index.html", _index(about, rows, names)
    order = [None, *labels, None]
    for feature, previous, following in zip(features, order, order[2:], strict=False):
        yield PAGE.format(int(feature["feature"])), _page(
            about, feature, labels=labels, names=names, previous=previous, next=following)


def visible(text: Any) -> str:
    """Text with newlines as returns, control and direction characters by sign or code."""
    return str(text).translate(_SHOWN)


def spaced(token: str) -> str:
    """A token whose outer spaces can be seen."""
    return re.sub("^ +| +$", lambda m: "\N{OPEN BOX}" * len(m[0]), visible(token))


def activation(value: float | None) -> str:
    """`41.0`, `9.12`, `0.0312`; a dash for None. atlas.js writes numbers likewise."""
    if value is None:
        return NONE
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:#.3g}"


def density(value: float | None) -> str:
    """`12.3 %`, `0.031 %`, `< 0.001 %`, `0 %`; a dash for None."""
    if not value:
        return NONE if value is None else "0 %"
    text = f"{100 * value:.1f}" if value >= 0.1 else f"{100 * value:#.2g}"
    return "< 0.001 %" if value < 1e-5 else f"{text} %"


def hits(score: Mapping[str, Any] | None) -> str:
    """`17/20 = 85 % [64, 95]`; a dash where there is no rate."""
    value, ends = share(score), bounds(score)
    if value is None:
        return NONE
    sure = f" [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]" if ends else ""
    return f"{tally(score)} = {100 * value:.0f} %{sure}"


def signed(points: Any) -> str:
    """`+38.2` points; a dash for None."""
    value = point_value(points)
    return NONE if value is None else f"{value:+.1f}"


def _row(feature: Feature, names: dict[str, str]) -> list[Any]:
    """What the index knows of a feature, as atlas.js reads it; adds to the categories' names."""
    known = _categories(feature)
    names.update((c["category"], c["name"]) for c in known)
    linked = sorted((c for c in known if c["linked"]), key=lambda c: not c["hazard"])
    found, hazard = feature["found"] or {}, next((c for c in linked if c["hazard"]), None)
    detection = (feature["score"] or {}).get("detection") or {}
    effect = (found.get("effect") or {}).get("unsafe_refusal") or {}
    figures = [feature["density"], feature["max"], hazard and hazard["lift"],
               [detection[key] for key in RATE] if share(detection) is not None else None,
               [effect[key] for key in POINTS] if point_value(effect) is not None else None]
    return [int(feature["feature"]), visible(feature["label"] or "no label"),
            " \u00b7 ".join(visible(token).strip() for token, _ in feature["promoted"][:10]),
            [c["category"] for c in linked], *map(_short, figures),
            int(bool(found.get("methods"))), int(bool(hazard))]


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _categories(feature: Feature) -> list[dict[str, Any]]:
    """The table of categories, the largest lift first; which are linked to it, which a hazard."""
    return [{"category": visible(c["category"]), "name": visible(c["name"] or c["category"]),
             "concept": c["concept"], "lift": c["lift"], "share": _share(c["active"], c["n"]),
             "q": risk_text(c["q"]), "times": NONE if c["lift"] is None else f"{c['lift']:.2f}",
             "linked": (linked := c["category"] in feature["concepts"]),
             "hazard": linked and c["category"] not in SIDES}
            for c in sorted(feature["categories"], key=lambda c: -(c["lift"] or 0))]


@cache
def _share(active: int, n: int) -> str:
    known = rate([True] * active + [False] * (n - active))
    return hits(known and known.as_dict())


def _index(about: Mapping[str, Any], rows: Sequence[Any], names: Mapping[str, str]) -> str:
    data = json.dumps({"names": names, "rows": rows}, ensure_ascii=False, allow_nan=False,
                      separators=(",", ":")).replace("<", "\\u003c")
    return _render("atlas.html.j2", about, data=Markup(data), rows=rows, names=names)


def _page(about: Mapping[str, Any], feature: Feature, **known: Any) -> str:
    contexts = sorted(feature["contexts"], key=lambda c: -(c["quantile"] or 0))
    groups = [(quantile, [(c, c["kind"] not in OPEN, _excerpt(c, feature["max"] or 0)) for c in of])
              for quantile, of in groupby(contexts, key=lambda c: c["quantile"])]
    return _render("atlas_feature.html.j2", about, feature=feature, groups=groups, **known,
                   veiled=sum(c["kind"] not in OPEN for c in contexts),
                   categories=_categories(feature), histogram=_histogram(feature["histogram"]))


def _render(template: str, about: Mapping[str, Any], **values: Any) -> str:
    style, script = asset("atlas.css"), asset("atlas.js")
    return environment().get_template(template).render(
        about=about, goal=visible(about["goal"] or "refusal"), style=Markup(style),
        script=Markup(script), policy=policy(style, script), none_=NONE,
        activation=activation, density=density, hits=hits, page=PAGE.format, signed=signed,
        spaced=spaced, visible=visible, **values)


def _excerpt(context: Mapping[str, Any], largest: float) -> Markup:
    """The context's text; active tokens underlined, the thicker the nearer to `largest`."""
    acts, peak = [act or 0 for act in context["acts"]], context["at"]
    strongest = sorted(range(len(acts)), key=lambda at: -acts[at])[:3]
    numbered, pieces = {peak, *(at for at in strongest if 2 * acts[at] >= max(acts))}, []
    for at, (token, act) in enumerate(zip(context["tokens"], acts, strict=True)):
        text = visible(token)
        if act <= 0 and at != peak:
            pieces.append(escape(text))
            continue
        word = text.lstrip(" ") or spaced(text)  # a line is under words, not under spaces
        level = min(4, 1 + int(4 * act / largest)) if largest > 0 else 1
        tag, number = "mark" if at == peak else "span", activation(act)
        pieces.append(Markup(
            f'{text.removesuffix(word)}<{tag} class="t{level}" title="{number}">{escape(word)}'
            f"{f'<sup>{number}</sup>' if at in numbered else ''}</{tag}>"))
    return Markup("").join(pieces)


def _histogram(histogram: Mapping[str, Any] | None) -> Markup:
    """Activations where there are any; counts on a logarithmic scale."""
    edges, counts = (histogram["edges"], histogram["counts"]) if histogram else ([], [])
    if not any(counts):
        return Markup("")
    powers = range(math.ceil(math.log10(max(counts) + 1)) + 1)
    frame = Frame(360, 220, Axis(edges[0], edges[-1], 50, 352), Axis(-.25, powers[-1], 172, 26))
    parts = [axes(frame, ("activation", "tokens"), (nice_ticks(edges[0], edges[-1], 5), ()))]
    for power, y in ((power, frame.y.at(power)) for power in powers):
        parts += [el("line", class_="grid", x1=50, x2=352, y1=y, y2=y),
                  el("text", count_text(10 ** power), x=42, y=y + 4, text_anchor="end")]
    parts.append(el("path", class_="column", d="".join(
        f"M{x + .5:.1f} {y:.1f}H{frame.x.at(high) - .5:.1f}V{frame.y.start:g}H{x + .5:.1f}z"
        for (low, high), count in zip(pairwise(edges), counts, strict=True) if count
        for x, y in (frame.point(low, math.log10(count)),))))
    half = next(i for i, sofar in enumerate(accumulate(counts), 1) if 2 * sofar >= sum(counts))
    ends = (activation(edges[at]) for at in (0, -1, half))
    return picture(frame, "Histogram of {:,} activations from {} to {}; half of them are below {}"
                   .format(sum(counts), *ends), "histogram", *parts)
