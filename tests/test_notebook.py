"""The notebook: kept without outputs, and run with dinghy in place of Phi-3."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "phi3_mini.ipynb"
DINGHY = ROOT / "src" / "sternpost" / "dinghy" / "model" / "model.safetensors"
SMALL = {"MODEL": "dinghy", "DTYPE": "float32", "LIMIT": "200", "TOKENS": "60000",
         "NEW_TOKENS": "24"}
"""Settings of a run that takes minutes on two processor cores."""

RUN_CELLS = """
import json, pathlib, sys

space = {"__name__": "__main__"}
for at, cell in enumerate(json.loads(pathlib.Path(sys.argv[1]).read_text("utf-8"))["cells"]):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {at}", "exec"), space)
"""


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs(notebook: dict[str, Any]) -> None:
    assert notebook["nbformat"] == 4
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in code_cells(notebook):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_every_cell_is_plain_python(notebook: dict[str, Any]) -> None:
    for cell in code_cells(notebook):
        compile("".join(cell["source"]), cell["id"], "exec")


def test_the_first_code_cell_holds_the_settings(notebook: dict[str, Any],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    first = "".join(code_cells(notebook)[0]["source"])
    for name in [key for key in os.environ if key.startswith("STERNPOST_NOTEBOOK_")]:
        monkeypatch.delenv(name)
    space: dict[str, Any] = {}
    exec(first, space)
    assert (space["MODEL"], space["DTYPE"], space["LAYER"]) == (
        "microsoft/Phi-3-mini-4k-instruct", "bfloat16", 6)
    for name, value in SMALL.items():
        monkeypatch.setenv(f"STERNPOST_NOTEBOOK_{name}", value)
    exec(first, space)
    assert (space["MODEL"], space["LAYER"], space["LIMIT"]) == ("dinghy", None, 200)


@pytest.mark.slow
def test_it_runs_with_dinghy(tmp_path: Path) -> None:
    if not DINGHY.is_file():
        pytest.skip("dinghy's weights are not here; type: make dinghy")
    given = {f"STERNPOST_NOTEBOOK_{name}": value
             for name, value in {**SMALL, "OUT": str(tmp_path / "run")}.items()}
    done = subprocess.run([sys.executable, "-c", RUN_CELLS, str(NOTEBOOK)], cwd=tmp_path,
                          env={**os.environ, **given}, capture_output=True, text=True,
                          encoding="utf-8")
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "run" / "results.json").is_file()
    assert (tmp_path / "run" / "pack" / "pack.json").is_file()
    assert "the gate" in done.stdout
