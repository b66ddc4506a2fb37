"""What calibrate is told, and what it refuses before anything is read."""

from pathlib import Path
from typing import Any

import pytest

import sternpost
from sternpost.calibration.inputs import halves, read_calibration
from sternpost.calibration.settings import METHODS, Budget, CalibrateSettings
from sternpost.errors import InputError
from sternpost.files import write_json, write_jsonl
from sternpost.types import LabelledPrompt, Message, Request

TOLD = {"model": "dinghy", "unsafe": "u", "safe": "s", "out": "o"}


def settings(**more: Any) -> CalibrateSettings:
    return CalibrateSettings(**{**TOLD, **more})  # type: ignore[arg-type]


def test_budgets_are_read_in_the_order_of_levels() -> None:
    assert settings().budget_of == {
        "low": Budget(.5, .5), "medium": Budget(1, .5), "high": Budget(2, 1), "max": Budget(10, 5)}
    assert list(settings(budgets="high=3/1, low=1/1").budget_of) == ["low", "high"]
    assert settings(methods="all").other_methods == METHODS
    assert settings(methods="cast, clamp").other_methods == ("cast", "clamp")


@pytest.mark.parametrize(("more", "says"), [
    ({"budgets": "low=1"}, "LEVEL=OVER_REFUSAL/CAPABILITY"), ({"budgets": "best=1/1"}, "name low"),
    ({"budgets": "low=-1/1"}, "from 0 up"), ({"budgets": "low=2/1,high=1/1"}, "weaker one or more"),
    ({"aim": "freer"}, "--allow-weaken"), ({"aim": "both"}, "--allow-weaken"),
    ({"aim": "wilder"}, "one of safer"), ({"gates": "magic"}, "residual"),
    ({"methods": "magic"}, "alphasteer"), ({"trials": 0}, "from 1 up"), ({"no_gate": True}, "gate"),
    ({"values": (1.0,)}, "--values"), ({"weaken": -1.0}, "from 0 up")])
def test_what_means_nothing_is_refused(more: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        settings(**more)


def task(at: int, split: str | None = None, cluster: str | None = None) -> LabelledPrompt:
    text = f"What is {at} plus {at * 7919} in all?"
    return LabelledPrompt(Request((Message("user", text),), text), "capability", answer="1",
                          cluster=cluster, split=split)  # type: ignore[arg-type]


def test_tasks_are_halved_by_split_or_by_cluster() -> None:
    mine, test = halves([task(at, "test" if at < 3 else "search") for at in range(10)])
    assert (len(mine), len(test)) == (7, 3)
    rows = [task(at, cluster=str(at // 2)) for at in range(40)]
    mine, test = halves(rows)
    assert {p.cluster for p in mine}.isdisjoint({p.cluster for p in test})
    assert len(mine) == len(test) == 20
    assert halves(list(reversed(rows)))[0] != []
    assert {p.request.sha256 for p in halves(list(reversed(rows)))[0]} == {
        p.request.sha256 for p in mine}


@pytest.fixture(autouse=True)
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """No prompt is known from training: telling those takes seconds."""
    monkeypatch.setattr("sternpost.trials.inputs.trained_on", lambda name: [])


def files(folder: Path) -> dict[str, Any]:
    rows = {kind: [{"prompt": f"{kind} request number {at} about {at * 31} things",
                    "split": ("search", "gate_fit", "gate_calibration", "test")[at % 4]}
                   for at in range(80)] for kind in ("unsafe", "safe")}
    for kind, some in rows.items():
        write_jsonl(folder / f"{kind}.jsonl", [
            {**row, "split": "test"} if kind == "unsafe" and row["split"] == "gate_calibration"
            else row for row in some])
    return {"model": "dinghy", "unsafe": str(folder / "unsafe.jsonl"),
            "safe": str(folder / "safe.jsonl"), "out": str(folder / "out")}


def test_rows_that_must_be_answered_are_never_fitted_on(tmp_path: Path) -> None:
    told = files(tmp_path)
    mine = [{"prompt": "safe request number 4 about 124 things"}, {"prompt": "Another one."}]
    write_jsonl(tmp_path / "must.jsonl", mine)
    before, _ = read_calibration(CalibrateSettings(**told))
    after, given = read_calibration(CalibrateSettings(**told, must_answer=str(
        tmp_path / "must.jsonl")))
    assert [p.request.text for p in given.must["answer"]] == [row["prompt"] for row in mine]
    gone = {p.request.text for p in before.splits.search} - {
        p.request.text for p in after.splits.search}
    # one changed word makes a near-duplicate: no number of these rows is another prompt
    assert mine[0]["prompt"] in gone
    near = {p.request.text for p in before.splits.search} & {
        p.request.text for p in after.splits.search}
    assert not [text for text in near if "number 4 about" in text]
    assert "prompts of --must-answer or --must-refuse" in given.warnings[0]
    assert after.splits.test == before.splits.test


def test_a_dry_run_says_how_much_there_is_to_do(tmp_path: Path) -> None:
    plan: Any = sternpost.calibrate(**files(tmp_path), dry_run=True)
    assert set(plan.replies) == {"baseline", "writes", "test"}
    assert not (tmp_path / "out").exists()


def test_a_features_file_that_is_none_is_refused(tmp_path: Path) -> None:
    told = files(tmp_path)
    with pytest.raises(InputError, match=r"No features\.json"):
        read_calibration(CalibrateSettings(**told, features=str(tmp_path / "no.json")))
    write_json(tmp_path / "other.json", {"methods": []})
    with pytest.raises(InputError, match=r"is not a features\.json"):
        read_calibration(CalibrateSettings(**told, features=str(tmp_path / "other.json")))
