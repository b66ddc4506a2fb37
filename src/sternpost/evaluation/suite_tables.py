"""A suite's TOML checked before it is read: every key known, every value of its type.

Covered: names of keys and types of values, down to the texts in lists and tables. Not covered:
whether a file, a column or a metric exists. Overall: what is wrong is named by file and key.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sternpost.errors import InputError
from sternpost.prompts.rows import LABELS

OURS = (*LABELS, "harmful")
"""Our names of columns, which `columns`, `set` and `values` may give."""
ATTACKS = ("crescendo",)


class _Shape(NamedTuple):
    """What a key's value is."""

    said: str
    fits: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_table(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(fits, value.values()))


def _text(example: str) -> _Shape:
    return _Shape(f'a text, such as "{example}"', _is_text)


def _list(example: str) -> _Shape:
    return _Shape(f'a list of texts, such as ["{example}"]', _is_list)


def _table(example: str, fits: Callable[[Any], bool] = _is_text, of: str = "texts") -> _Shape:
    return _Shape(f"a table of {of}, such as {{ {example} }}", lambda value: _is_table(value, fits))


_SWITCH = _Shape("true or false, without quotes", lambda value: isinstance(value, bool))
_NUMBER = _Shape("a whole number from 1 up, such as 50", lambda value: type(value) is int
                 and value > 0)
_SUITE: Mapping[str, _Shape] = {
    "title": _text("My prompts"), "about": _text("What they ask"), "licence": _text("MIT"),
    "url": _text("https://example.org"), "paper": _text("2308.01263"), "own_copy": _SWITCH,
    "metrics": _list("refusal"), "attack": _text("crescendo"), "limit": _NUMBER,
    "parts": _Shape("a list of tables, each headed [[parts]]", lambda value: isinstance(
        value, list) and all(isinstance(one, dict) for one in value)),
    "suites": _list("xstest"), "tasks": _list("mmlu")}
_PART: Mapping[str, _Shape] = {
    "kind": _text("unsafe"), "file": _text("mine/requests"), "hub": _text("org/name/train"),
    "shipped": _text("mine.jsonl"), "drawn": _text("dinghy"), "prompt": _text("text"),
    "only": _table('label = ["unsafe"]', _is_list, "lists of texts"),
    "without": _list("context"), "columns": _table('category = "topic"'),
    "set": _table('language = "en"'),
    "values": _table('family = { add = "reasoning" }',
                     lambda value: _is_table(value, _is_text), "tables of texts"),
    "optional": _SWITCH}


def check_tables(path: Path, body: Mapping[str, Any]) -> None:
    """Raises InputError for the first key of a suite's file that is unknown or of a wrong type."""
    _check(path, body, _SUITE, "")
    if body.get("attack", ATTACKS[0]) not in ATTACKS:
        raise InputError(f"{path}: there is no attack {body['attack']!r}. There is "
                         f"{', '.join(ATTACKS)}; or leave the key out.")
    for at, part in enumerate(body.get("parts", ()), start=1):
        _check(path, part, _PART, f" of part {at}")
        for key in ("columns", "set", "values"):
            _check_ours(path, f"{key} of part {at}", part.get(key, {}))


def _check(path: Path, body: Mapping[str, Any], known: Mapping[str, _Shape], where: str) -> None:
    for key, value in body.items():
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}{where}. Known: "
                             f"{', '.join(sorted(known))}.")
        if not known[key].fits(value):
            raise InputError(f"{path}: {key}{where} is {known[key].said}; got {repr(value)[:80]}.")


def _check_ours(path: Path, where: str, names: Mapping[str, Any]) -> None:
    for name in names:
        if name not in OURS:
            raise InputError(f"{path}: {where} names {name!r}, which is no column of ours. Known: "
                             f"{', '.join(sorted(OURS))}.")
