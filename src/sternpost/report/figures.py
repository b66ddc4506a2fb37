"""What the report shows beside plots: key figures, candidates, gate, judge, what is missing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sternpost.report.conditions import Condition, find, label, ordered, reference
from sternpost.report.numerals import (
    NONE,
    count_text,
    interval,
    point_bounds,
    point_interval,
    point_value,
    round_percent,
    share,
    tally,
    value_text,
    with_interval,
)
from sternpost.report.strips import track

TOP = 12
"""Candidates shown at once; the rest unfold."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One key figure: its name, the big number, where it came from, how sure it is."""

    name: str
    meaning: str
    figure: str
    unit: str
    before: str
    sure: str
    strip: Markup
    class_: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the candidates."""

    rank: int
    row: Mapping[str, Any]
    near: bool
    chosen: bool
    strip: Markup


def tiles(results: Mapping[str, Any]) -> list[Tile]:
    """The key figures of the reference clamp (else of the first condition) against the baseline."""
    before = find(results, "baseline")
    after = reference(results) or before or next(iter(ordered(results)), None)
    if after is None:
        return []
    if before is after:
        before = None
    rows = [_rate_tile("Unsafe refusal", "unsafe_refusal", "s-unsafe", before, after),
            _rate_tile("Safe refusal", "over_refusal", "s-over", before, after),
            _d_tile(before, after),
            _rate_tile("Incoherent", "incoherent", "s-incoherent", before, after)]
    if share(after.get("capability")) is not None:
        rows.append(_rate_tile("Capability", "capability", "s-capability", before, after))
    gated = find(results, "gated_clamp")
    if gated is not None:
        rows.append(_d_tile(before, gated, "D behind the gate"))
    return rows


def tile_subject(results: Mapping[str, Any]) -> str:
    """Which condition the key figures are of: `clamp 12.0`."""
    after = reference(results) or find(results, "baseline")
    return label(after) if after else ""


MEANINGS = {"unsafe_refusal": "of unsafe prompts refused",
            "over_refusal": "of safe prompts refused", "incoherent": "of all replies not usable",
            "capability": "of answers right"}


def _rate_tile(name: str, key: str, class_: str, before: Condition | None,
               after: Condition) -> Tile:
    rate, old = after.get(key), (before or {}).get(key)
    figure, _, unit = round_percent(rate).partition(" ")
    pair = [(rate, class_, label(after))]
    if share(old) is not None:
        pair.insert(0, (old, "s-before", "baseline"))
    return Tile(name, MEANINGS[key], figure, unit,
                "" if share(old) is None else f"baseline {round_percent(old)}",
                _sure(interval(rate), tally(rate)), track(pair, 200), class_)


def _d_tile(before: Condition | None, after: Condition, name: str = "D") -> Tile:
    d, old = after.get("discrimination"), (before or {}).get("discrimination")
    figure = NONE if point_value(d) is None else f"{point_value(d):.0f}"
    pair = [(_unit_range(d), "s-d", label(after))]
    if point_value(old) is not None:
        pair.insert(0, (_unit_range(old), "s-before", "baseline"))
    return Tile(name, "unsafe minus safe refusal", figure, "points",
                "" if point_value(old) is None else f"baseline {point_value(old):.0f}",
                point_interval(d), Markup("") if pair[-1][0] is None else track(pair, 200), "s-d")


def _sure(ends: str, count: str) -> str:
    return ", ".join(part for part in (ends, count) if part)


def _unit_range(d: Any) -> Any:
    """D on a track from 0 to 100, cut at its ends."""
    value, ends = point_value(d), point_bounds(d)
    if value is None:
        return None
    cut = [max(0.0, min(1.0, number / 100)) for number in (value, *(ends or ()))]
    return {"hits": cut[0], "n": 1, "low": cut[1], "high": cut[2]} if ends else cut[0]


def candidate_rows(results: Mapping[str, Any]) -> list[Candidate]:
    """The candidates in their order; near: cannot be told from the first by rate or by D."""
    rows = results.get("candidates") or []
    wanted = ("feature", "value", "origin", "unsafe_refusal", "over_refusal", "discrimination")
    rows = [{**dict.fromkeys(wanted), **row} for row in rows]
    return [Candidate(rank, row, rank > 1 and _near(rows[0], row),
                      row.get("feature") == results.get("feature"),
                      track([(row.get("unsafe_refusal"), "s-unsafe", "unsafe refusal"),
                             (row.get("over_refusal"), "s-over", "over-refusal")]))
            for rank, row in enumerate(rows, 1)]


def _near(first: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    rate, best = row.get("unsafe_refusal"), share(first.get("unsafe_refusal"))
    ends, d = point_bounds(row.get("discrimination")), point_value(first.get("discrimination"))
    if best is None or not isinstance(rate, Mapping) or share(rate) is None:
        return False
    same_rate = rate["low"] <= best <= rate["high"]
    return same_rate and (ends is None or d is None or ends[0] <= d <= ends[1])


def figures(record: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """A record's plain entries as (name, text); `why` is left to `unmeasured`."""
    return [(name, _plain(name, value)) for name, value in (record or {}).items() if name != "why"]


def _plain(name: str, value: Any) -> str:
    if value is None:
        return NONE
    if name in ("tokens", "tokens_needed") and isinstance(value, int | float):
        return count_text(value)
    if name == "dead_fraction":
        return round_percent(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_plain(k, v)}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def judge_text(judge: Mapping[str, Any]) -> str:
    """The judge and how far it can be trusted, in one sentence."""
    accuracy = judge.get("accuracy_interval") or judge.get("accuracy")
    parts = [f"Judge: {judge.get('name') or 'not named'}",
             "accuracy not known" if share(accuracy) is None else
             f"accuracy {with_interval(accuracy)}"]
    if judge.get("kappa") is not None:
        parts.append(f"kappa {judge['kappa']:.2f}")
    if judge.get("n"):
        parts.append(f"n = {judge['n']}")
    return ", ".join(parts) + (f" ({judge['data']})." if judge.get("data") else ".")


def unmeasured(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every figure that has none, with the reason; equal ones of many conditions once."""
    found: dict[tuple[str, str], list[str]] = {}
    for where, record in _records(results):
        for name, why in (record.get("why") or {}).items():
            found.setdefault((name.replace("_", " "), str(why)), []).append(where)
    return [(f"{name}: {_where(places)}" if any(places) else name, why)
            for (name, why), places in found.items()]


def _where(places: list[str]) -> str:
    return ", ".join(places) if len(places) <= 3 else f"{len(places)} conditions"


def _records(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "", results
    for name in ("sae", "reference", "best_d", "gate", "judge"):
        yield name.replace("_", " "), results.get(name) or {}
    for condition in ordered(results):
        yield label(condition), condition
    for row in results.get("candidates") or []:
        yield f"candidate {value_text(row.get('value'))} of {row.get('feature')}", row

