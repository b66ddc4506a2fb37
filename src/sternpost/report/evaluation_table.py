"""An evaluation in the paper's layout: benchmark by metric, for the terminal and as HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from sternpost.evaluation.paper import Against, Figure, paper, papers_clamp
from sternpost.report.evaluation_rows import (
    Row,
    change_ends,
    change_text,
    figure_ends,
    figure_full,
    figure_text,
    p_text,
    rows_of,
    short_change,
    short_ends,
    who,
)
from sternpost.report.evaluation_words import Words, words_for
from sternpost.report.numerals import NONE


def evaluation_table(results: Mapping[str, Any], lang: str | None = None) -> Table:
    """One row a benchmark and metric: n, baseline, steered, the change with its 95 % interval, p;
    for the paper's model its own figures, the difference, and whether our interval covers it."""
    words, rows = words_for(results, lang), rows_of(results)
    beside = any(row.papers for row in rows)
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False,
                  title=Text(_title(results, words)), title_justify="left", title_style="bold",
                  caption=Text(_caption(results, words)), caption_justify="left",
                  caption_style="dim")
    longest = max((len(row.title) for row in rows), default=0)
    table.add_column(words("words.benchmark"), overflow="fold",
                     min_width=min(8 if beside else 13, longest))
    table.add_column(words("words.metric"), no_wrap=True)
    for name in _numeric(rows, beside):
        table.add_column(words(f"words.{name}"), justify="right", overflow="fold",
                         min_width=6 if name in ("p", "p_holm") else None)
    for row, again in zip(rows, _again(rows), strict=True):
        metric = words.named("metrics", row.metric)
        table.add_row("" if again else row.title, _broken(metric) if beside else metric,
                      *_figures(row), *(_papers(row, words) if beside else ()),
                      style="bold" if row.metric == "discrimination" else "")
    return table


def _broken(text: str) -> str:
    """A name in two lines, where the paper's columns leave no room for one."""
    return text.replace(" ", "\n").replace("over-", "over-\n")


def _numeric(rows: Sequence[Row], beside: bool) -> list[str]:
    holm = any((row.paired or {}).get("p_holm") is not None for row in rows)
    return ["n", "baseline", "steered", "change", "p_holm" if holm else "p",
            *(("paper", "difference", "covered") if beside else ())]


def _title(results: Mapping[str, Any], words: Words) -> str:
    return words("table.title", model=results.get("model"), steering=who(results, words))


def _caption(results: Mapping[str, Any], words: Words) -> str:
    parts = [words("table.caption"), papers_note(results, words)]
    return ("" if words.lang == "zh" else " ").join(part for part in parts if part)


def papers_note(results: Mapping[str, Any], words: Words) -> str:
    """Where the paper's figures come from and how they are read; nothing where there are none."""
    if not any(row.papers for row in rows_of(results)):
        return ""
    clamp = papers_clamp((results.get("steering") or {}).get("clamp"))
    about = {"arxiv": paper()["arxiv"], "feature": paper()["feature"]}
    return words("table.papers_other", **about) if clamp is None else \
        words("table.papers", **about, clamp=f"{clamp:g}")


def _figures(row: Row) -> list[Text]:
    return [Text(NONE if row.n is None else str(row.n)),
            _two(figure_text(row.baseline), short_ends(row, row.baseline)),
            _two(figure_text(row.steered), short_ends(row, row.steered)),
            _two(change_text(row), short_change(row)), Text(p_text(row))]


def _two(above: str, below: str) -> Text:
    return Text.assemble(above, (f"\n{below}" if below else "", "not bold dim"))


def _papers(row: Row, words: Words) -> list[Text]:
    lines = [(_broken(text), *rest) for text, *rest in paper_lines(row, words)]
    tall = [line[0].count("\n") for line in lines]  # a cell beside a broken one is as high
    return [Text("\n".join(line[i] + ("\n" * extra if i else "")
                           for line, extra in zip(lines, tall, strict=True))) for i in range(3)]


def paper_lines(row: Row, words: Words) -> list[tuple[str, str, str]]:
    """The paper's figure, ours minus it, and whether ours covers it: first baseline, then clamp."""
    if row.papers is None:
        return []
    pairs = [(row.papers.baseline, row.papers.first), (row.papers.steered, row.papers.second)]
    return [(paper_text(figure, words), *_beside(found, words)) for figure, found in pairs]


def paper_text(figure: Figure | None, words: Words) -> str:
    """`40.63`, `+32.32`, about `58.3`, or `not stated`."""
    if figure is None:
        return words("words.not_stated")
    if figure.change is not None:
        return f"{figure.change:+.2f}"
    return f"\N{ALMOST EQUAL TO}{figure.value:.1f}" if figure.rounded else f"{figure.value:.2f}"


def _beside(found: Against | None, words: Words) -> tuple[str, str]:
    if found is None:
        return NONE, NONE
    covered = NONE if found.covered is None else words(
        "words.yes" if found.covered else "words.no")
    return f"{found.difference + 0.0:+.1f}", covered


def evaluation_html_table(results: Mapping[str, Any], lang: str | None = None) -> str:
    """The same as one plain HTML table, all text escaped; no style of its own."""
    words, rows = words_for(results, lang), rows_of(results)
    beside = any(row.papers for row in rows)
    names = ["benchmark", "metric", *_numeric(rows, beside)]
    heads = [Markup('<th scope="col">{}</th>').format(words(f"words.{name}")) for name in names]
    return str(Markup('<table class="results evaluation"><caption>{}</caption>\n<thead><tr>{}</tr>'
                      "</thead>\n<tbody>\n{}\n</tbody></table>").format(
        _title(results, words), Markup("").join(heads),
        Markup("\n").join(_html_row(row, words, names, again)
                          for row, again in zip(rows, _again(rows), strict=True))))


def _again(rows: Sequence[Row]) -> list[bool]:
    """Whether a row's benchmark is the one above's."""
    return [at > 0 and rows[at - 1].suite == row.suite for at, row in enumerate(rows)]


def _html_row(row: Row, words: Words, names: Sequence[str], again: bool) -> Markup:
    cells = [(words.named("metrics", row.metric), ""),
             (NONE if row.n is None else str(row.n), ""),
             (figure_text(row.baseline), figure_rest(row.baseline)),
             (figure_text(row.steered), figure_rest(row.steered)),
             (change_text(row), change_ends(row)), (p_text(row), "")]
    if len(names) > len(cells) + 1:
        lines = paper_lines(row, words)
        cells += [(Markup("<br>").join(line[i] for line in lines), "") for i in range(3)]
    why = Markup(' title="{}"').format(row.why) if row.why else ""
    tds = [Markup('<td data-label="{}"{}>{}{}</td>').format(
        words(f"words.{name}"), why, text,
        Markup(" <small>{}</small>").format(rest) if rest else "")
        for name, (text, rest) in zip(names[1:], cells, strict=True)]
    begin = Markup('<tr class="marked">') if row.metric == "discrimination" else Markup("<tr>")
    return begin + Markup('<th scope="row"{}><span>{}</span></th>{}</tr>').format(
        Markup(' class="again"') if again else "", row.title, Markup("").join(tds))


def figure_rest(figure: Any) -> Markup:
    """What stands small below a figure: its interval, and hits/n."""
    rest = figure_full(figure).removeprefix(figure_text(figure)).strip()
    ends = figure_ends(figure)
    parts = [part for part in (ends, rest.removeprefix(ends).strip(" ()")) if part]
    return Markup(" ").join(Markup("<span>{}</span>").format(part) for part in parts)
