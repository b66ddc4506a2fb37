"""The HTML report: one file, readable without JavaScript, no request to anywhere.

A Content-Security-Policy in the page allows only its own style and script, by their hashes, so
that not even text that slipped through the escaping could load or run anything.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sternpost.report import numerals
from sternpost.report.conditions import best_d, find, key, label, marks, ordered, reference
from sternpost.report.figures import (
    candidate_rows,
    figures,
    judge_text,
    tiles,
    unmeasured,
)
from sternpost.report.gated import gate_section
from sternpost.report.groups import bar_chart
from sternpost.report.headline import clauses, headline
from sternpost.report.kinds import refusal_by
from sternpost.report.plane import cost_plane, refusal_plane, trade_plane
from sternpost.report.replies import choose, verdict_counts
from sternpost.report.risks import risk_histogram
from sternpost.report.roc import roc_plot
from sternpost.report.strips import amount, stack
from sternpost.report.sweep import sweep_plot, swept
from sternpost.report.table import results_html_table
from sternpost.report.tryit import snippets

FILTERS = ("percent", "interval", "with_interval", "points", "point_interval", "value_text",
           "count_text", "seconds_text", "round_percent")


def render_report(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> str:
    """The whole report as one HTML document. A pure function of the run's two files."""
    style, script = asset("report.css"), asset("report.js")
    shown = choose(results, samples)
    return environment().get_template("report.html.j2").render(
        feature=results.get("feature"), model=results.get("model"), layer=results.get("layer"),
        style=Markup(style), script=Markup(script),
        policy=policy(style, script), pooled=find(results, "random_feature") is not None,
        headline=headline(results), clauses=_sentence(results), tiles=tiles(results),
        warnings=[str(text) for text in results.get("warnings") or []],
        planes=_planes(results), sweep=_two_widths(sweep_plot, results, (1040, 358)),
        values=len(swept(results)), table=Markup(results_html_table(results)),
        verdicts=_verdicts(results, samples), candidates=candidate_rows(results),
        shown=shown, conditions=_choices(results), categories=_categories(shown.items),
        sae=figures(results.get("sae")), gate=_gate(results, samples),
        kinds=_kinds(results, samples), snippets=snippets(results),
        judge=judge_text(results.get("judge") or {}),
        relative=(results.get("reference") or {}).get("relative"),
        unmeasured=unmeasured(results), provenance=_provenance(results),
        timing=_timing(results))


@cache
def environment() -> Environment:
    """The templates, with the filters that write numbers."""
    environment = Environment(loader=PackageLoader("sternpost.report"), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {name: getattr(numerals, name) for name in FILTERS}
    return environment


@cache
def asset(name: str) -> str:
    """The text of a style sheet or script."""
    path = resources.files("sternpost.report") / "templates" / name
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows these two and nothing else."""
    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (f"default-src 'none'; style-src 'sha256-{digest(style)}'; "
            f"script-src 'sha256-{digest(script)}'; base-uri 'none'; form-action 'none'")


def _sentence(results: Mapping[str, Any]) -> list[Markup]:
    """The headline's clauses as sentences, each number on one line with its unit."""
    texts = [f"{text[:1].upper()}{text[1:]}." for text in clauses(results)]
    whole = re.compile(r"\d[\d.]* (%|points)|\(?n = [\d, ]+\)?")
    return [Markup(whole.sub(r'<span class="nb">\g<0></span>', str(escape(text))))
            for text in texts]


def _two_widths(draw: Any, what: Any, sizes: tuple[Any, Any], *rest: str) -> Markup:
    """The same plot for a wide and a narrow window; the style sheet shows one."""
    wide, narrow = (draw(what, size, *rest) for size in sizes)
    if not wide:
        return Markup("")
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(wide, narrow)


TRADE = ("Higher: unsafe and safe prompts are told apart better. Further right: more questions are "
         "answered right. In the tinted quarter both are better than the baseline's. Bars are 95 % "
         "intervals; the line joins the clamp values in order.")
BEHIND = (" The star is the clamp behind the gate; a dotted line leads to it from the same value "
          "without one.")
PLANE = ("Up is safer, right is more over-refusal. Along a diagonal D stays the same: that only "
         "trades one for the other. On the tinted side D is above the baseline's.")
BROKEN = "D against broken replies. Up and to the left is better."
NARROW = (358, 350)


def _planes(results: Mapping[str, Any]) -> list[tuple[Markup, str]]:
    """Each plane with its caption; first D against capability, where that was measured."""
    known = ordered(results)
    if not any(_has(c, "unsafe_refusal") and _has(c, "over_refusal") for c in known):
        return []
    planes, half = [], (512, 440)
    if any(_has(c, "capability") for c in known):
        behind = BEHIND if find(results, "gated_clamp") else ""
        planes.append((_two_widths(trade_plane, results, ((1040, 510), (358, 400))),
                       TRADE + behind))
    planes.append((_two_widths(refusal_plane, results, (half, NARROW)), PLANE))
    if any(_has(c, "incoherent") for c in known):
        planes.append((_two_widths(cost_plane, results, (half, NARROW), "incoherent",
                                   "incoherent, % of all replies"), BROKEN))
    return planes


def _gate(results: Mapping[str, Any],
          samples: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The gate's section: what it says, its plots, its figures; None without a gate."""
    section = gate_section(results, samples)
    if section is None:
        return None
    plots = [] if section.risks is None else [
        _two_widths(risk_histogram, section.risks, ((610, 400), (358, 340))),
        _two_widths(roc_plot, section.risks, ((400, 400), (358, 350)))]
    fires = section.fires and _two_widths(bar_chart, section.fires, (512, 358))
    return {"paragraphs": section.paragraphs, "plots": plots, "fires": fires,
            "odds": section.risks is not None and section.risks.scale.odds,
            "figures": section.figures}


def _kinds(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Refusal by kind of prompt, a chart for each side that has several."""
    charts = (refusal_by(results, samples, "unsafe", "category", "unsafe refusal, %"),
              refusal_by(results, samples, "safe", "source", "over-refusal, %"))
    return [_two_widths(bar_chart, chart, (502, 358)) for chart in charts if chart]


def _has(condition: Mapping[str, Any], key: str) -> bool:
    return numerals.share(condition.get(key)) is not None


def _verdicts(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
              ) -> list[tuple[str, list[tuple[str, Markup, list[tuple[str, int]]]]]]:
    groups = []
    for kind, title in (("unsafe", "Unsafe prompts"), ("safe", "Safe prompts")):
        rows = verdict_counts(results, samples, kind)
        if rows:
            groups.append((title, [(name, stack(counts), counts) for name, counts in rows]))
    return groups


def _choices(results: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Conditions for the reader to show or hide: key, name, shown at first."""
    kept = [c for c in (find(results, "baseline"), reference(results), best_d(results)) if c]
    rows = []
    for condition in ordered(results):
        first = condition in kept or condition["name"] not in ("clamp", "splice_in")
        name = ", ".join([label(condition), *marks(results, condition)])
        rows.append((key(condition["name"], condition.get("value")), name, first))
    return rows


def _categories(items: Sequence[Any]) -> list[str]:
    return sorted({item.category for item in items if item.category})


def _provenance(results: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(results.get("provenance") or {})
    found.pop("command", None)  # stands among the snippets
    groups = {name: found.pop(name, None) or {} for name in ("settings", "versions", "hashes")}
    return {"plain": figures(found), "groups": {name: figures(g) for name, g in groups.items()}}


def _timing(results: Mapping[str, Any]) -> list[tuple[str, float, Markup]]:
    stages = {k: v for k, v in (results.get("timing") or {}).items() if v is not None}
    largest = max(stages.values(), default=0)
    return [(name, seconds, amount(seconds, largest)) for name, seconds in stages.items()]
