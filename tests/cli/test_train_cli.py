"""train, harvest and plan on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from sternpost.cli import main


@pytest.fixture
def recipe(tiny_models: dict[str, str], tmp_path: Path) -> Path:
    rows = [{"text": f"Line {i} of some text that is read."} for i in range(25)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.toml"
    path.write_text(f'model = "{tiny_models["llama"]}"\nlayers = [1]\n'
                    f'corpus = ["{tmp_path / "text.jsonl"}"]\nd_sae = 24\nk = 3\ntokens = 640\n'
                    "batch = 64\nbuffer = 128\n")
    return path


def call(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
        raise SystemExit(0)
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_harvest_then_train_then_again(recipe: Path, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    acts, out = tmp_path / "acts", tmp_path / "out"
    code, said, _ = call(capsys, "harvest", recipe, "--out", acts)
    assert code == 0
    assert "640 tokens" in said
    assert f"--activations {acts}" in said
    words = ("train", recipe, "--activations", acts, "--out", out, "--set", "k=2")
    code, said, _ = call(capsys, *words)
    assert code == 0
    assert "FVU" in said
    assert str(out / "report.html") in said
    assert call(capsys, *words)[:2] == (0, said)  # finished: shown again
    code, _, said = call(capsys, "train", recipe, "--out", out)
    assert code == 2
    assert "another run" in said


def test_plan_and_dry_run_write_nothing(recipe: Path, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    code, said, _ = call(capsys, "plan", recipe)
    assert code == 0
    assert "this machine" in said
    for flag in ("--layers", "--layer"):
        code, said, _ = call(capsys, "plan", recipe, flag, 1, 2, "--json")
        assert json.loads(said)["layers"] == [1, 2]
    code, said, _ = call(capsys, "train", recipe, "--out", tmp_path / "no", "--dry-run")
    assert code == 0
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("words", "match"), [
    (("--set", "tokns=3"), "unknown setting 'tokns'"),
    (("--set", "tokens=many"), "tokens is a whole number; got 'many'"),
    (("--layers", "9"), "4 blocks, 0 to 3"),
    (("--set", "layers=[]"), "No layer"),
    (("--set", "chat_share=2"), "between 0 and 1"),
])
def test_bad_input_is_one_message(recipe: Path, tmp_path: Path, words: tuple[str, ...], match: str,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = call(capsys, "train", recipe, "--out", tmp_path / "out", *words)
    assert code == 2
    assert match in " ".join(said.split())
    assert not (tmp_path / "out").exists()
