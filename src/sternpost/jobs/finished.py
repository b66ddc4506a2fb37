"""A finished folder of `eval` or `run`, read and seen to be whole: results.json and its lines.

Covered: a file that was cut, edited by hand or is of another program: told in one message, by file,
line and column. Not covered: whether figures and lines agree (`results check`).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sternpost.errors import InputError
from sternpost.files import read_json, read_jsonl
from sternpost.store import Sample

TEXT, TEXT_OR_NOT, SIGN, NUMBER = "a text", "a text or null", "true, false or null", \
    "a number or null"
NEEDED = {"condition": TEXT, "kind": TEXT, "prompt_sha256": TEXT, "verdict": TEXT, "hit": SIGN,
          "fired": SIGN, "harm_kind": TEXT_OR_NOT, "cluster": TEXT_OR_NOT}
"""Columns that every line has, and what they hold."""
KNOWN = {"suite": TEXT_OR_NOT, "turn": NUMBER, "harmful_turn": SIGN, "success": SIGN,
         "feature": NUMBER, "value": NUMBER, "kl": NUMBER, "score": NUMBER}
"""Columns that some lines have."""
FIGURES = ("hits", "n", "mean", "points", "delta", "low", "high", "p", "p_holm", "count")
"""What a figure is made of: numbers, or null."""
GROUPS = ("steering", "steering.pack", "suites", "suites.*", "suites.*.n", "runs", "paired",
          "discrimination", "groups", "attacks", "attacks.*", "tasks", "fire", "judge",
          "judge.accuracy_interval", "cost", "gate", "gate.false_fire", "provenance",
          "provenance.versions", "provenance.settings", "provenance.hashes")
"""Where results.json has an object, or nothing."""
LISTS = {"suites.*.metrics": str, "suites.*.files": Mapping, "conditions": Mapping,
         "candidates": Mapping}
"""Where it has a list, and of what."""


def read_finished(path: Path) -> tuple[dict[str, Any], list[Sample]]:
    """results.json and the lines of samples.jsonl. Raises InputError for what is neither."""
    results = read_results(path)
    _check_results(path / "results.json", results)
    of_eval = results.get("kind") == "eval"
    lines = read_lines(path / "samples.jsonl", {"suite": TEXT} if of_eval else {})
    if not lines:
        raise InputError(f"{path / 'samples.jsonl'} has no line, so there is nothing to count. "
                         "Copy the whole --out folder again, or measure again.")
    return results, lines


def read_results(path: Path) -> dict[str, Any]:
    """results.json of a finished evaluation or run. Raises InputError where it is none."""
    missing = [name for name in ("results.json", "samples.jsonl") if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path} has no {' and no '.join(missing)}: it holds no finished "
                         "evaluation or run. Give the --out folder of `sternpost eval` or "
                         "`sternpost run`; where one was stopped, type its command again with "
                         "--resume.")
    results = read_json(path / "results.json")
    if results.get("kind") not in ("eval", "run"):
        raise InputError(f"{path / 'results.json'} is of kind {results.get('kind')!r}; expected "
                         "eval or run. Give the --out folder of `sternpost eval` or `sternpost "
                         "run`.")
    return results


def read_lines(path: Path, needed: Mapping[str, str]) -> list[Sample]:
    """The lines of samples.jsonl or search.jsonl, each with its columns and `needed`."""
    lines: Sequence[Any] = read_jsonl(path)
    for at, line in enumerate(lines, 1):
        if not isinstance(line, dict):
            raise InputError(f"{path} has a line that is no JSON object, the one numbered {at}: "
                             f"{str(line)[:60]}. Each line is one reply, such as "
                             '{"condition": ..., "verdict": ...}: take it out, or measure again.')
        _check_line(path, line, {**NEEDED, **needed})
    return list(lines)


def _check_line(path: Path, line: Sample, needed: Mapping[str, str]) -> None:
    if line.get("turn") is not None:
        needed = {**needed, "harmful_turn": SIGN}
    for name in needed:
        if name not in line:
            raise InputError(f"{path} has lines without {name!r}: not of this sternpost. Give the "
                             "--out folder of `sternpost eval` or `sternpost run`.")
    for name, kind in {**KNOWN, **needed}.items():
        if name in line and not _holds(line[name], kind):
            raise InputError(f"{path} has a line whose {name!r} is {repr(line[name])[:60]}; "
                             f"expected {kind}. It was edited; measure again.")


def _holds(value: Any, kind: str) -> bool:
    if value is None:
        return kind != TEXT
    if kind == NUMBER:
        return is_number(value)
    return isinstance(value, bool if kind == SIGN else str)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that can be counted with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_figures(path: Path, figures: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Raises InputError where a figure of results.json is made of anything but numbers."""
    for where, figure in figures.items():
        for name in FIGURES:
            value = (figure or {}).get(name)
            if value is not None and not is_number(value):
                at = where if name == "count" else f"{where}.{name}"
                raise _wrong(path, at, value, "a number")


def _check_results(path: Path, results: Mapping[str, Any]) -> None:
    """Raises InputError where an object or a list is something else."""
    for where in GROUPS:
        for name, value in _at(results, where):
            if value is not None and not isinstance(value, Mapping):
                raise _wrong(path, name, value, "an object")
    for where, of in LISTS.items():
        for name, value in _at(results, where):
            if value is not None and not (isinstance(value, list)
                                          and all(isinstance(one, of) for one in value)):
                raise _wrong(path, name, value, f"a list of {'texts' if of is str else 'objects'}")
    for at, condition in enumerate(results.get("conditions") or ()):
        if not isinstance(condition.get("name"), str):
            raise _wrong(path, f"conditions.{at}.name", condition.get("name"), "a text")
        if not _holds(condition.get("value"), NUMBER):
            raise _wrong(path, f"conditions.{at}.value", condition["value"], NUMBER)
    for at, entry in enumerate(results.get("candidates") or ()):
        for name in ("feature", "value"):
            if not is_number(entry.get(name)):
                raise _wrong(path, f"candidates.{at}.{name}", entry.get(name), "a number")


def _at(results: Mapping[str, Any], where: str) -> list[tuple[str, Any]]:
    """What stands at a place, by its name; * stands for every name. What is above was checked."""
    found: list[tuple[str, Any]] = [("", results)]
    for part in where.split("."):
        found = [(f"{above}.{name}".lstrip("."), value[name]) for above, value in found
                 for name in (value or () if part == "*" else (part,)) if name in (value or ())]
    return found


def _wrong(path: Path, where: str, value: Any, expected: str) -> InputError:
    return InputError(f"{path}: {where} is {repr(value)[:60]}; expected {expected}. It was edited "
                      "or is of another program; measure again.")
