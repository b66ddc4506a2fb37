"""The demo: its inputs, and a whole quick one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import sternpost
from sternpost.errors import InputError, OutputError
from sternpost.jobs.demo import KINDS, demo_settings
from sternpost.prompts import read_prompts

HOW: dict[str, Any] = {"seed": 0, "quick": True, "resume": False, "force": False}


def test_it_writes_four_prompt_files_that_a_run_reads(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    settings = demo_settings(out=str(out), **HOW)
    for kind in KINDS:
        spec = getattr(settings, kind)
        assert Path(spec) == out / "prompts" / f"{kind}.jsonl"
        assert read_prompts(spec, kind).prompts
    before = {file: file.stat().st_mtime_ns for file in (out / "prompts").iterdir()}
    assert demo_settings(out=str(out), **HOW) == settings
    assert {file: file.stat().st_mtime_ns for file in (out / "prompts").iterdir()} == before


@pytest.mark.parametrize("other", ["a run", "another demo", "a file"])
def test_what_is_not_this_demo_is_left_alone(tmp_path: Path, other: str) -> None:
    out = tmp_path / "demo"
    if other == "a file":
        out.write_text("mine")
    else:
        demo_settings(out=str(out), **HOW)
        (out / "results.json").write_text("{}")
        if other == "a run":
            shutil.rmtree(out / "prompts")
        else:
            unsafe = out / "prompts" / "unsafe.jsonl"
            unsafe.write_text("".join(unsafe.read_text("utf-8").splitlines(keepends=True)[1:]),
                              "utf-8")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(OutputError, match="--out"):
        demo_settings(out=str(out), **HOW)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("seed", [1.5, True, "0"])
def test_a_seed_is_a_whole_number(tmp_path: Path, seed: Any) -> None:
    with pytest.raises(InputError, match="seed is a whole number"):
        demo_settings(out=str(tmp_path / "demo"), **{**HOW, "seed": seed})
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_a_quick_demo_shows_the_six_conditions_and_a_run_on_its_files_gives_the_same(
        tmp_path: Path, cli: Any) -> None:
    out = tmp_path / "demo"
    first = cli("demo", "--quick", "--resume", "--out", str(out))
    assert first.code == 0, first.err
    results = json.loads((out / "results.json").read_text())
    assert {c["name"] for c in results["conditions"]} == {
        "baseline", "splice_in", "clamp", "random_feature", "diffmean", "gated_clamp"}
    assert str(out / "report.html") in first.out
    assert "Which of the features makes it refuse?" in first.err

    stamp = (out / "results.json").stat().st_mtime_ns
    again = cli("demo", "--quick", "--resume", "--out", str(out))
    assert again.code == 0, again.err
    assert again.out == first.out
    assert (out / "results.json").stat().st_mtime_ns == stamp

    settings = demo_settings(out=str(out), **HOW)
    files = {kind: getattr(settings, kind) for kind in KINDS}
    own = sternpost.run(model="dinghy", out=str(tmp_path / "own"), seed=0, **files)
    assert own.results["conditions"] == results["conditions"]
    assert own.results["gate"] == results["gate"]
