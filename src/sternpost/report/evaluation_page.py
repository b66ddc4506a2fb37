"""An evaluation's page: one HTML file in English or Chinese, no request to anywhere."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sternpost.evaluation.count import FEWEST
from sternpost.report.evaluation_headline import evaluation_clauses
from sternpost.report.evaluation_plots import front, front_places, group_charts
from sternpost.report.evaluation_replies import choose
from sternpost.report.evaluation_rows import (
    Row,
    change_full,
    figure_ends,
    figure_text,
    main_row,
    rows_of,
    who,
)
from sternpost.report.evaluation_sections import (
    attacks,
    data_rows,
    family_rows,
    fire_rows,
    judge_lines,
    not_covered,
    unmeasured,
)
from sternpost.report.evaluation_table import evaluation_html_table, figure_rest, papers_note
from sternpost.report.evaluation_words import PAGE, Words, words_for
from sternpost.report.figures import Tile, figures
from sternpost.report.groups import bar_chart
from sternpost.report.html import asset, environment, policy
from sternpost.report.numerals import NONE, point_bounds, point_value, share
from sternpost.report.strips import amount, stack, track

TILES = (("discrimination", "s-d"), ("refusal", "s-unsafe"), ("over_refusal", "s-over"),
         ("attack_success", "s-over"), ("capability", "s-capability"),
         ("incoherent", "s-incoherent"))
STEERING = ("pack", "sae", "layer", "positions", "mode")
CHARTS = 12
"""Charts of groups on one page; the rest unfold."""


def render_evaluation(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]],
                      lang: str | None = None) -> str:
    """The whole page as one HTML document. A pure function of the evaluation's two files."""
    words, rows = words_for(results, lang), rows_of(results)
    style = asset("report.css") + asset("evaluation.css")
    script = asset("evaluation.js")
    places, charts = front_places(results), list(group_charts(results, words))
    shown = choose(results, samples)
    return environment().get_template("evaluation.html.j2").render(
        t=words, lang=PAGE[words.lang], style=Markup(style), script=Markup(script),
        policy=policy(style, script), model=results.get("model"), who=who(results, words),
        steering={**dict.fromkeys(STEERING), **(results.get("steering") or {})},
        date=_date(results),
        clauses=evaluation_clauses(results, words.lang), tiles=_tiles(rows, words),
        warnings=[str(text) for text in results.get("warnings") or []],
        front=_two_widths(front, places, ((760, 520), (358, 380)), words) if places else "",
        charts=[(c, _two_widths(bar_chart, c.chart, (502, 358))) for c in charts], most=CHARTS,
        fewest=FEWEST, shape=figures(results.get("shape") or {}),
        table=Markup(evaluation_html_table(results, words.lang)),
        papers=papers_note(results, words),
        unmeasured=unmeasured(results, words), families=family_rows(results),
        attacks=[(a, [(side, entry, _verdicts(entry)) for side, entry in a.sides])
                 for a in attacks(results)],
        fires=fire_rows(results), text=figure_text,
        rest=figure_rest,
        shown=shown, suites=_distinct(item.title for item in shown.items),
        verdicts=_distinct(item.verdict for item in shown.items),
        kinds=_distinct(item.kind for item in shown.items),
        judge=judge_lines(results.get("judge") or {}, words),
        data=data_rows(results, words), not_covered=not_covered(results, words),
        provenance=_provenance(results), cost=_cost(results, words), timing=_timing(results),
        glossary=_glossary(rows, words), dash=NONE)


def _two_widths(draw: Any, what: Any, sizes: tuple[Any, Any], *rest: Any) -> Markup:
    """The same plot for a wide and a narrow window; the style sheet shows one."""
    wide, narrow = (draw(what, size, *rest) for size in sizes)
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(wide, narrow)


def _distinct(names: Any) -> list[str]:
    return list(dict.fromkeys(names))


def _date(results: Mapping[str, Any]) -> str:
    return str((results.get("provenance") or {}).get("date") or "")[:10]


def _tiles(rows: Sequence[Row], words: Words) -> list[Tile]:
    """The key figures, each of the benchmark with the most prompts."""
    found = [(main_row(rows, metric), class_) for metric, class_ in TILES]
    return [_tile(row, class_, words) for row, class_ in found if row is not None]


def _tile(row: Row, class_: str, words: Words) -> Tile:
    figure = row.steered or row.baseline
    if row.metric == "discrimination":
        value = point_value(figure)
        number, unit = (NONE if value is None else f"{value:.0f}"), words("words.points")
    else:
        number, _, unit = figure_text(figure).partition(" ")
        number = f"{float(number):.0f}" if number != NONE and not _extreme(figure) else number
    before = f"{words('words.baseline')} {figure_text(row.baseline)}"
    moved = change_full(row)
    sure = figure_ends(figure) if moved == NONE else f"{words('words.change')} {moved}"
    pair = [(_unit(row.baseline), "s-before", words("words.baseline")),
            (_unit(row.steered), class_, words("words.steered"))]
    strip = track([one for one in pair if one[0] is not None], 200)
    return Tile(words.named("metrics", row.metric).partition(",")[0].partition("(")[0],
                f"{row.title}{words('words.colon')}{words.known('metric_meanings', row.metric)}",
                number, unit, before, sure, strip, class_)


def _extreme(rate: Any) -> bool:
    """Whether rounding to whole percent would claim all or nothing."""
    value = share(rate)
    return value is not None and value not in (0, 1) and f"{100 * value:.0f}" in ("0", "100")


def _unit(figure: Any) -> Any:
    """A figure on a track from 0 to 100 %; D is cut at its ends."""
    if not isinstance(figure, Mapping) or "points" not in figure:
        return figure if isinstance(figure, Mapping) and "hits" in figure else None
    value, ends = point_value(figure), point_bounds(figure)
    if value is None:
        return None
    cut = [max(0.0, min(1.0, number / 100)) for number in (value, *(ends or (value, value)))]
    return {"hits": cut[0], "n": 1, "low": cut[1], "high": cut[2]}


def _verdicts(entry: Mapping[str, Any]) -> Markup:
    """Harmful turns by verdict, as one bar."""
    names = (("refusal", "refused"), ("compliance", "complied"), ("incoherent", "broken"))
    return stack([(name, round((entry.get(key) or {}).get("hits") or 0)) for name, key in names])


def _provenance(results: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(results.get("provenance") or {})
    groups = {name: figures(found.pop(name, None) or {})
              for name in ("settings", "versions", "hashes")}
    return {"plain": figures(found), **groups}


def _cost(results: Mapping[str, Any], words: Words) -> list[tuple[str, str]]:
    cost = results.get("cost") or {}
    seconds = {side: value for side, value in (cost.get("seconds_per_token") or {}).items()
               if value is not None}
    out = [(words("page.seconds_token", condition=words.named("words", side)), f"{value:.3g}")
           for side, value in seconds.items()]
    if seconds.get("baseline") and seconds.get("steered"):
        out.append((words("page.slower"), f"{seconds['steered'] / seconds['baseline']:.2f}"))
    return out


def _timing(results: Mapping[str, Any]) -> list[tuple[str, float, Markup]]:
    stages = {k: v for k, v in (results.get("timing") or {}).items() if v is not None}
    largest = max(stages.values(), default=0)
    return [(name, seconds, amount(seconds, largest)) for name, seconds in stages.items()]


def _glossary(rows: Sequence[Row], words: Words) -> list[tuple[str, str]]:
    metrics = [name for name in _distinct(row.metric for row in rows)
               if words.known("words_explained", name)]
    named = [(words.named("metrics", name), words("words_explained." + name)) for name in metrics]
    named += [(words(f"words.{name}"), words("words_explained." + name))
              for name in ("baseline", "steered")]
    return [*named, ("95 %", words("words_explained.interval"))]
