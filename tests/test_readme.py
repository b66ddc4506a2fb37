"""The README's example prints what the README says."""

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


def test_every_path_in_the_tree_exists() -> None:
    text = README.read_text(encoding="utf-8")
    tree = re.search(r"    src/sternpost/\n((?:      \S.*\n)+)", text)
    assert tree is not None
    named = [line.split()[0] for line in tree[1].splitlines()]
    there = {p.name + ("/" if p.is_dir() else "") for p in
             (README.parent / "src/sternpost").iterdir() if p.name[0] != "_"}
    assert set(named) == there - {"py.typed"}
