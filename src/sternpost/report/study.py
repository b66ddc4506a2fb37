"""A study's table in the paper's layout: a row a benchmark and metric, a column a condition, and
beside them the founding paper's own figures."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sternpost.evaluation.paper import benchmark_of, in_paper, paper, stated
from sternpost.report.evaluation_rows import Row, figure_text, rows_of, short_ends
from sternpost.report.evaluation_table import paper_text
from sternpost.report.evaluation_words import Words, words_for
from sternpost.report.numerals import NONE

WIDE = 140
"""Characters a line of table.txt, at most."""


def study_table(results: Mapping[str, Any]) -> Table:
    """The final table of a study's results.json."""
    words = words_for(results, "en")
    columns = results["columns"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False,
                  title=Text(_title(results)), title_justify="left", title_style="bold",
                  caption=Text(_caption(results)), caption_justify="left", caption_style="dim")
    titles = [len(about["title"]) for about in results["suites"].values()]
    table.add_column("benchmark", overflow="fold", min_width=min(13, max(titles)))
    table.add_column("metric", overflow="fold")
    for head in ("n", "baseline", *map(_head, columns)):
        table.add_column(head, justify="right", overflow="fold")
    table.add_column(_paper_head(), justify="right", overflow="fold",
                     min_width=len(words("words.not_stated")))
    last = None
    for suite, metric, rows in _rows(results):
        title = results["suites"].get(suite, {}).get("title", suite)
        table.add_row(title if suite != last else "", words.named("metrics", metric),
                      *_cells(rows, columns), _papers(suite, metric, words),
                      style="bold" if metric == "discrimination" else "")
        last = suite
    for suite, metric in _empty(results):
        dashes = [NONE] * (2 + len(columns))
        table.add_row(suite if suite != last else "", words.named("metrics", metric), *dashes,
                      _papers(suite, metric, words))
        last = suite
    return table


def study_text(results: Mapping[str, Any]) -> str:
    """The same as plain text."""
    console = Console(file=StringIO(), width=WIDE, force_terminal=False, color_system=None)
    console.print(study_table(results))
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _title(results: Mapping[str, Any]) -> str:
    return (f"{results['model']}, output of block {results['layer']}: feature "
            f"{results['feature']}, found by the search")


def _caption(results: Mapping[str, Any]) -> str:
    known = paper()
    why = [f"{name} has no figures: {text}." for name, text in results["left_out"].items()]
    return " ".join([
        "95 % intervals below each figure; over-refusal is of safe prompts; D is the first minus "
        "the second, points.",
        f"The paper's figures are {known['model']}'s (arXiv {known['arxiv']}), with its feature "
        f"{known['feature']} and its own SAE and judge; +32.32 is a change of its baseline.",
        *why])


def _clamps() -> Sequence[float | None]:
    return [None, *paper()["clamps"]]


def _head(column: Mapping[str, Any]) -> str:
    if column["feature"] is None:
        return f"{column['kind']}\n{NONE}\n{NONE}"
    return f"{column['kind']}\n{column['value']:g}\n#{column['feature']}"


def _paper_head() -> str:
    return "\n".join(["paper:", *("baseline" if clamp is None else f"at {clamp:g}"
                                  for clamp in _clamps())])


def _rows(results: Mapping[str, Any]) -> list[tuple[str, str, list[Row | None]]]:
    """Of each benchmark and metric, the row of each column's evaluation."""
    parts = [{(row.suite, row.metric): row for row in rows_of(_part(results, column["name"]))}
             for column in results["columns"]]
    keys = list(dict.fromkeys(key for part in parts for key in part))
    return [(*key, [part.get(key) for part in parts]) for key in keys]


def _part(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A column as the evaluation that it came from."""
    return {"model": "", "suites": results["suites"],
            "runs": {"baseline": results["runs"]["baseline"], "steered": results["runs"][name]},
            "paired": results["paired"][name],
            "discrimination": results["discrimination"][name]}


def _cells(rows: Sequence[Row | None], columns: Sequence[Any]) -> list[Text]:
    one = next(row for row in rows if row is not None)
    cells = [Text(NONE if one.n is None else str(one.n)), _figure(one, one.baseline)]
    return cells + [_figure(row, row.steered) if row else Text(NONE) for row in rows]


def _figure(row: Row, figure: Any) -> Text:
    ends = short_ends(row, figure)
    return Text.assemble(figure_text(figure), (f"\n{ends}" if ends else "", "not bold dim"))


def _papers(suite: str, metric: str, words: Words) -> str:
    """The paper's figures, one below the other."""
    if not in_paper(suite, metric):
        return ""
    return "\n".join(paper_text(stated(suite, metric, clamp), words) for clamp in _clamps())


def _empty(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the paper measured and this study left out."""
    there = {(benchmark_of(suite), metric) for suite, metrics in results["runs"]["baseline"].items()
             for metric in metrics}
    return [(name, metric) for name, metrics in paper()["metrics"].items() for metric in metrics
            if (name, metric) not in there]
