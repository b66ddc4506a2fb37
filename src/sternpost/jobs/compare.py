"""`compare`: two evaluations, or two runs, on the prompts that both have.

    rows      benchmark x condition x metric: both figures over the shared prompts, b minus a with a
              95 % interval, p (exact McNemar for rates, else by resampling), adjusted for all rows
    differs   model, steering, judge, settings, prompts, replies: what is not the same in both

Prompts are paired by (benchmark, kind, prompt_sha256, turn). Settings are those of results.json
and, where both have it, of run.json; else the two command lines. Covered: differences on shared
prompts. Not covered: prompts of one alone, which are counted and left out.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sternpost.errors import InputError
from sternpost.evaluation import METRICS
from sternpost.evaluation.count import Pairs, change_of, change_of_d, figure, paired_values
from sternpost.evaluation.metrics import Metric
from sternpost.files import canonical_json, read_json, sha256_text
from sternpost.jobs.finished import read_finished
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
    """Each: what, a, b. Empty where nothing differs, the replies neither."""
    prompts: dict[str, int]
    """Lines that are in `both`, `only_a` and `only_b`; those of one alone are left out."""
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
    identity: dict[str, Any]
    """The settings in run.json; empty without one."""
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
    return Comparison(first.path, second.path, rows, differs, prompts, _warnings(first, second),
                      lang)


def _kind(side: _Side) -> str:
    return str(side.results.get("kind"))


def _read(folder: str | Path) -> _Side:
    path = Path(folder)
    results, read = read_finished(path)
    lines: dict[tuple[str, str], list[Sample]] = {}
    for line in read:
        at = str(line.get("suite") or RUN), condition_key(line["condition"], line.get("value"))
        lines.setdefault(at, []).append(line)
    for some in lines.values():
        _once_each(path, some)
    run = read_json(path / "run.json") if (path / "run.json").is_file() else {}
    identity = run.get("identity")
    return _Side(str(path), results, identity if isinstance(identity, dict) else {}, lines)


def _once_each(path: Path, lines: Sequence[Sample]) -> None:
    """Raises InputError where a condition answers a prompt twice; a task may ask one twice."""
    places = Counter(_place(line) for line in lines if line.get("judge") != "lm-eval")
    twice = [line for line in lines if places[_place(line)] > 1]
    if twice:
        raise InputError(f"{path / 'samples.jsonl'} has {len(twice)} lines for "
                         f"{len({_place(line) for line in twice})} prompts of one condition, where "
                         f"each prompt has one; the first: {twice[0]['condition']}, "
                         f"{str(twice[0].get('prompt'))[:60]!r}. Lines were added, or files "
                         "joined. Take the second of each out, or measure again.")


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
        a, b = (Counter(map(_place, side.lines[at])) for side in (first, second))
        both, only_a, only_b = both + (a & b).total(), only_a + (a - b).total(), \
            only_b + (b - a).total()
    for side, other in ((first, second), (second, first)):
        alone = sum(len(lines) for at, lines in side.lines.items() if at not in other.lines)
        only_a, only_b = only_a + alone * (side is first), only_b + alone * (side is second)
    return {"both": both, "only_a": only_a, "only_b": only_b}


def _place(line: Sample) -> tuple[Any, ...]:
    own = line.get("feature") if line["condition"] == "random_feature" else None
    return line["kind"], line["prompt_sha256"], line.get("turn"), own


# ---- what is not the same ------------------------------------------------------------------------

def _differs(first: _Side, second: _Side) -> list[dict[str, Any]]:
    out = _apart(_about(first.results), _about(second.results))
    if first.identity and second.identity:
        known = {entry["what"] for entry in out}
        told = [_settings(side.identity) for side in (first, second)]
        out += [entry for entry in _apart(*told) if entry["what"] not in known]
    else:
        out += _apart(*({"command": _command(side.results)} for side in (first, second)))
    return [*out, *_apart(*map(_asked, (first, second))), *_other_replies(first, second)]


def _apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
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
    suites = results.get("suites") or {}
    versions = {f"version of {name}": value
                for name, value in (provenance.get("versions") or {}).items()}
    files = {f"files of {suite}": [file.get("sha256") for file in entry.get("files") or ()]
             for suite, entry in suites.items()}
    hashes = {f"hash of {name}": _mark(value) for name, value in (
        provenance.get("hashes") or {}).items() if name not in suites}
    return {**about, **versions, **files, **hashes}


def _settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of run.json by the names of `_about`; what its hashes are of is told there."""
    names = {"lang": "language"}
    suites = identity.get("suites") or {}
    return {**{names.get(name, name): value for name, value in identity.items()
               if name not in ("hashes", "files", "suites")},
            **{f"definition of {name}": _mark(value) for name, value in suites.items()}}


def _command(results: Mapping[str, Any]) -> str | None:
    """The command line without the folder that it wrote."""
    text = (results.get("provenance") or {}).get("command")
    try:
        words = shlex.split(str(text))
    except ValueError:
        return text
    at = words.index("--out") if "--out" in words else len(words)
    return shlex.join(words[:at] + words[at + 2:])


def _asked(side: _Side) -> dict[str, Any]:
    """Which prompts were asked, as a fingerprint."""
    places = sorted(canonical_json([*at, *_place(line)]) for at, lines in side.lines.items()
                    for line in lines)
    return {"prompts": _mark(places)}


def _mark(value: Any) -> str:
    """The beginning of a sha256: of `value`, or `value` where it is one."""
    return (value if isinstance(value, str) else sha256_text(canonical_json(value)))[:16]


def _other_replies(first: _Side, second: _Side) -> list[dict[str, Any]]:
    """How many shared lines have another reply; or, of the same replies, anything else."""
    pairs = [(mine, theirs) for at in first.lines if at in second.lines
             for mine, theirs in _shared(first.lines[at], second.lines[at])]
    moved = sum(a.get("reply") != b.get("reply") for a, b in pairs)
    other = sum(a != b for a, b in pairs)
    if not other:
        return []
    what = "replies" if moved else "verdicts and measures"
    return [{"what": what, "a": f"{len(pairs)} lines that both have",
             "b": f"{moved or other} of them are other ones"}]


def _shared(a: Sequence[Sample], b: Sequence[Sample]) -> Iterator[tuple[Sample, Sample]]:
    theirs: dict[tuple[Any, ...], list[Sample]] = {}
    for line in b:
        theirs.setdefault(_place(line), []).append(line)
    for line in a:
        if some := theirs.get(_place(line)):
            yield line, some.pop(0)


def _warnings(first: _Side, second: _Side) -> list[str]:
    judges = [(side.results.get("judge") or {}).get("name") for side in (first, second)]
    if judges[0] == judges[1]:
        return []
    return [f"The first was judged by {judges[0]}, the second by {judges[1]}: a difference "
            "may be the judge's and not the model's. Judge both by one."]
