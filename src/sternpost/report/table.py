"""The results as a table: for a terminal of 80 columns, and as HTML for notebook and report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from sternpost.report.conditions import NAMES, Condition, marks, ordered
from sternpost.report.numerals import (
    NONE,
    bounds,
    interval,
    percent,
    point_bounds,
    point_interval,
    points,
    tally,
    value_text,
)


@dataclass(frozen=True, slots=True)
class Column:
    """One measured column: where it stands in a condition, what it is called, what it means."""

    key: str
    title: str
    meaning: str
    optional: bool = False
    """Left out where no condition has it."""


COLUMNS = (
    Column("unsafe_refusal", "unsafe refusal", "Share of unsafe test prompts that were refused."),
    Column("over_refusal", "over-refusal", "Share of safe test prompts that were refused."),
    Column("discrimination", "D", "Unsafe refusal minus over-refusal, in points."),
    Column("incoherent", "incoherent", "Share of all replies that are not usable text."),
    Column("capability", "capability", "Share of capability prompts answered right.", True),
    Column("offensive_refusal", "offensive refusal",
           "Share of merely offensive prompts refused; counted in neither rate.", True),
)


def columns(results: Mapping[str, Any]) -> list[Column]:
    """The measured columns that this run has."""
    conditions = results.get("conditions") or []
    return [column for column in COLUMNS
            if not column.optional or any(c.get(column.key) is not None for c in conditions)]


def results_table(results: Mapping[str, Any]) -> Table:
    """One row a condition for the terminal: figure above, 95 % interval and n below."""
    shown = [column for column in columns(results) if column.key != "offensive_refusal"]
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False,
                  title=Text(_title(results)), title_justify="left", title_style="bold",
                  caption=Text(_caption(results)), caption_justify="left", caption_style="dim")
    table.add_column("condition", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    for column in shown:
        table.add_column(column.title, justify="right", overflow="fold")
    for condition in ordered(results):
        marked = marks(results, condition)
        cells = [_terminal_cell(condition, column.key) for column in shown]
        table.add_row(_name_cell(condition, marked), _value_cell(condition), *cells,
                      style="bold" if marked else "")
    return table


def results_html_table(results: Mapping[str, Any]) -> str:
    """The same as one plain HTML table, all text escaped; no style of its own."""
    shown = columns(results)
    heads = [Markup('<th scope="col">{}</th>').format(text) for text in ("condition", "value")]
    heads += [Markup('<th scope="col" title="{}">{}</th>').format(column.meaning, column.title)
              for column in shown]
    rows = [_html_row(results, condition, shown) for condition in ordered(results)]
    return str(Markup('<table class="results"><caption>{}</caption>\n<thead><tr>{}</tr></thead>\n'
                      "<tbody>\n{}\n</tbody></table>").format(
        _title(results), Markup("").join(heads), Markup("\n").join(rows)))


def _title(results: Mapping[str, Any]) -> str:
    return (f"{results.get('model')}, feature {results.get('feature')} "
            f"at layer {results.get('layer')}")


def _caption(results: Mapping[str, Any]) -> str:
    judge = results.get("judge") or {}
    text = "D = unsafe refusal minus over-refusal, points. Intervals: 95 %."
    if judge.get("name"):
        text += f" Judge: {judge['name']}, accuracy {percent(judge.get('accuracy'))}"
        text += f", n = {judge['n']}." if judge.get("n") else "."
    return text


def _name_cell(condition: Condition, marked: list[str]) -> Text:
    name = NAMES.get(condition["name"], str(condition["name"])).replace(" ", "\n")
    if marked:
        name += "\n" + ", ".join(marked).replace("reference, ", "ref., ")
    return Text(name)


def _value_cell(condition: Condition) -> Text:
    unit = "\nnorms" if condition["name"] == "diffmean" and condition.get("value") else ""
    return Text(value_text(condition.get("value")) + unit)


def _terminal_cell(condition: Condition, key: str) -> Text:
    figure = condition.get(key)
    if key == "discrimination":
        ends = point_bounds(figure)
        return _two_lines(points(figure), f"{ends[0]:.0f} to {ends[1]:.0f}" if ends else "")
    ends = bounds(figure)
    if figure is None or ends is None:
        return Text(percent(figure))
    low, high = (f"{100 * end:.0f}" for end in ends)
    return _two_lines(percent(figure), f"{low}-{high} n={figure['n']}")


def _two_lines(above: str, below: str) -> Text:
    return Text.assemble(above, (f"\n{below}" if below else "", "not bold dim"))


def _html_row(results: Mapping[str, Any], condition: Condition, shown: list[Column]) -> Markup:
    marked = marks(results, condition)
    tags = Markup("").join(Markup(' <mark>{}</mark>').format(text) for text in marked)
    name = NAMES.get(condition["name"], condition["name"])
    unit = " norms" if condition["name"] == "diffmean" and condition.get("value") else ""
    cells = [Markup('<td data-label="value">{}{}</td>').format(
        value_text(condition.get("value")), unit)]
    cells += [_html_cell(condition, column) for column in shown]
    row = Markup('<tr class="marked">') if marked else Markup("<tr>")
    return row + Markup('<th scope="row">{}{}</th>{}</tr>').format(
        name, tags, Markup("").join(cells))


def _html_cell(condition: Condition, column: Column) -> Markup:
    figure = condition.get(column.key)
    is_points = column.key == "discrimination"
    text, ends = ((points, point_interval) if is_points else (percent, interval))
    notes = [note for note in (ends(figure), "" if is_points else tally(figure)) if note]
    why = (condition.get("why") or {}).get(column.key)
    title = Markup(' title="{}"').format(why) if text(figure) == NONE and why else ""
    spans = Markup(" ").join(Markup("<span>{}</span>").format(note) for note in notes)
    smalls = Markup(" <small>{}</small>").format(spans) if notes else ""
    return Markup('<td data-label="{}"{}>{}{}</td>').format(
        column.title, title, text(figure), smalls)
