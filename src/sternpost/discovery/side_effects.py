"""What else moves when features are edited: a row a group of prompts, before and after.

Groups are the categories of unsafe prompts, the sources and categories of safe ones, the families
of capability, and languages on every side. Covered: any column that the prompt files fill. Not
covered: groups of fewer than `FEWEST` prompts (left out). Overall: many rows, so some intervals
exclude 0 by chance; what is called a change is so after Benjamini and Hochberg. McNemar's p takes
rows for independent; the interval resamples clusters.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from scipy.stats import false_discovery_control

from sternpost.stats import mcnemar, paired_difference
from sternpost.store import Sample, line_rate

FEWEST = 5
GROUPS = (("unsafe", "category"), ("unsafe", "family"), ("safe", "source"), ("safe", "category"),
          ("capability", "family"), ("unsafe", "language"), ("safe", "language"),
          ("capability", "language"))


def side_effects(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    """A row a group: {kind, by, group, before, after: rates, change: points, p, q}; on unsafe and
    safe prompts the share that shows the goal, on capability the share answered right."""
    was = {(s["kind"], s["prompt_sha256"]): s for s in before}
    groups: dict[tuple[str, str, str], list[tuple[Sample, Sample]]] = defaultdict(list)
    for line in after:
        old = was.get((line["kind"], line["prompt_sha256"]))
        for kind, by in GROUPS:
            if old is not None and line["kind"] == kind and line[by] and (
                    kind == "capability" or line["harm_kind"] != "offensive"):
                groups[kind, by, str(line[by])].append((old, line))
    rows = [_row(key, pairs) for key, pairs in sorted(groups.items(), key=_order)
            if len(pairs) >= FEWEST and _several(key, groups)]
    if rows:
        for row, q in zip(rows, false_discovery_control([row["p"] for row in rows]), strict=True):
            row["q"] = float(q)
    return rows


def _order(item: tuple[tuple[str, str, str], Any]) -> tuple[int, str]:
    kind, by, group = item[0]
    return GROUPS.index((kind, by)), group


def _several(key: tuple[str, str, str], groups: Any) -> bool:
    """A side with one group only is that side."""
    return len([other for other in groups if other[:2] == key[:2]]) > 1


def _row(key: tuple[str, str, str], pairs: Sequence[tuple[Sample, Sample]]) -> dict[str, Any]:
    old, new = zip(*pairs, strict=True)
    hits = [[line["hit"] for line in lines] for lines in (old, new)]
    rates = [line_rate(lines, "hit") for lines in (old, new)]
    clusters = [line["cluster"] or line["prompt_sha256"] for line in new]
    assert rates[0] is not None
    assert rates[1] is not None
    return {"kind": key[0], "by": key[1], "group": key[2], "before": rates[0].as_dict(),
            "after": rates[1].as_dict(), "p": mcnemar(hits[0], hits[1]),
            "change": paired_difference(hits[0], hits[1], clusters).as_dict()}
