"""An evaluation's card: what it is for, what was measured, what it costs, what it says nothing of.

Markdown, in English or Chinese; every figure with its n and interval.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sternpost.report.evaluation_headline import evaluation_headline
from sternpost.report.evaluation_rows import (
    Row,
    change_full,
    figure_full,
    p_text,
    rows_of,
    title_of,
    who,
)
from sternpost.report.evaluation_sections import (
    data_rows,
    families,
    judge_lines,
    not_covered,
)
from sternpost.report.evaluation_table import paper_lines, papers_note
from sternpost.report.evaluation_words import Words, words_for
from sternpost.report.numerals import NONE, round_percent


def evaluation_card(results: Mapping[str, Any], lang: str | None = None) -> str:
    """card.md of an evaluation."""
    words, rows = words_for(results, lang), rows_of(results)
    steering = results.get("steering") or {}
    where = {key: steering.get(key) if steering.get(key) is not None else NONE
             for key in ("layer", "positions")}
    parts = [
        f"# {words('card.title', model=results.get('model'))}", "",
        evaluation_headline(results, words.lang), "",
        words("card.what", steering=who(results, words), layer=where["layer"],
              positions=where["positions"]), "",
        f"## {words('card.use')}", "", words("card.use_text"), "",
        f"## {words('card.measured')}", "", *_table(rows, words), "",
        *_paragraph(papers_note(results, words)),
        f"## {words('card.cost')}", "", *(f"- {line}" for line in _costs(results, rows, words)),
        "", *_attacks(results, words), f"## {words('card.judge')}", "",
        *(line for text in judge_lines(results.get("judge") or {}, words) for line in (text, "")),
        f"## {words('card.data')}", "", *_data(results, words), "",
        f"## {words('page.not_covered')}", "",
        *(f"- {text}" for text in not_covered(results, words)), "", *_warnings(results, words)]
    return "\n".join(parts)


def _paragraph(text: str) -> list[str]:
    return [text, ""] if text else []


def _cell(text: Any) -> str:
    """Text that cannot end a cell of a table."""
    return " ".join(str(text).replace("|", "\\|").split())


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _head(names: Sequence[str]) -> list[str]:
    return [_line(names), "|" + "---|" * len(names)]


def _table(rows: Sequence[Row], words: Words) -> Iterator[str]:
    beside = any(row.papers for row in rows)
    holm = any((row.paired or {}).get("p_holm") is not None for row in rows)
    names = ["benchmark", "metric", "baseline", "steered", "change", "p_holm" if holm else "p",
             *(("paper", "difference", "covered") if beside else ())]
    yield from _head([words(f"words.{name}") for name in names])
    for row in rows:
        lines = paper_lines(row, words) or [("", "", "")]
        theirs = [" / ".join(line[i] for line in lines) for i in range(3)] if beside else []
        yield _line([row.title, words.named("metrics", row.metric), _with_n(row, row.baseline),
                     _with_n(row, row.steered), change_full(row), p_text(row), *theirs])


def _with_n(row: Row, figure: Any) -> str:
    """A figure with its interval, and n where it has no hits."""
    text = figure_full(figure)
    counted = "(" in text or row.n is None or text == NONE
    return text if counted else f"{text} (n = {row.n})"


def _costs(results: Mapping[str, Any], rows: Sequence[Row], words: Words) -> Iterator[str]:
    over = [row for row in rows if row.metric == "over_refusal" and row.steered]
    for row in over:
        yield words("card.over", suite=row.title, before=figure_full(row.baseline),
                    after=figure_full(row.steered), change=change_full(row))
    if not over:
        yield words("card.no_over")
    known = families(results)
    for one in known:
        yield words("card.family_line", family=one.family, before=figure_full(one.baseline),
                    after=figure_full(one.steered), change=one.change)
    if not known:
        yield words("card.no_capability")
    cost = results.get("cost") or {}
    seconds = cost.get("seconds_per_token") or {}
    before, after = seconds.get("baseline"), seconds.get("steered")
    yield words("card.time", before=f"{before:.3g}", after=f"{after:.3g}",
                ratio=f"{after / before:.2f}") if before and after else words("card.time_unknown")


def _attacks(results: Mapping[str, Any], words: Words) -> list[str]:
    found = results.get("attacks") or {}
    lines = [f"- {_attack(title_of(results, suite), entry, words)}"
             for suite, entry in found.items()]
    return [f"## {words('card.attacks')}", "", *lines, ""] if lines else []


def _attack(title: str, entry: Mapping[str, Any], words: Words) -> str:
    before, after = entry.get("baseline") or {}, entry.get("steered") or {}
    about = {key: NONE if entry.get(key) is None else entry[key]
             for key in ("kind", "attacker", "judge", "turns", "backtracks", "threshold")}
    became = {key: round_percent(after.get(key)) for key in ("refused", "complied", "broken")}
    return words("card.attack_line", suite=title, **about, **became,
                 before=figure_full(before.get("attack_success")),
                 after=figure_full(after.get("attack_success")))


def _data(results: Mapping[str, Any], words: Words) -> Iterator[str]:
    names = ("benchmark", "licence", "prompts", "files", "duplicates", "leaked")
    yield from _head([words(f"words.{name}" if name == "benchmark" else f"page.{name}")
                      for name in names])
    for row in data_rows(results, words):
        files = "; ".join(f"{file.get('path')} `{file.get('sha256')}`" for file in row.files)
        yield _line([row.title, row.licence, row.prompts, files or NONE, row.duplicates,
                     row.leaked])


def _warnings(results: Mapping[str, Any], words: Words) -> list[str]:
    lines = [f"- {_cell(text)}" for text in results.get("warnings") or []]
    return [f"## {words('card.warnings')}", "", *lines, ""] if lines else []
