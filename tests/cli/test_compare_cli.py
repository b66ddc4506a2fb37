"""`sternpost compare` and `sternpost results check`: what is printed, and the exit code."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluations import make_results, make_samples
from sternpost.files import read_json, write_json, write_jsonl


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    out = []
    for seed in (0, 1):
        lines = make_samples(12, seed)
        out.append(tmp_path / f"run{seed}")
        write_json(out[-1] / "results.json", make_results(lines))
        write_jsonl(out[-1] / "samples.jsonl", lines)
    return out


def test_compare_prints_a_table_and_notes(cli: Any, folders: list[Path]) -> None:
    said = cli("compare", *folders)
    assert said.code == 0
    assert "unsafe refusal" in said.out
    assert "note: 488 lines are in both; 0 are in A alone" in said.out


def test_compare_prints_json_and_chinese(cli: Any, folders: list[Path]) -> None:
    body = json.loads(cli("compare", *folders, "--json").out)
    assert {"a", "b", "rows", "differs", "prompts", "warnings"} == set(body)
    assert body["rows"][0]["paired"]["p_holm"] <= 1
    assert "\u4e0d\u5b89\u5168\u62d2\u7b54\u7387" in cli("compare", *folders, "--lang", "zh").out


def test_compare_refuses_in_one_message(cli: Any, folders: list[Path], tmp_path: Path) -> None:
    said = cli("compare", folders[0], tmp_path)
    assert (said.code, said.out) == (2, "")
    assert "holds no finished evaluation or run" in said.err


def test_results_check_agrees_or_lists_and_exits_2(cli: Any, folders: list[Path]) -> None:
    said = cli("results", "check", folders[0])
    assert said.code == 0
    assert "all agree" in said.out
    body = read_json(folders[0] / "results.json")
    body["runs"]["steered"]["mmlu"]["capability"]["hits"] -= 3
    write_json(folders[0] / "results.json", body)
    said = cli("results", "check", folders[0])
    assert said.code == 2
    assert "runs.steered.mmlu.capability: " in said.out
    assert "1 of " in said.err
    body = json.loads(cli("results", "check", folders[0], "--json").out)
    assert body["ok"] is False
    assert body["disagreements"][0]["where"] == "runs.steered.mmlu.capability"


def test_what_no_line_holds_is_named(cli: Any, folders: list[Path]) -> None:
    said = cli("results", "check", folders[0])
    for where in ("judge.accuracy", "cost.seconds_per_token"):
        assert f"note: {where} does not come of these lines and was not counted" in said.out


def test_counts_are_printed_once_and_nothing_differs(cli: Any, folders: list[Path]) -> None:
    said = cli("compare", folders[0], folders[0])
    assert "note: Nothing differs." in said.out
    lines = make_samples(12, 1)
    write_jsonl(folders[1] / "samples.jsonl", lines[:-7])
    said = cli("compare", *folders)
    assert [note for note in said.out.splitlines() if "alone" in note] == [
        "note: 481 lines are in both; 7 are in A alone, 0 in B alone. Lines of one alone are left "
        "out."]
    assert "Nothing" not in said.out


@pytest.mark.parametrize("verb", [("compare",), ("results", "check")])
@pytest.mark.parametrize("line", ["[1]", '{"condition": "baseline"}', ""])
def test_spoilt_lines_are_one_message(cli: Any, folders: list[Path], verb: tuple[str, ...],
                                      line: str) -> None:
    (folders[0] / "samples.jsonl").write_text(line + "\n", encoding="utf-8")
    said = cli(*verb, *(folders if verb == ("compare",) else folders[:1]))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("Error: ")
    assert "samples.jsonl has " in said.err
