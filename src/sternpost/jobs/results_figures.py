"""Figures of a finished folder, by where they stand: as results.json states them, and as its lines
give them.

    stated_by_*     `runs.steered.smoke.refusal` -> {hits, n, low, high}, of results.json
    counted_of_*    the same, of samples.jsonl and search.jsonl

Covered: rates, means, D, changes, how many prompts and how many replies without a verdict. Not
covered: what no line holds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sternpost.assessment.judge_replies import turns_of
from sternpost.evaluation import CONDITIONS, METRICS, changes, fires, grouped, runs
from sternpost.evaluation.attack_success import outcomes
from sternpost.jobs.finished import NUMBER, is_number, read_lines
from sternpost.report.conditions import key as condition_key
from sternpost.store import Sample, line_rate, rates_of

Counts = dict[str, dict[str, Any] | None]
"""Where a figure stands, and what it is; None: no figure."""


# ---- counted again -------------------------------------------------------------------------------

_PARTS = ("runs", "paired", "discrimination", "groups", "fire", "attacks")


def counted_of_eval(results: Mapping[str, Any], lines: Sequence[Sample]) -> Counts:
    """Of an evaluation, what its lines give."""
    suites = {name: [metric for metric in about.get("metrics") or () if metric in METRICS]
              for name, about in (results.get("suites") or {}).items()}
    attacks = {name: {condition: outcomes([
        line for line in lines if line["suite"] == name and line.get("turn") is not None
        and line["condition"] == condition]) for condition in CONDITIONS}
        for name in results.get("attacks") or {}}
    moved, d = changes(suites, lines)
    return _stated({
        "runs": runs(suites, lines), "paired": moved, "discrimination": d,
        "groups": grouped(suites, lines), "fire": fires(list(suites), lines),
        "attacks": attacks}, "") | _counts(results, lines)


def counted_of_run(results: Mapping[str, Any], lines: Sequence[Sample], path: Path) -> Counts:
    """Of a run in the folder `path`, what its lines and those of its search give."""
    out: Counts = {}
    for condition in results.get("conditions") or ():
        name = condition_key(condition["name"], condition.get("value"))
        mine = [line for line in lines
                if condition_key(line["condition"], line.get("value")) == name]
        found = rates_of(mine, pooled=condition["name"] == "random_feature")
        out |= _stated({key: value for key, value in found.items() if key in condition},
                       f"conditions.{name}.")
    if results.get("gate"):
        gated = [line for line in lines if line["condition"] == "gated_clamp"]
        safe = [line for line in gated if line["kind"] == "safe"
                and line["harm_kind"] != "offensive"]
        rate = line_rate(safe, "fired")
        out["gate.false_fire"] = None if rate is None else rate.as_dict()
    place = path / "search.jsonl"
    searched = read_lines(place, {"feature": NUMBER, "value": NUMBER}) if place.is_file() else []
    for entry in (results.get("candidates") or ()) if searched else ():
        mine = {line["prompt_sha256"]: line for line in reversed(searched)
                if line["condition"] == "clamp" and line["feature"] == entry["feature"]
                and line["value"] == entry["value"]}
        found = rates_of(list(mine.values()))
        out |= _stated({key: found[key] for key in _CANDIDATE}, _candidate(entry))
    return out


def _counts(results: Mapping[str, Any], lines: Sequence[Sample]) -> Counts:
    """Prompts of each suite and kind, and replies without a verdict, as the lines tell."""
    kinds: dict[str, dict[str, Counter[str]]] = {}
    for line in lines:
        if not line.get("turn"):  # a conversation's first line stands for it
            by = kinds.setdefault(line["suite"], {name: Counter() for name in CONDITIONS})
            by.setdefault(line["condition"], Counter())[_kind(line)] += 1
    out: Counts = {}
    for suite, about in (results.get("suites") or {}).items():
        for name in _KINDS if suite in kinds else ():
            said = (about.get("n") or {}).get(name)
            both = [kinds[suite][condition][name] for condition in CONDITIONS]
            if said is not None or any(both):
                out[f"suites.{suite}.n.{name}"] = {
                    "count": next((n for n in both if n != said), both[0])}
    unparsed = sum(line["verdict"] == "unparsed" for line in lines)
    if unparsed or "unparsed" in results:
        out["unparsed"] = {"count": unparsed}
    return out


def _kind(line: Sample) -> str:
    """What a suite's `n` counts a line's prompt as; an attack's prompt is no script."""
    if line.get("success") is not None:
        return line["kind"]
    return "scripts" if line.get("turn") is not None or _is_script(line) else line["kind"]


def _is_script(line: Sample) -> bool:
    return sum(turn.role == "user" for turn in turns_of(str(line.get("prompt")))) > 1


_KINDS = ("unsafe", "safe", "capability", "scripts")
_CANDIDATE = ("unsafe_refusal", "over_refusal", "discrimination")


def _candidate(entry: Mapping[str, Any]) -> str:
    return f"candidates.{entry['feature']} at {entry['value']:.6g}."


# ---- what is stated ------------------------------------------------------------------------------

def _stated(body: Any, where: str) -> Counts:
    """Every figure below `body`, by where it stands."""
    out: Counts = {}
    for name, value in (body or {}).items():
        if name == "why":
            continue
        if isinstance(value, Mapping) and not _is_figure(value):
            out |= _stated(value, f"{where}{name}.")
        elif name == "n" and is_number(value):
            out[f"{where}{name}"] = {"count": value}
        elif _is_figure(value) or (value is None and where.count(".") > 1):
            out[f"{where}{name}"] = None if value is None else dict(value)
    return out


def _is_figure(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return any(name in value and not isinstance(value[name], Mapping)
               for name in ("hits", "mean", "points", "delta"))


def stated_by_eval(results: Mapping[str, Any]) -> Counts:
    """What the results.json of an evaluation states."""
    out = _stated({name: results.get(name) for name in _PARTS}, "")
    for suite, about in (results.get("suites") or {}).items():
        counts = about.get("n") or {}
        out |= {f"suites.{suite}.n.{name}": {"count": counts[name]}
                for name in _KINDS if name in counts}
    if "unparsed" in results:
        out["unparsed"] = {"count": results["unparsed"]}
    return out


def stated_by_run(results: Mapping[str, Any]) -> Counts:
    """What the results.json of a run states."""
    out: Counts = {}
    for condition in results.get("conditions") or ():
        name = condition_key(condition["name"], condition.get("value"))
        rates = {key: value for key, value in condition.items()
                 if _is_figure(value) or (value is None and key != "value")}
        out |= _stated(rates, f"conditions.{name}.")
    for entry in results.get("candidates") or ():
        out |= _stated({key: entry.get(key) for key in _CANDIDATE}, _candidate(entry))
    gate = results.get("gate")
    return out | ({"gate.false_fire": gate.get("false_fire")} if gate else {})
