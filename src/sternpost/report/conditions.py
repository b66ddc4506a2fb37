"""The conditions of a run: found, named, marked and put in reading order."""

import math
from collections.abc import Mapping
from typing import Any

from sternpost.report.numerals import value_text

Condition = Mapping[str, Any]

NAMES = {"baseline": "baseline", "splice_in": "splice-in", "clamp": "clamp",
         "random_feature": "random feature", "diffmean": "diffmean",
         "gated_clamp": "gated clamp"}
"""results.json's name -> what people read, in reading order."""


def label(condition: Condition) -> str:
    """`baseline`, `clamp 8.0`, `random feature`."""
    name = NAMES.get(condition["name"], str(condition["name"]).replace("_", " "))
    swept = condition["name"] == "clamp" and condition.get("value") is not None
    return f"{name} {value_text(condition['value'])}" if swept else name


def key(name: str, value: float | None) -> str:
    """What tells one condition from another: its name, for a clamp with its value."""
    return f"{name} {value:.6g}" if name == "clamp" and value is not None else name


def ordered(results: Mapping[str, Any]) -> list[Condition]:
    """All conditions in reading order, clamps by value."""
    order = list(NAMES)

    def place(condition: Condition) -> tuple[int, float]:
        known = condition["name"] in order
        return order.index(condition["name"]) if known else len(order), condition.get("value") or 0

    return sorted(results.get("conditions") or [], key=place)


def find(results: Mapping[str, Any], name: str, value: float | None = None) -> Condition | None:
    """The condition of this name (and value, if given), or None."""
    for condition in results.get("conditions") or []:
        if condition["name"] == name and (value is None or same(condition.get("value"), value)):
            return condition
    return None


def reference(results: Mapping[str, Any]) -> Condition | None:
    """The clamp at the reference value, or None."""
    value = chosen_value(results, "reference")
    return None if value is None else find(results, "clamp", value)


def best_d(results: Mapping[str, Any]) -> Condition | None:
    """The clamp with the best D on the search split, or None."""
    value = chosen_value(results, "best_d")
    return None if value is None else find(results, "clamp", value)


def chosen_value(results: Mapping[str, Any], which: str) -> float | None:
    """The value under `reference` or `best_d`, or None."""
    return (results.get(which) or {}).get("value")


def marks(results: Mapping[str, Any], condition: Condition) -> list[str]:
    """`reference` and `best D`, where this condition is that clamp."""
    if condition["name"] != "clamp":
        return []
    named = (("reference", "reference"), ("best_d", "best D"))
    return [text for which, text in named
            if same(condition.get("value"), chosen_value(results, which))]


def same(one: float | None, other: float | None) -> bool:
    """Whether two values are one, up to what a float loses on its way through JSON."""
    return one is not None and other is not None and math.isclose(one, other, abs_tol=1e-12)
