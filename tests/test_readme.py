"""The README's example prints what the README says."""

import json
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_example_prints_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    text = README.read_text(encoding="utf-8")
    match = re.search(r"```python\n(.*?)```\n\n    (.*?)\n", text, re.DOTALL)
    assert match is not None
    exec(compile(match[1], "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == match[2]


@pytest.mark.parametrize(("file", "rows"), [
    ("README.md", ("the model as it is", "the same feature, only where the gate fires")),
    ("docs/tutorial.md", ("the model as it is", "the same feature, only where the gate fires")),
    ("README.zh.md", ("原模型", "同一特征，仅在门控触发时钳制"))])
def test_the_table_is_what_the_shipped_pack_measured(file: str, rows: tuple[str, str]) -> None:
    text = (README.parent / file).read_text(encoding="utf-8")
    pack = README.parent / "src/sternpost/dinghy/pack/levels.json"
    levels = json.loads(pack.read_text(encoding="utf-8"))["levels"]
    for name, level in zip(rows, ("off", "high"), strict=True):
        found = levels[level]
        rates = [f"{100 * r['hits'] / r['n']:.1f} [{100 * r['low']:.0f}, {100 * r['high']:.0f}]"
                 for r in (found["unsafe_refusal"], found["over_refusal"], found["capability"])]
        d = found["discrimination"]
        rates.insert(2, f"{d['points']:.0f} [{d['low']:.0f}, {d['high']:.0f}]")
        assert f"| {name} | " + " | ".join(rates) + " |" in text


def test_every_path_in_the_tree_exists() -> None:
    text = README.read_text(encoding="utf-8")
    tree = re.search(r"    src/sternpost/\n((?:      \S.*\n)+)", text)
    assert tree is not None
    named = [line.split()[0] for line in tree[1].splitlines()]
    there = {p.name + ("/" if p.is_dir() else "") for p in
             (README.parent / "src/sternpost").iterdir() if p.name[0] != "_"}
    assert set(named) == there - {"py.typed"}
