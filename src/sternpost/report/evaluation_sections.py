"""The parts of an evaluation's page and card that are tables: capability, attacks, gate, data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sternpost.report.evaluation_rows import (
    Row,
    change_full,
    rows_of,
    title_of,
)
from sternpost.report.evaluation_words import Words
from sternpost.report.numerals import NONE, percent, round_percent, share, with_interval

SIDES = ("baseline", "steered")


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """Capability of one family of tasks, or of a whole benchmark."""

    suite: str
    family: str
    """Empty for the whole benchmark."""
    baseline: Any
    steered: Any
    change: str
    few_shot: str
    fire: str
    """How often the gate fired on it."""


def family_rows(results: Mapping[str, Any]) -> list[FamilyRow]:
    """Capability of every benchmark, each followed by its families."""
    tasks, groups, out = results.get("tasks") or {}, results.get("groups") or {}, []
    for row in (row for row in rows_of(results) if row.metric == "capability"):
        if not (row.baseline or row.steered):
            continue
        task = tasks.get(row.suite) or {}
        shots = task.get("num_fewshot")
        parts = (groups.get(row.suite) or {}).get("family", {})
        out.append(FamilyRow(row.title, "" if parts else str(task.get("family") or ""),
                             row.baseline, row.steered, change_full(row),
                             NONE if shots is None else str(shots),
                             percent(task.get("fire") or _fire(results, row.suite))))
        for name, entry in parts.items():
            before, after, change = ((entry.get(side) or {}).get("capability")
                                     for side in (*SIDES, "paired"))
            if before or after:
                part = Row(row.suite, row.title, row.metric, before, after, change)
                out.append(FamilyRow("", str(name), before, after, change_full(part), "", ""))
    return out


def families(results: Mapping[str, Any]) -> list[FamilyRow]:
    """One row a family: of benchmarks that are of one family, and of parts of mixed ones."""
    rows, out = family_rows(results), []
    for at, row in enumerate(rows):
        mixed = row.suite and at + 1 < len(rows) and not rows[at + 1].suite
        if not mixed:
            suite = next(one.suite for one in reversed(rows[:at + 1]) if one.suite)
            name = f"{row.family} ({suite})" if row.family else suite
            out.append(FamilyRow(suite, name, row.baseline, row.steered, row.change,
                                 row.few_shot, row.fire))
    return out


def _fire(results: Mapping[str, Any], suite: str) -> Any:
    return ((results.get("fire") or {}).get(suite) or {}).get("capability")


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack in both conditions."""

    title: str
    about: tuple[tuple[str, str], ...]
    """Word's key on the page, and what it is here."""
    sides: tuple[tuple[str, Mapping[str, Any]], ...]


def attacks(results: Mapping[str, Any]) -> list[Attack]:
    """Every attack: who attacked and judged, and what came of it."""
    keys = (("attack_kind", "kind"), ("attacker", "attacker"), ("judge_word", "judge"),
            ("turns", "turns"), ("backtracks", "backtracks"), ("threshold", "threshold"))
    return [Attack(title_of(results, suite),
                   tuple((word, _plain(entry.get(key))) for word, key in keys),
                   tuple((side, entry[side]) for side in SIDES if entry.get(side)))
            for suite, entry in (results.get("attacks") or {}).items()]


def _plain(value: Any) -> str:
    return NONE if value is None else str(value)


def fire_rows(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """How often the gate fired, by benchmark and kind; nothing without a gate."""
    return [(title_of(results, suite), rates)
            for suite, rates in (results.get("fire") or {}).items()]


def judge_lines(judge: Mapping[str, Any], words: Words) -> list[str]:
    """The judge, how often it is wrong, and what that was measured on."""
    name, accuracy = judge.get("name") or words("words.unknown"), judge.get("accuracy")
    if share(accuracy) is None:
        return [words("page.judge_unknown", name=name)]
    kappa = "" if judge.get("kappa") is None else words("page.judge_kappa",
                                                        kappa=f"{judge['kappa']:.2f}")
    told = judge.get("accuracy_interval") or accuracy
    lines = [words("page.judge_sentence", name=name, n=judge.get("n") or NONE, kappa=kappa,
                   accuracy=with_interval(told),
                   error=round_percent(1 - (share(accuracy) or 0)))]
    if judge.get("data"):
        lines.append(words("page.judge_data", data=judge["data"]))
    return [*lines, words("page.judge_note")]


@dataclass(frozen=True, slots=True)
class DataRow:
    """Where a benchmark's prompts are from."""

    title: str
    about: str
    licence: str
    prompts: str
    files: tuple[Mapping[str, Any], ...]
    duplicates: str
    leaked: str


def data_rows(results: Mapping[str, Any], words: Words) -> list[DataRow]:
    """Every benchmark's data: licence, files, fingerprints, what was taken out."""
    return [DataRow(title_of(results, suite), str(about.get("about") or ""),
                    str(about.get("licence") or words("words.unknown")),
                    _counts(about.get("n") or {}, words), tuple(about.get("files") or ()),
                    _plain(about.get("duplicates")), _plain(about.get("leaked")))
            for suite, about in (results.get("suites") or {}).items()]


def _counts(n: Mapping[str, int], words: Words) -> str:
    names = {"unsafe": words("words.unsafe"), "safe": words("words.safe"),
             "capability": words.named("metrics", "capability"), "scripts": words("words.scripts")}
    pairs = [(names.get(kind, kind), count) for kind, count in n.items() if count]
    return words("words.list").join(f"{name} {count}" if words.lang == "zh" else f"{count} {name}"
                                    for name, count in pairs)


def not_covered(results: Mapping[str, Any], words: Words) -> list[str]:
    """What this evaluation says nothing of."""
    return [words(f"not_covered.{name}", **({"languages": _languages(results, words)}
                                            if name == "languages" else {}))
            for name in _uncovered(results)]


def _uncovered(results: Mapping[str, Any]) -> Iterator[str]:
    attacked, rows = results.get("attacks") or {}, rows_of(results)
    if not attacked:
        yield "attacks_none"
    elif all("script" in str(entry.get("kind")) for entry in attacked.values()):
        yield "attacks_scripted"
    yield "attacks"
    yield "judge"
    yield "judge_unmeasured"
    yield "capability" if _has(rows, "capability") else "capability_none"
    if _one_sided(rows):
        yield "d"
    yield "languages"
    yield "sampling"
    yield "deployment"
    yield "leak"
    if any(row.papers for row in rows):
        yield "paper"


def _has(rows: list[Row], metric: str) -> bool:
    return any(row.metric == metric and (row.steered or row.baseline) for row in rows)


def _one_sided(rows: list[Row]) -> bool:
    refusing = {row.suite for row in rows if row.metric == "refusal" and row.steered}
    return bool(refusing - {row.suite for row in rows if row.metric == "discrimination"})


def _languages(results: Mapping[str, Any], words: Words) -> str:
    known = {name for axes in (results.get("groups") or {}).values()
             for name in axes.get("language") or ()}
    known |= set(results.get("languages") or ())
    return words("words.list").join(sorted(known)) or words("words.unknown")


def unmeasured(results: Mapping[str, Any], words: Words) -> list[tuple[str, str]]:
    """Every figure of the table that has none, with the reason; equal reasons once."""
    found: dict[str, list[str]] = {}
    for row in rows_of(results):
        if row.why:
            found.setdefault(row.why, []).append(
                f"{row.title}{words('words.comma')}{words.named('metrics', row.metric)}")
    return [("; ".join(names[:4]) + ("" if len(names) <= 4 else " ..."), why)
            for why, names in found.items()]
