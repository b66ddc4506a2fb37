"""The headline of an evaluation: what steering bought in D, and what it cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from sternpost.report.evaluation_rows import (
    Row,
    change_full,
    clearly,
    figure_text,
    main_row,
    rows_of,
    who,
)
from sternpost.report.evaluation_words import Words, words_for
from sternpost.report.numerals import NONE, round_percent


def evaluation_headline(results: Mapping[str, Any], lang: str | None = None) -> str:
    """The whole headline in one line."""
    words = words_for(results, lang)
    join = words("headline.stop") + ("" if words.lang == "zh" else " ")
    return join.join(evaluation_clauses(results, lang)) + words("headline.stop")


def evaluation_clauses(results: Mapping[str, Any], lang: str | None = None) -> list[str]:
    """The headline's sentences, without their stops; the first is the finding."""
    words, rows = words_for(results, lang), rows_of(results)
    steps = (_finding, _rates, _further, _attack, _capability)
    texts = [text for step in steps if (text := step(results, rows, words))]
    return [text[:1].upper() + text[1:] for text in texts]


def _finding(results: Mapping[str, Any], rows: Sequence[Row], words: Words) -> str:
    row = main_row(rows, "discrimination")
    if row is None:
        return words("headline.no_d", who=who(results, words))
    name = {1: "rose", -1: "fell", 0: "unclear"}[clearly(row)]
    return words(f"headline.{name}", who=who(results, words), suite=row.title,
                 before=figure_text(row.baseline), after=figure_text(row.steered),
                 change=change_full(row))


def _rates(_: Mapping[str, Any], rows: Sequence[Row], words: Words) -> str:
    d = main_row(rows, "discrimination")
    if d is None:
        row = main_row(rows, "refusal")
        return "" if row is None else words("headline.refusal", **_moved(row))
    pair = [next((row for row in rows if row.suite == d.suite and row.metric == metric), None)
            for metric in ("refusal", "over_refusal")]
    if None in pair:
        return ""
    named = {f"{side}_{key}": value for side, row in zip(("unsafe", "safe"), pair, strict=True)
             if row for key, value in _moved(row).items()}
    return words("headline.rates", **named)


def _further(_: Mapping[str, Any], rows: Sequence[Row], words: Words) -> str:
    main = main_row(rows, "discrimination")
    rest = [row for row in rows if row.metric == "discrimination" and row is not main]
    signs = [clearly(row) for row in rest]
    return words("headline.further", all=len(rest), up=signs.count(1),
                 down=signs.count(-1)) if rest else ""


def _attack(results: Mapping[str, Any], rows: Sequence[Row], words: Words) -> str:
    row = main_row(rows, "attack_success")
    if row is None:
        return ""
    steered = ((results.get("attacks") or {}).get(row.suite) or {}).get("steered") or {}
    return words("headline.attack", **_moved(row), broken=round_percent(steered.get("broken")))


def _capability(_: Mapping[str, Any], rows: Sequence[Row], words: Words) -> str:
    known = [row for row in rows if row.metric == "capability" and (row.paired or {}).get(
        "delta") is not None]
    if not known:
        row = main_row(rows, "capability")
        return "" if row is None else words("headline.capability", **_moved(row))
    worst = max(known, key=lambda row: abs((row.paired or {})["delta"]))
    return words("headline.worst" if len(known) > 1 else "headline.capability", **_moved(worst))


def _moved(row: Row) -> dict[str, Any]:
    return {"suite": row.title, "before": round_percent(row.baseline),
            "after": round_percent(row.steered), "n": row.n or NONE}


