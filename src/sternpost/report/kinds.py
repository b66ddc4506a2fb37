"""Refusal by kind of prompt: unsafe prompts by category, safe ones by source."""

from collections.abc import Mapping, Sequence
from typing import Any

from sternpost.report.conditions import Condition, find, label, marks, reference
from sternpost.report.counts import UNNAMED, Sample, by_name, lines_of, rate_of, side
from sternpost.report.groups import Bar, Chart, Group
from sternpost.report.numerals import share, value_text

MOST = 14
"""Kinds shown by name; the smallest beyond are pooled in the last row."""
CLASSES = {"baseline": ("c-baseline", "circle"), "clamp": ("c-clamp", "circle"),
           "gated_clamp": ("c-gated_clamp", "star")}


def refusal_by(results: Mapping[str, Any], samples: Sequence[Sample], kind: str, column: str,
               title: str) -> Chart | None:
    """Refusal of one side's prompts by `column`, a bar each for baseline, reference and gate.

    None where the lines do not tell at least two kinds apart.
    """
    shown = compared(results)
    lines = [[s for s in lines_of(samples, c) if side(s) == kind] for c in shown]
    named = [by_name(own, column) for own in lines]
    sizes = {name: max(len(group.get(name, ())) for group in named)
             for group in named for name in group}
    if len(sizes) < 2:
        return None
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))
    kept = largest if len(largest) <= MOST else largest[:MOST - 1]
    rows = [_group(_readable(name), shown, [group.get(name, []) for group in named], results)
            for name in kept]
    rows.sort(key=lambda row: -max(share(bar.rate) or 0 for bar in row.bars))
    if rest := largest[len(kept):]:
        pooled = [[s for name in rest for s in group.get(name, ())] for group in named]
        rows.append(_group(f"{len(rest)} others", shown, pooled, results))
    return Chart(title, tuple(rows), legend=True)


def compared(results: Mapping[str, Any]) -> list[Condition]:
    """Baseline, reference clamp and gated clamp, those that there are."""
    three = find(results, "baseline"), reference(results), find(results, "gated_clamp")
    return [condition for condition in three if condition is not None]


def _group(name: str, shown: Sequence[Condition], lines: Sequence[Sequence[Sample]],
           results: Mapping[str, Any]) -> Group:
    return Group(name, tuple(
        Bar(rate_of(own), _name(condition, results), *CLASSES[condition["name"]])
        for condition, own in zip(shown, lines, strict=True)))


def _name(condition: Condition, results: Mapping[str, Any]) -> str:
    if condition["name"] == "gated_clamp" and condition.get("value") is not None:
        return f"{label(condition)} {value_text(condition['value'])}"
    extra = "".join(f", {text}" for text in marks(results, condition)[:1])
    return label(condition) + extra


def _readable(name: str) -> str:
    return "not named" if name == UNNAMED else name.replace("_", " ")
