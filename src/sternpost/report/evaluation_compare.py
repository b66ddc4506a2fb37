"""Two evaluations or runs beside each other: for the terminal and as HTML."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from sternpost.report.evaluation_rows import (
    Row,
    change_ends,
    change_text,
    figure_ends,
    figure_text,
    p_text,
    short_change,
    short_ends,
)
from sternpost.report.evaluation_words import Words, words
from sternpost.report.numerals import NONE

LETTERS = 80
"""A longer value among what differs is cut."""


def comparison_table(found: Mapping[str, Any], lang: str = "en") -> Table:
    """One row a benchmark, condition and metric: n, both figures, the change, p."""
    told = words(lang)
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False,
                  title=Text(told("compare.title", a=found["a"], b=found["b"])),
                  title_justify="left", title_style="bold",
                  caption=Text(told("compare.caption")), caption_justify="left",
                  caption_style="dim")
    for at, name in enumerate(_names(told)):
        table.add_column(name, justify="left" if at < 3 else "right", overflow="fold",
                         no_wrap=at == 2, min_width=7 if at == 7 else None)
    for entry in found["rows"]:
        row = row_of(entry)
        table.add_row(*_begin(entry, told), str(row.n or NONE),
                      _two(figure_text(row.baseline), short_ends(row, row.baseline)),
                      _two(figure_text(row.steered), short_ends(row, row.steered)),
                      _two(change_text(row), short_change(row)), p_text(row),
                      style="bold" if row.metric == "discrimination" else "")
    return table


def comparison_html(found: Mapping[str, Any], lang: str = "en") -> str:
    """The same as one plain HTML table, with what differs below it."""
    told = words(lang)
    heads = Markup("").join(Markup('<th scope="col">{}</th>').format(n) for n in _names(told))
    body = Markup("\n").join(_html_row(entry, told) for entry in found["rows"])
    notes = Markup("").join(Markup("<li>{}</li>").format(text) for text in notes_of(found, lang))
    return str(Markup('<table class="results"><caption>{}</caption><thead><tr>{}</tr></thead>'
                      "<tbody>{}</tbody></table><ul>{}</ul>").format(
        told("compare.title", a=found["a"], b=found["b"]), heads, body, notes))


def notes_of(found: Mapping[str, Any], lang: str = "en") -> list[str]:
    """How many lines are shared, what differs, and warnings, a line each."""
    told = words(lang)
    lines = [told("compare.shared", **found["prompts"])]
    lines += [f"{entry['what'].replace('_', ' ')}{told('words.colon')}"
              f"{'' if lang == 'zh' else ' '}{_short(entry['a'], told)} | "
              f"{_short(entry['b'], told)}" for entry in found["differs"]]
    if not found["differs"]:
        lines.append(told("compare.same"))
    return [*lines, *found["warnings"]]


def _short(value: Any, told: Words) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        value = ", ".join(" ".join(map(str, one.values())) for one in value)
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    text = NONE if value is None else str(value)
    return text if len(text) <= LETTERS else text[:LETTERS] + "..."


def _names(told: Words) -> list[str]:
    return [told("words.benchmark"), told("compare.condition"), told("words.metric"),
            told("words.n"), told("compare.a"), told("compare.b"), told("words.change"),
            told("words.p_holm")]


def row_of(entry: Mapping[str, Any]) -> Row:
    """A row of the comparison as one of an evaluation: A stands first."""
    return Row(entry["suite"], entry["suite"], entry["metric"], entry["a"], entry["b"],
               entry["paired"])


def _begin(entry: Mapping[str, Any], told: Words) -> tuple[str, str, str]:
    return (entry["suite"], told.named("words", entry["condition"]),
            told.named("metrics", entry["metric"]))


def _two(above: str, below: str) -> Text:
    return Text.assemble(above, (f"\n{below}" if below else "", "not bold dim"))


def _html_row(entry: Mapping[str, Any], told: Words) -> Markup:
    row = row_of(entry)
    cells = [*_begin(entry, told), str(row.n or NONE),
             f"{figure_text(row.baseline)} {figure_ends(row.baseline)}",
             f"{figure_text(row.steered)} {figure_ends(row.steered)}",
             f"{change_text(row)} {change_ends(row)}", p_text(row)]
    return Markup("<tr>{}</tr>").format(
        Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells))
