"""`sternpost calibrate` on the command line: what is refused before anything runs."""

from typing import Any

import pytest


@pytest.fixture
def words(prompt_file: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A dry run on dinghy; telling its training prompts apart takes seconds, so none is known."""
    monkeypatch.setattr("sternpost.trials.inputs.trained_on", lambda name: [])
    splits = ("search", "gate_fit", "gate_calibration", "test")
    files = {kind: prompt_file(f"{kind}.jsonl", [
        {"prompt": f"{kind} request number {at} about {at * 31} things",
         "split": "test" if kind == "unsafe" and at % 4 == 2 else splits[at % 4],
         "category": "fraud" if kind == "unsafe" else None}
        for at in range(80)]) for kind in ("unsafe", "safe")}
    (tmp_path / "mine.py").write_text("def harm(requests):\n    return [0.5] * len(requests)\n")
    return ["calibrate", "--model", "dinghy", "--unsafe", files["unsafe"], "--safe", files["safe"],
            "--layer", "4", "--out", str(tmp_path / "out"), "--dry-run"]


def test_layers_and_classifiers_are_given_several_times(cli: Any, words: list[str],
                                                        tmp_path: Any) -> None:
    said = cli(*words, "--gate-layer", 2, "--gate-layer", 4, "--classifier",
               f"{tmp_path}/mine.py:harm", "--classifier", "openai:guard")
    assert said.code == 0, said.err
    assert "output of block 4" in said.out


@pytest.mark.parametrize(("more", "says"), [
    (["--gate-layer", 5], "--gate-layer 5 lies above block 4"),
    (["--gate-layer", 2, "--gates", "sparse"], "Add --gate-layer 4"),
    (["--classifier", "nowhere"], "hf:ORG/NAME"),
    (["--classifier", "nowhere.py:harm"], "with the file there"),
    (["--categories"], "two hazard categories")])
def test_what_cannot_be_is_refused_first(cli: Any, words: list[str], more: list[Any],
                                         says: str) -> None:
    said = cli(*words, *more)
    assert said.code == 2
    assert says in " ".join(said.err.split())
    assert "Traceback" not in said.err
