"""Lines counted: every metric of a suite, with its interval, and how it changed, paired by prompt.

    runs              condition -> suite -> metric -> rate or mean
    changes           suite -> metric -> change, and suite -> D of both conditions and its change
    grouped, fires    by category and the like, with changes; how often the gate fired
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sternpost.evaluation import (
    attack_success,
    capability,
    incoherent,
    kl,
    over_refusal,
    refusal,
    score,
)
from sternpost.evaluation.metrics import Line, Metric, Value, single
from sternpost.stats import (
    PairedRows,
    change_of_hits,
    change_of_means,
    discrimination,
    holm,
    mean,
    paired_discrimination,
    rate,
)

METRICS: dict[str, Metric] = {file.METRIC.name: file.METRIC for file in (
    refusal, over_refusal, attack_success, incoherent, capability, kl,
    score)}
"""Every metric, by name."""
CONDITIONS = ("baseline", "steered")
GROUPS = ("category", "harm_kind", "language", "family")
"""Columns by whose values refusal and the like are shown apart."""
FEWEST = 5
"""Rows that both conditions have in a group, at least, where it is told how the group changed."""

Body = dict[str, Any]
Pairs = list[tuple[Value, Value]]
"""Values of the same prompts in two conditions."""


def counted(metric: Metric, lines: Sequence[Line]) -> Body | None:
    """A metric over the lines of one condition; None where it counts none of them."""
    return figure(metric, metric.values(lines))


def figure(metric: Metric, values: Sequence[Value]) -> Body | None:
    """A rate or mean over values; None for none."""
    clusters = [value.cluster for value in values]
    if metric.rate:
        found = rate([bool(value.value) for value in values], clusters)
    else:
        found = mean([value.value for value in values], clusters)
    return None if found is None else found.as_dict()


def changed(metric: Metric, before: Sequence[Line], after: Sequence[Line]) -> Body | None:
    """How a metric moved, over what both conditions have; None where they share nothing."""
    pairs = paired_values(metric, before, after)
    return change_of(metric, pairs) if pairs else None


def paired_values(metric: Metric, before: Sequence[Line], after: Sequence[Line]) -> Pairs:
    """A metric's values of what both conditions have; what is asked twice (a task may hold one
    question twice) is paired in order, and random features each with itself."""
    was = _keyed(metric, before)
    return [(was[key], value) for key, value in _keyed(metric, after).items() if key in was]


def _keyed(metric: Metric, lines: Sequence[Line]) -> dict[tuple[Any, str, int], Value]:
    groups: dict[Any, list[Line]] = {}
    for line in lines:
        own = line.get("feature") if line["condition"] == "random_feature" else None
        groups.setdefault(own, []).append(line)
    out: dict[tuple[Any, str, int], Value] = {}
    times: Counter[tuple[Any, str]] = Counter()
    for own, some in groups.items():
        for value in metric.values(some):
            out[own, value.key, times[own, value.key]] = value
            times[own, value.key] += 1
    return out


def change_of(metric: Metric, pairs: Pairs) -> Body:
    """How a metric moved over pairs of values."""
    a, b = ([pair[side].value for pair in pairs] for side in (0, 1))
    clusters = [value.cluster for _, value in pairs]
    if metric.rate:
        return change_of_hits([x > 0 for x in a], [x > 0 for x in b], clusters).as_dict()
    return change_of_means(a, b, clusters).as_dict()


def change_of_d(refusal: Pairs, over_refusal: Pairs) -> Body:
    """How D moved over pairs of values, in points."""
    moved = paired_discrimination(rows_of(refusal), rows_of(over_refusal))
    return {"delta": moved.points.points, "low": moved.points.low, "high": moved.points.high,
            "p": moved.p, "n": len(refusal) + len(over_refusal)}


def rows_of(pairs: Pairs) -> PairedRows:
    """Pairs of hits, as statistics take them."""
    return PairedRows([a.value > 0 for a, _ in pairs], [b.value > 0 for _, b in pairs],
                      [b.cluster for _, b in pairs])


def runs(suites: Mapping[str, Sequence[str]], lines: Sequence[Line]) -> Body:
    """Rates of every suite and condition. `suites`: the metrics of each."""
    return {condition: {suite: _rates(metrics, of(lines, suite, condition))
                        for suite, metrics in suites.items()} for condition in CONDITIONS}


def _rates(metrics: Sequence[str], lines: Sequence[Line]) -> Body:
    body = {name: counted(METRICS[name], lines) for name in metrics}
    why = {name: f"no line of this suite counts for {name}" for name, found in body.items()
           if found is None}
    return {**body, "why": why} if why else body


def paired(suites: Mapping[str, Sequence[str]], lines: Sequence[Line]) -> Body:
    """Changes of every suite."""
    body = {suite: {name: changed(METRICS[name], of(lines, suite, "baseline"),
                                  of(lines, suite, "steered")) for name in metrics}
            for suite, metrics in suites.items()}
    for some in body.values():
        if why := {name: "the two conditions share no line that counts"
                   for name, entry in some.items() if entry is None}:
            some["why"] = why
    return body


def changes(suites: Mapping[str, Sequence[str]], lines: Sequence[Line]) -> tuple[Body, Body]:
    """`paired` and `discriminations`, each change with `p_holm`: adjusted for all of them."""
    body, d = paired(suites, lines), discriminations(list(suites), lines)
    found = [entry for some in body.values() for name, entry in some.items()
             if name != "why" and entry is not None]
    _adjust([*found, *(one["paired"] for one in d.values())])
    return body, d


def _adjust(found: Sequence[Body]) -> None:
    """Gives each change its `p_holm`, adjusted for all of them."""
    for entry, p in zip(found, holm([entry["p"] for entry in found]), strict=True):
        entry["p_holm"] = p


def discriminations(suites: Sequence[str], lines: Sequence[Line]) -> Body:
    """D of every suite that has unsafe and safe prompts, and how it changed."""
    out: Body = {}
    for suite in suites:
        some = {condition: of(lines, suite, condition) for condition in CONDITIONS}
        rates = {condition: [_rate(METRICS[name].values(mine)) for name in (
            "refusal", "over_refusal")] for condition, mine in some.items()}
        if any(one is None for pair in rates.values() for one in pair):
            continue
        out[suite] = {**{c: discrimination(*pair).as_dict() for c, pair in rates.items()},
                      "paired": change_of_d(*(
                          paired_values(METRICS[name], some["baseline"], some["steered"])
                          for name in ("refusal", "over_refusal")))}
    return out


def _rate(values: Sequence[Value]) -> Any:
    return rate([value.value > 0 for value in values], [value.cluster for value in values])


def grouped(suites: Mapping[str, Sequence[str]], lines: Sequence[Line]) -> Body:
    """Metrics of every group that a column tells apart, where it tells at least two, and how they
    changed; `p_holm` is adjusted for all groups' changes."""
    out: Body = {}
    for suite, metrics in suites.items():
        mine = [line for line in lines if line["suite"] == suite]
        for column in GROUPS:
            names = sorted({str(line[column]) for line in mine if line.get(column) is not None})
            if len(names) > 1:
                out.setdefault(suite, {})[column] = {
                    name: _group(metrics, [line for line in mine if str(line.get(column)) == name])
                    for name in names}
    _adjust([change for columns in out.values() for groups in columns.values()
             for group in groups.values() for name, change in group["paired"].items()
             if name != "why" and change is not None])
    return out


def _group(metrics: Sequence[str], lines: Sequence[Line]) -> Body:
    by = {condition: [line for line in lines if line["condition"] == condition]
          for condition in CONDITIONS}
    rates = {condition: {name: found for name in metrics
                         if (found := counted(METRICS[name], mine)) is not None}
             for condition, mine in by.items()}
    told = [name for name in metrics if any(name in some for some in rates.values())]
    return {"n": len({line["prompt_sha256"] for line in lines}), **rates,
            "paired": _changes(told, by)}


def _changes(metrics: Sequence[str], by: Mapping[str, Sequence[Line]]) -> Body:
    """How each metric of a group changed; null with its reason where too few rows tell."""
    body: Body = {}
    why: dict[str, str] = {}
    for name in metrics:
        pairs = paired_values(METRICS[name], *(by[condition] for condition in CONDITIONS))
        few = len(pairs) < FEWEST
        body[name] = None if few else change_of(METRICS[name], pairs)
        if few:
            why[name] = f"both conditions share {len(pairs)} rows; a change needs {FEWEST}"
    return {**body, "why": why} if why else body


def fires(suites: Sequence[str], lines: Sequence[Line]) -> Body | None:
    """How often the gate fired on single prompts of each kind; None without a gate."""
    out: Body = {}
    for suite in suites:
        mine = of(lines, suite, "steered")
        kinds = {kind: [line for line in single(mine, kind) if line["fired"] is not None]
                 for kind in ("unsafe", "safe", "capability")}
        rates = {kind: rate([line["fired"] for line in some],
                            [line["cluster"] or line["prompt_sha256"] for line in some])
                 for kind, some in kinds.items()}
        if any(rates.values()):
            out[suite] = {kind: one.as_dict() for kind, one in rates.items() if one is not None}
    return out or None


def of(lines: Sequence[Line], suite: str, condition: str) -> list[Line]:
    """The lines of one suite in one condition."""
    return [line for line in lines if line["suite"] == suite and line["condition"] == condition]
