"""`compare`: two evaluations, or two runs, on the prompts that both have.

    rows      benchmark x condition x metric: both figures over the shared prompts, b minus a with a
              95 % interval, p (exact McNemar for rates, else by resampling), adjusted for all rows
    differs   model, steering, judge, settings: what is not the same in both

Prompts are paired by (benchmark, kind, prompt_sha256, turn). Covered: differences on shared
prompts. Not covered: prompts of one alone, which are counted and left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sternpost.errors import InputError
from sternpost.evaluation import METRICS
from sternpost.evaluation.count import Pairs, change_of, change_of_d, figure, paired_values
from sternpost.evaluation.metrics import Metric
from sternpost.files import read_json, read_jsonl
from sternpost.report.conditions import key as condition_key
from sternpost.report.evaluation_compare import comparison_html
from sternpost.stats import discrimination, holm, rate
from sternpost.store import Sample

RUN = "test"
"""The benchmark of a run's lines: its own test split."""


@dataclass(frozen=True)
class Comparison:
    """Two evaluations or runs beside each other."""

    a: str
    b: str
    rows: list[dict[str, Any]] = field(repr=False)
    """Each: suite, condition, metric, a, b, paired (delta, low, high, p, p_holm, n)."""
    differs: list[dict[str, Any]]
    """Each: what, a, b."""
    prompts: dict[str, int]
    """Lines of shared conditions that are in `both`, `only_a` and `only_b`."""
    warnings: list[str]
    lang: str = "en"

    def to_pandas(self) -> Any:
        """A row a benchmark, condition and metric."""
        import pandas as pd  # heavy: only for who asks

        return pd.json_normalize(self.rows)

    def _repr_html_(self) -> str:
        return comparison_html(self.as_dict(), self.lang)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        body = asdict(self)
        del body["lang"]
        return body


@dataclass(frozen=True)
class _Side:
    path: str
    results: dict[str, Any]
    lines: dict[tuple[str, str], list[Sample]]
    """By (benchmark, condition)."""


def compare(*, a: str | Path, b: str | Path, lang: str = "en") -> Comparison:
    """What `b` measured beside what `a` measured, on the prompts that both have.

    `a` and `b` are folders of `eval` or of `run`. Raises InputError where they share no prompt.
    """
    first, second = _read(a), _read(b)
    if _kind(first) != _kind(second):
        raise InputError(f"{first.path} is of `{_kind(first)}` and {second.path} of "
                         f"`{_kind(second)}`. Give two folders of one kind.")
    shared = [at for at in first.lines if at in second.lines]
    rows = [row for at in shared for row in _rows(at, first.lines[at], second.lines[at])]
    prompts = _prompts(first, second, shared)
    if not rows:
        raise InputError(f"{first.path} and {second.path} share no prompt: none of "
                         f"{prompts['only_a']} lines of the first is among {prompts['only_b']} of "
                         "the second. Give two folders that were measured on the same benchmarks.")
    for row, p in zip(rows, holm([row["paired"]["p"] for row in rows]), strict=True):
        row["paired"]["p_holm"] = p
    differs = _differs(first, second)
    return Comparison(first.path, second.path, rows, differs, prompts,
                      _warnings(first, second, prompts), lang)


def _kind(side: _Side) -> str:
    return str(side.results.get("kind"))


def _read(folder: str | Path) -> _Side:
    path = Path(folder)
    for name in ("results.json", "samples.jsonl"):
        if not (path / name).is_file():
            raise InputError(f"{path} has no {name}: it holds no finished evaluation or run. Give "
                             "the --out folder of `sternpost eval` or `sternpost run`.")
    lines: dict[tuple[str, str], list[Sample]] = {}
    for line in read_jsonl(path / "samples.jsonl"):
        at = str(line.get("suite") or RUN), condition_key(line["condition"], line.get("value"))
        lines.setdefault(at, []).append(line)
    return _Side(str(path), read_json(path / "results.json"), lines)


# ---- rows ----------------------------------------------------------------------------------------

def _rows(at: tuple[str, str], a: Sequence[Sample],
          b: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """Every metric that both count on some shared prompt, and D."""
    pairs = {name: paired_values(metric, a, b) for name, metric in METRICS.items()}
    named = {"suite": at[0], "condition": at[1]}
    for name, some in pairs.items():
        if some:
            yield {**named, "metric": name, **_row(METRICS[name], some)}
        if name == "over_refusal" and some and pairs["refusal"]:
            yield {**named, "metric": "discrimination", **_d(pairs["refusal"], some)}


def _row(metric: Metric, pairs: Pairs) -> dict[str, Any]:
    figures = {name: figure(metric, [pair[side] for pair in pairs])
               for side, name in enumerate(("a", "b"))}
    return {**figures, "paired": change_of(metric, pairs)}


def _d(refusal: Pairs, over_refusal: Pairs) -> dict[str, Any]:
    """D of both, in points, and how it moved."""
    figures = {}
    for side, name in enumerate(("a", "b")):
        rates = [rate([pair[side].value > 0 for pair in pairs], [pair[1].cluster for pair in pairs])
                 for pairs in (refusal, over_refusal)]
        assert rates[0] is not None
        assert rates[1] is not None
        figures[name] = discrimination(rates[0], rates[1]).as_dict()
    return {**figures, "paired": change_of_d(refusal, over_refusal)}


def _prompts(first: _Side, second: _Side, shared: Sequence[Any]) -> dict[str, int]:
    both = only_a = only_b = 0
    for at in shared:
        a, b = ({_place(line) for line in side.lines[at]} for side in (first, second))
        both, only_a, only_b = both + len(a & b), only_a + len(a - b), only_b + len(b - a)
    for side, other in ((first, second), (second, first)):
        alone = sum(len(lines) for at, lines in side.lines.items() if at not in other.lines)
        only_a, only_b = only_a + alone * (side is first), only_b + alone * (side is second)
    return {"both": both, "only_a": only_a, "only_b": only_b}


def _place(line: Sample) -> tuple[Any, ...]:
    own = line.get("feature") if line["condition"] == "random_feature" else None
    return line["kind"], line["prompt_sha256"], line.get("turn"), own


# ---- what is not the same ------------------------------------------------------------------------

def _differs(first: _Side, second: _Side) -> list[dict[str, Any]]:
    a, b = _about(first.results), _about(second.results)
    return [{"what": what, "a": a.get(what), "b": b.get(what)}
            for what in dict.fromkeys([*a, *b]) if a.get(what) != b.get(what)]


def _about(results: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder measured, and with what: name to plain value."""
    steering, provenance = results.get("steering") or {}, results.get("provenance") or {}
    pack, judge = steering.get("pack") or {}, results.get("judge") or {}
    about = {"model": results.get("model"), "pack": pack.get("source"),
             "pack_sha256": pack.get("sha256"), "level": pack.get("level"),
             "sae": steering.get("sae"), "clamp": steering.get("clamp"),
             "feature": results.get("feature"), "gate": (results.get("gate") or {}).get("kind"),
             "layer": results.get("layer", steering.get("layer")),
             **{name: steering.get(name) for name in ("positions", "mode", "error")},
             "judge": judge.get("name"), "language": results.get("lang"),
             "seed": provenance.get("seed"), **(provenance.get("settings") or {})}
    versions = {f"version of {name}": value
                for name, value in (provenance.get("versions") or {}).items()}
    files = {f"files of {suite}": [file.get("sha256") for file in entry.get("files") or ()]
             for suite, entry in (results.get("suites") or {}).items()}
    return {**about, **versions, **files}


def _warnings(first: _Side, second: _Side, prompts: Mapping[str, int]) -> list[str]:
    out = []
    judges = [(side.results.get("judge") or {}).get("name") for side in (first, second)]
    if judges[0] != judges[1]:
        out.append(f"The first was judged by {judges[0]}, the second by {judges[1]}: a difference "
                   "may be the judge's and not the model's. Judge both by one.")
    if prompts["only_a"] or prompts["only_b"]:
        out.append(f"{prompts['only_a']} lines of the first and {prompts['only_b']} of the second "
                   "have no counterpart, and are left out.")
    return out
