"""`results check`: every figure of results.json counted again from the lines beside it.

    eval    runs, paired, discrimination, groups, fire, attacks    over samples.jsonl
            suites.*.n, unparsed                                  over samples.jsonl
    run     conditions, gate                                      over samples.jsonl
            candidates                                            over search.jsonl

Counts must agree exactly, means to 1e-9; so must intervals and p, where the libraries that draw
them are of the versions that the file names. Covered: whether the figures are those of the lines,
each line's verdict a known one, and its `hit` that of its verdict. Not covered: figures that no
line holds, such as the judge's accuracy and seconds a token, which are named; card.md and
report.html; whether a reply is what a model said, or a verdict is right.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from sternpost.evaluation import CONDITIONS
from sternpost.jobs.finished import check_figures, read_finished
from sternpost.jobs.results_figures import (
    Counts,
    counted_of_eval,
    counted_of_run,
    stated_by_eval,
    stated_by_run,
)
from sternpost.report.conditions import key as condition_key
from sternpost.store import Sample
from sternpost.types import Verdict

COUNTED = ("hits", "n", "mean", "points", "delta", "count")
DRAWN = ("low", "high", "p", "p_holm")
LIBRARIES = ("sternpost", "numpy", "scipy")
"""Another version of one may draw other intervals from the same lines."""
NEAR = 1e-9


@dataclass(frozen=True)
class Disagreement:
    """A figure, or a line, that is not what the lines say."""

    where: str
    stated: str
    counted: str
    by: str = "the lines give"

    def __str__(self) -> str:
        return f"{self.where}: {self.stated} is stated, {self.by} {self.counted}"


@dataclass(frozen=True)
class ResultsChecked:
    """What came of counting again."""

    path: str
    kind: str
    lines: int
    """Read and counted."""
    figures: int
    """Places of figures that are stated, or that the lines give."""
    disagreements: list[Disagreement]
    unchecked: list[str]
    """Figures that do not come of the lines and were not counted again, by where they stand."""
    notes: list[str]
    """What could not be held to be exact."""

    @property
    def ok(self) -> bool:
        """Whether all agree."""
        return not self.disagreements

    def to_pandas(self) -> Any:
        """A row a disagreement."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([asdict(one) for one in self.disagreements],
                            columns=["where", "stated", "counted"])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**asdict(self), "ok": self.ok}


def results_check(*, dir: str | Path) -> ResultsChecked:
    """Counts every figure of a finished `eval` or `run` folder again.

    card.md and report.html are not looked at. Raises InputError where there is no such folder, or
    its files are spoilt; what does not agree is in the record.
    """
    path = Path(dir)
    results, lines = read_finished(path)
    kind = str(results["kind"])
    of_eval = kind == "eval"
    stated = stated_by_eval(results) if of_eval else stated_by_run(results)
    judge = results.get("judge") or {}
    check_figures(path / "results.json", {
        **stated, "judge.accuracy_interval": judge.get("accuracy_interval"),
        "judge.accuracy": {"count": judge.get("accuracy")}})
    counted = counted_of_eval(results, lines) if of_eval else counted_of_run(results, lines, path)
    left = [where for where in stated if where.startswith("suites.") and where not in counted]
    stated = {where: figure for where, figure in stated.items() if where not in left}
    other = _other_versions(results)
    figures = COUNTED if other else (*COUNTED, *DRAWN)
    found = [*_compare(stated, counted, figures), *_lines(kind, results, lines), *_judge(judge)]
    notes = [f"Intervals and p were not held to be exact: {other}."] if other else []
    return ResultsChecked(str(path), kind, len(lines), len(set(stated) | set(counted)), found,
                          _unchecked(results, stated, left), notes)


def _other_versions(results: Mapping[str, Any]) -> str:
    """Libraries that were of another version when the file was made, as text."""
    known = (results.get("provenance") or {}).get("versions") or {}
    return ", ".join(f"{name} was {known[name]}, is {version(name)}" for name in LIBRARIES
                     if name in known and known[name] != version(name))


# ---- compared ------------------------------------------------------------------------------------

def _compare(stated: Counts, counted: Counts,
             figures: Sequence[str]) -> Iterator[Disagreement]:
    for where in dict.fromkeys([*stated, *counted]):
        said, found = stated.get(where), counted.get(where)
        if where not in counted and said is not None:
            yield Disagreement(where, _text(said), "no figure")
        elif not _same(said, found, figures):
            yield Disagreement(where, _text(said), _text(found))


def _same(said: Mapping[str, Any] | None, found: Mapping[str, Any] | None,
          figures: Sequence[str]) -> bool:
    if said is None or found is None:
        return said is found
    return all(_near(said.get(name), found.get(name)) for name in figures)


def _near(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=NEAR, abs_tol=NEAR)


def _text(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "no figure"
    if "count" in figure:
        return str(figure["count"])
    count = f"{figure['hits']}/{figure.get('n')}" if "hits" in figure else ", ".join(
        f"{name} {figure[name]:.6g}" for name in ("mean", "points", "delta", "p", "p_holm")
        if figure.get(name) is not None)
    ends = [figure.get(name) for name in ("low", "high")]
    return count if None in ends else f"{count} [{ends[0]:.6g}, {ends[1]:.6g}]"


def _lines(kind: str, results: Mapping[str, Any],
           lines: Sequence[Sample]) -> Iterator[Disagreement]:
    """Lines that belong to nothing in results.json, or whose `hit` is not that of their verdict."""
    if kind == "eval":
        known = {(suite, name) for suite in results.get("suites") or () for name in CONDITIONS}
        stray = [line for line in lines if (line.get("suite"), line["condition"]) not in known]
    else:
        names = {condition_key(c["name"], c.get("value")) for c in results["conditions"]}
        stray = [line for line in lines
                 if condition_key(line["condition"], line.get("value")) not in names]
    if stray:
        yield Disagreement("samples.jsonl", "no benchmark or condition",
                           f"{len(stray)} lines of one, such as {stray[0]['condition']!r}")
    odd = [line["verdict"] for line in lines if line["verdict"] not in get_args(Verdict)]
    if odd:
        yield Disagreement("samples.jsonl", f"the verdict {odd[0]!r} on {len(odd)} lines",
                           ", ".join(get_args(Verdict)), "known are")
    wrong = [line for line in lines if line["kind"] in ("unsafe", "safe")
             and line["verdict"] not in odd
             and bool(line["hit"]) != (line["verdict"] in ("refusal", "partial"))]
    if wrong:
        yield Disagreement("samples.jsonl", f"hit is {wrong[0]['hit']} on {len(wrong)} lines",
                           f"a verdict such as {wrong[0]['verdict']}")


def _judge(judge: Mapping[str, Any]) -> Iterator[Disagreement]:
    """A judge's accuracy that is not the one of its counts, which no line tells."""
    counts = judge.get("accuracy_interval") or {}
    share = counts["hits"] / counts["n"] if counts.get("n") and "hits" in counts else None
    if share is not None and not _near(judge.get("accuracy"), share):
        yield Disagreement("judge.accuracy", str(judge.get("accuracy")),
                           f"{counts['hits']}/{counts['n']}", "its accuracy_interval gives")


def _unchecked(results: Mapping[str, Any], stated: Counts, left: Sequence[str]) -> list[str]:
    """Figures that were not counted again: rates, those of `_ELSEWHERE`, and the prompts that are
    `left`: of suites without a line, such as attacks without an attacker."""
    suites = results.get("suites") or {}
    more = [f"suites.*.{name}" for name in ("duplicates", "leaked", "files")
            if any(about.get(name) is not None for about in suites.values())]
    return [*_rates_left(results, stated), *more,
            *(where for where in _ELSEWHERE if _there(results, where)),
            *dict.fromkeys(where.rpartition(".")[0] for where in left)]


_ELSEWHERE = ("judge.accuracy", "judge.kappa", "gate.auroc", "gate.search_auroc", "gate.threshold",
              "gate.budget", "sae", "reference", "best_d", "cost.seconds_per_token", "timing")


def _there(results: Mapping[str, Any], where: str) -> bool:
    group, _, name = where.partition(".")
    found = results.get(group)
    return (found.get(name) if name and isinstance(found, Mapping) else found) is not None


def _rates_left(body: Any, stated: Counts, where: str = "") -> list[str]:
    if isinstance(body, Mapping):
        if {"hits", "n"} <= set(body):
            return [] if where in stated else [where]
        skip = where.startswith(("conditions", "candidates"))
        return [] if skip else [found for name, value in body.items() for found in _rates_left(
            value, stated, f"{where}.{name}" if where else str(name))]
    return []
