"""Prompt classifiers in a calibration: asked once, NaN never safe, a row beside the gates, a fixed
refusal among the other methods."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loopback import Answer, Loopback
from sternpost.calibration import classifiers as job
from sternpost.calibration.classifiers import (
    Told,
    ask,
    hard_refusal,
    refused_lines,
    row_of,
    warnings_of,
)
from sternpost.calibration.inputs import read_calibration
from sternpost.calibration.reads import Read
from sternpost.calibration.settings import Budget, CalibrateSettings
from sternpost.calibration.writes import Table
from sternpost.errors import EndpointError, InputError
from sternpost.store import RunFolder
from sternpost.trials.bench import Bench
from sternpost.trials.classifier import check_classifier, labels_of, shown_names
from sternpost.types import LabelledPrompt, Message, Request, Sampling

OWN = """
import math
asked = []
def harm(requests):
    asked.append(len(requests))
    out = []
    for r in requests:
        kind, at = r.text.split()[:2]
        sure = {"unsafe": .9, "safe": .2, "capability": .1}[kind]
        out.append(math.nan if int(at) % 7 == 3 else sure + int(at) % 5 / 100)
    return out
def silent(requests):
    return [math.nan] * len(requests)
def half(requests):
    return [math.nan if r.text.startswith("unsafe") else .1 for r in requests]
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are tested elsewhere."""
    monkeypatch.setattr("sternpost.stats.ranking.RESAMPLES", 40)


def prompt(kind: str, at: int, part: str) -> LabelledPrompt:
    text = f"{kind} {at} {part}"
    return LabelledPrompt(Request((Message("user", text),), text), kind,  # type: ignore[arg-type]
                          source=f"{kind[0]}{at % 2}")


def parts_of(n: int = 40) -> dict[str, list[LabelledPrompt]]:
    both = {part: [prompt(kind, at, part) for kind in ("unsafe", "safe") for at in range(n)]
            for part in ("search", "gate_fit", "test")}
    return {**both, "gate_calibration": [prompt("safe", at, "calibration") for at in range(n)],
            "tasks": [prompt("capability", at, "tasks") for at in range(n)]}


def settings(own: Path | str, *names: str) -> CalibrateSettings:
    return CalibrateSettings(model="m", unsafe="u", safe="s", out="o", classifier=tuple(
        f"{own}:{name}" for name in names))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(OWN, encoding="utf-8")
    return tmp_path / "mine.py"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(None, None, Sampling(), RunFolder(tmp_path / "run"))  # type: ignore[arg-type]


def unclear(prompts: list[LabelledPrompt]) -> list[bool]:
    return [int(p.request.text.split()[1]) % 7 == 3 for p in prompts]


# ---- asked ---------------------------------------------------------------------------------------

def test_every_prompt_is_asked_about_once_and_read_back(own: Path, bench: Bench,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of()
    monkeypatch.setattr(job, "CHUNK", 100)
    (told,) = ask(bench, settings(own, "harm"), parts)
    prompts = [p for some in parts.values() for p in some]
    assert set(told.harm) == {p.request.sha256 for p in prompts}
    for p, no in zip(prompts, unclear(prompts), strict=True):
        assert math.isnan(told.harm[p.request.sha256]) == no
    again = Told(told.name, dict(told.harm))
    monkeypatch.setattr(job, "classifier_from", lambda *a, **k: pytest.fail("asked again"))
    (told,) = ask(bench, settings(own, "harm"), parts)
    np.testing.assert_array_equal(told.risk(prompts), again.risk(prompts))
    for file in bench.folder.stages.glob("classifier-0-1.json"):
        file.unlink()  # where a run was interrupted
    with pytest.raises(pytest.fail.Exception, match="asked again"):
        ask(bench, settings(own, "harm"), parts)


@pytest.mark.parametrize(("name", "says"), [
    ("silent", "no P.harm. for any of 256 prompts"),
    ("half", "no P.harm. for any unsafe prompt of the search split")])
def test_one_that_says_nothing_ends_it_by_name(own: Path, bench: Bench, name: str,
                                               says: str) -> None:
    with pytest.raises(InputError, match=says):
        ask(bench, settings(own, name), parts_of())


def test_a_service_that_is_down_keeps_what_was_answered(bench: Bench, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    harm = '{"results": [{"flagged": true, "category_scores": {"violence": 0.75}}]}'
    monkeypatch.setattr(job, "CHUNK", 8)
    parts = {**parts_of(4), "tasks": []}
    told = CalibrateSettings(model="m", unsafe="u", safe="s", out="o", classifier=("openai:g",))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    down = Answer(status=400, text='{"error": {"message": "too long"}}')
    with Loopback(lambda body, number: Answer(text=harm) if number < 8 else down) as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        with pytest.raises(EndpointError, match="--resume"):
            ask(bench, told, parts)
    with Loopback(lambda body, number: Answer(text=harm)) as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        (found,) = ask(bench, told, parts)
    assert len(service.requests) == len(found.harm) - 8
    assert set(found.harm.values()) == {.75}


# ---- beside the gates ----------------------------------------------------------------------------

def reads_of(parts: dict[str, list[LabelledPrompt]]) -> dict[str, Read]:
    return {name: Read(some, torch.zeros(len(some), 3)) for name, some in parts.items()}


def test_its_row_is_as_a_gates_and_what_it_cannot_tell_fires(own: Path, bench: Bench) -> None:
    parts = parts_of()
    (told,) = ask(bench, settings(own, "harm"), parts)
    row = row_of(told, reads_of(parts), parts, 0)
    assert row["kind"] == told.name
    assert row["external"]
    dark = {part: sum(unclear([p for p in some if p.kind == kind])) for part, some in parts.items()
            for kind in ("safe",)}
    assert row["untold"]["search"] == {"unsafe": dark["search"], "safe": dark["search"]}
    assert row["untold"]["gate_calibration"] == {"safe": dark["gate_calibration"]}
    assert row["search"]["n"] == 80 - 2 * dark["search"]  # AUROC is of those that it tells
    assert row["search"]["value"] == 1.0
    # 6 of 40 calibration prompts are dark: more than the budget, so nothing told is above the limit
    assert row["fires"]["unsafe"]["hits"] == row["fires"]["safe"]["hits"] == dark["search"]
    seen = row["across"]["source"]
    assert seen["within"] == seen["auroc"] == 1.0
    assert set(seen["false_fire_rates"]) == {"s0", "s1"}
    assert all(one["n"] == 20 for one in seen["false_fire_rates"].values())
    assert sum(one["hits"] for one in seen["false_fire_rates"].values()) == dark["gate_fit"]


def test_false_fire_counts_what_it_cannot_tell(own: Path) -> None:
    parts = parts_of(400)
    clear = {p.request.sha256: .9 if p.kind == "unsafe" else .1 for some in parts.values()
             for p in some}
    dark = [p for p in parts["search"] if p.kind == "safe"][:30]
    told = Told("one", {**clear, **{p.request.sha256: math.nan for p in dark}})
    row = row_of(told, reads_of(parts), parts, 0)
    assert row["fires"]["safe"]["hits"] == 30
    assert row["fires"]["unsafe"]["hits"] == 400
    assert row["untold"]["search"] == {"safe": 30}
    assert row["untold"]["test"] == {}


def test_warnings_say_that_it_is_no_packs_gate_and_what_it_left_out(own: Path,
                                                                    bench: Bench) -> None:
    parts = parts_of()
    told = ask(bench, settings(own, "harm"), parts)
    first, second = warnings_of(told, parts)
    assert "never the pack's gate: a pack holds tensors only" in first
    assert "search: 6 unsafe, 6 safe" in second
    assert "no answer is not safe" in second
    assert warnings_of([], parts) == []


# ---- among the other methods ---------------------------------------------------------------------

def table_of(parts: dict[str, list[LabelledPrompt]]) -> Table:
    prompts = [*parts["search"], *parts["tasks"]]
    n = len(prompts)
    right = np.array([p.kind == "capability" for p in prompts])
    return Table(prompts, np.zeros(n), right, np.zeros(n, dtype=bool), np.ones(n, dtype=bool))


def test_the_threshold_keeps_the_budget_on_development_rows() -> None:
    parts = parts_of(200)
    harm = {p.request.sha256: (.9 if p.kind == "unsafe" else .1) + at / 1e4
            for some in parts.values() for at, p in enumerate(some)}
    loud = [p for p in parts["search"] if p.kind == "safe"][:10]  # 5 % that look unsafe here only
    told = Told("one", {**harm, **{p.request.sha256: .95 + at / 1e3 for at, p in enumerate(loud)}})
    benign = parts["gate_calibration"]
    wide = hard_refusal(told, table_of(parts), benign, Budget(10, 5))
    assert wide["development"]["unsafe_refusal"] == 100
    assert wide["development"]["over_refusal"] == 10
    # the 91st of the 100 of each source: no kind of benign prompt fires more than 10 %
    assert wide["least_threshold"] == pytest.approx(.1 + 181 / 1e4)
    assert .9 > wide["threshold"] > wide["least_threshold"]  # which would refuse 14.5 %
    tight = hard_refusal(told, table_of(parts), benign, Budget(1, 1))
    assert tight["development"]["over_refusal"] <= 1
    assert tight["threshold"] >= .95
    assert tight["within_budget"]


def test_a_fixed_refusal_where_it_fires_or_cannot_tell() -> None:
    prompts = [prompt("unsafe", 0, "t"), prompt("safe", 1, "t"), prompt("safe", 2, "t"),
               prompt("capability", 3, "t")]
    told = Told("one", dict(zip((p.request.sha256 for p in prompts), (.9, .5, math.nan, math.nan),
                                strict=True)))
    lines = [{"kind": p.kind, "prompt_sha256": p.request.sha256, "reply": "yes", "hit": kept,
              "verdict": "compliance"} for p, kept in zip(prompts, (False, False, False, True),
                                                          strict=True)]
    got = refused_lines(told, lines, .5)
    assert [line["fired"] for line in got] == [True, False, True, True]
    assert [line["hit"] for line in got] == [True, False, True, False]
    assert [line["risk"] for line in got] == [.9, .5, None, None]
    assert {line["condition"] for line in got} == {"classifier one"}
    assert got[1]["reply"] == "yes"


def test_a_threshold_never_lets_through_what_it_cannot_tell() -> None:
    parts = parts_of(20)
    every = {p.request.sha256: math.nan if p.kind == "safe" else .9
             for some in parts.values() for p in some}
    found = hard_refusal(Told("one", every), table_of(parts), parts["gate_calibration"],
                         Budget(1, 1))
    assert found["threshold"] <= 1
    assert found["development"]["over_refusal"] == 100
    assert not found["within_budget"]


# ---- named ---------------------------------------------------------------------------------------

def test_what_names_none_is_refused_before_anything_is_loaded(own: Path, tmp_path: Path) -> None:
    assert check_classifier("openai:omni") == {}
    assert set(check_classifier(f"{own}:harm")) == {"mine.py"}
    for spec, says in (("nowhere", "there is no such folder"), ("no.py:x", "with the file there"),
                       ("openai:", "openai:MODEL"), ("hf:", "hf:ORG/NAME")):
        with pytest.raises(InputError, match=says):
            check_classifier(spec)
    with pytest.raises(InputError, match="one twice"):
        settings(own, "harm", "harm")


def test_labels_stand_behind_a_name(tmp_path: Path) -> None:
    assert labels_of("hf:org/name#LABEL_1, toxic") == ("hf:org/name", ("LABEL_1", "toxic"))
    assert labels_of("hf:org/name") == ("hf:org/name", ())
    (tmp_path / "a#b").mkdir()
    assert labels_of(str(tmp_path / "a#b")) == (str(tmp_path / "a#b"), ())
    assert labels_of(f"{tmp_path}/a#b#bad") == (f"{tmp_path}/a#b", ("bad",))


def test_where_a_classifier_lies_is_not_told(own: Path, tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    specs = [f"{own}:harm", f"{tmp_path}/guard#BAD", "hf:org/name", "openai:omni"]
    assert shown_names(specs) == ["mine.py:harm", "guard#BAD", "hf:org/name", "openai:omni"]
    assert shown_names(["a/mine.py:x", "b/mine.py:x", "b/mine.py:y"]) == [
        "a/mine.py:x", "b/mine.py:x", "mine.py:y"]


def test_a_changed_classifier_is_another_run(own: Path, tmp_path: Path, prompt_file: Any,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sternpost.trials.inputs.trained_on", lambda name: [])
    splits = ("search", "gate_fit", "gate_calibration", "test")
    files = {kind: prompt_file(f"{kind}.jsonl", [
        {"prompt": f"{kind} request number {at} about {at * 31} things",
         "split": "test" if kind == "unsafe" and at % 4 == 2 else splits[at % 4]}
        for at in range(80)]) for kind in ("unsafe", "safe")}
    told = CalibrateSettings(model="dinghy", **files, out=str(tmp_path / "out"),
                             classifier=(f"{own}:harm",))
    before = read_calibration(told)[0].hashes["classifiers"]
    assert before == {f"{own}:harm": check_classifier(f"{own}:harm")}
    own.write_text(OWN + "\n", encoding="utf-8")
    assert read_calibration(told)[0].hashes["classifiers"] != before
