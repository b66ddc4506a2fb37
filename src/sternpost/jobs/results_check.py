"""`results check`: every figure of results.json counted again from the lines beside it.

    eval    runs, paired, discrimination, groups, fire, attacks    over samples.jsonl
    run     conditions, gate                                      over samples.jsonl
            candidates                                            over search.jsonl

Counts must agree exactly, means to 1e-9; so must intervals and p, where the libraries that draw
them are of the versions that the file names. Covered: whether the figures are
those of the lines, and each line's `hit` that of its verdict. Not covered: whether a reply is what
a model said, or a verdict is right.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sternpost.errors import InputError
from sternpost.evaluation import CONDITIONS, METRICS, changes, fires, grouped, runs
from sternpost.files import read_json, read_jsonl
from sternpost.report.conditions import key as condition_key
from sternpost.store import Sample, line_rate, rates_of

COUNTED = ("hits", "n", "mean", "points", "delta")
DRAWN = ("low", "high", "p", "p_holm")
LIBRARIES = ("sternpost", "numpy", "scipy")
"""Another version of one may draw other intervals from the same lines."""
NEAR = 1e-9
Counts = dict[str, dict[str, Any] | None]
"""Where a figure stands, as `runs.steered.smoke.refusal`, and what it is; None: no figure."""


@dataclass(frozen=True)
class Disagreement:
    """A figure, or a line, that is not what the lines say."""

    where: str
    stated: str
    counted: str

    def __str__(self) -> str:
        return f"{self.where}: {self.stated} is stated, the lines give {self.counted}"


@dataclass(frozen=True)
class ResultsChecked:
    """What came of counting again."""

    path: str
    kind: str
    lines: int
    """Read and counted."""
    figures: int
    """Counted again."""
    disagreements: list[Disagreement]
    unchecked: list[str]
    """Rates that do not come of the lines, by where they stand."""
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

    Raises InputError where there is no such folder; what does not agree is in the record.
    """
    path = Path(dir)
    for name in ("results.json", "samples.jsonl"):
        if not (path / name).is_file():
            raise InputError(f"{path} has no {name}: it holds no finished evaluation or run. Give "
                             "the --out folder of `sternpost eval` or `sternpost run`.")
    results, lines = read_json(path / "results.json"), read_jsonl(path / "samples.jsonl")
    kind = results.get("kind")
    if kind not in ("eval", "run"):
        raise InputError(f"{path / 'results.json'} is of kind {kind!r}; expected eval or run.")
    if kind == "eval":
        counted = _evaluation(results, lines)
        stated = _stated({name: results.get(name) for name in _PARTS}, "")
    else:
        counted = _run(results, lines, path)
        stated = _stated_run(results)
    other = _other_versions(results)
    figures = COUNTED if other else (*COUNTED, *DRAWN)
    found = [*_compare(stated, counted, figures), *_lines(kind, results, lines)]
    notes = [f"Intervals and p were not held to be exact: {other}."] if other else []
    return ResultsChecked(str(path), kind, len(lines), len(set(stated) & set(counted)), found,
                          _unchecked(results, stated), notes)


def _other_versions(results: Mapping[str, Any]) -> str:
    """Libraries that were of another version when the file was made, as text."""
    known = (results.get("provenance") or {}).get("versions") or {}
    return ", ".join(f"{name} was {known[name]}, is {version(name)}" for name in LIBRARIES
                     if name in known and known[name] != version(name))


# ---- counted again -------------------------------------------------------------------------------

_PARTS = ("runs", "paired", "discrimination", "groups", "fire", "attacks")


def _evaluation(results: Mapping[str, Any], lines: Sequence[Sample]) -> Counts:
    from sternpost.evaluation.attack_success import outcomes

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
        "attacks": attacks}, "")


def _run(results: Mapping[str, Any], lines: Sequence[Sample], path: Path) -> Counts:
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
    searched = read_jsonl(path / "search.jsonl") if (path / "search.jsonl").is_file() else []
    for entry in (results.get("candidates") or ()) if searched else ():
        mine = {line["prompt_sha256"]: line for line in reversed(searched)
                if line["condition"] == "clamp" and line["feature"] == entry["feature"]
                and line["value"] == entry["value"]}
        found = rates_of(list(mine.values()))
        out |= _stated({key: found[key] for key in _CANDIDATE}, _candidate(entry))
    return out


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
        elif _is_figure(value) or (value is None and where.count(".") > 1):
            out[f"{where}{name}"] = None if value is None else dict(value)
    return out


def _is_figure(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return any(name in value and not isinstance(value[name], Mapping)
               for name in ("hits", "mean", "points", "delta"))


def _stated_run(results: Mapping[str, Any]) -> Counts:
    out: Counts = {}
    for condition in results.get("conditions") or ():
        name = condition_key(condition["name"], condition.get("value"))
        rates = {key: value for key, value in condition.items()
                 if _is_figure(value) or (value is None and key != "value")}
        out |= _stated(rates, f"conditions.{name}.")
    for entry in results.get("candidates") or ():
        out |= _stated({key: entry.get(key) for key in _CANDIDATE}, _candidate(entry))
    gate = results.get("gate")
    return out | ({"gate.false_fire": gate["false_fire"]} if gate else {})


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
    count = f"{figure['hits']}/{figure['n']}" if "hits" in figure else ", ".join(
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
    wrong = [line for line in lines if line["kind"] in ("unsafe", "safe")
             and line["verdict"] in ("refusal", "partial", "compliance", "incoherent", "unparsed")
             and bool(line["hit"]) != (line["verdict"] in ("refusal", "partial"))]
    if wrong:
        yield Disagreement("samples.jsonl", f"hit is {wrong[0]['hit']} on {len(wrong)} lines",
                           f"a verdict such as {wrong[0]['verdict']}")


def _unchecked(body: Any, stated: Counts, where: str = "") -> list[str]:
    """Rates that were not counted again."""
    if isinstance(body, Mapping):
        if {"hits", "n"} <= set(body):
            return [] if where in stated else [where]
        skip = where.startswith(("conditions", "candidates"))
        return [] if skip else [found for name, value in body.items() for found in _unchecked(
            value, stated, f"{where}.{name}" if where else str(name))]
    return []
