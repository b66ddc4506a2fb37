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
def test_the_table_is_what_the_demo_measured(file: str, rows: tuple[str, str]) -> None:
    text = (README.parent / file).read_text(encoding="utf-8")
    body = json.loads((README.parent / "benchmarks/results/demo_seeds.json").read_text("utf-8"))
    found = {row["name"]: row for row in body["rows"]}
    for name, condition in zip(rows, ("baseline", "gated"), strict=True):
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
        unsafe, over, d, *rest = [cell.strip() for cell in line.strip("|").split("|")][1:]
        rates = {what: found[f"seed 0, {condition}, {what}"] for what in (
            "unsafe_refusal", "over_refusal", "capability", "incoherent")}
        assert [unsafe, over, *rest] == [_rate(rate) for rate in rates.values()]
        points = 100 * (rates["unsafe_refusal"]["median"] - rates["over_refusal"]["median"])
        assert d.startswith(f"{points:.0f} [")


@pytest.mark.parametrize("file", ["README.md", "README.zh.md"])
def test_the_levels_are_those_of_the_shipped_pack(file: str) -> None:
    text = (README.parent / file).read_text(encoding="utf-8")
    pack = README.parent / "src/sternpost/dinghy/pack/levels.json"
    for name, found in json.loads(pack.read_text(encoding="utf-8"))["levels"].items():
        success = found["build_ups"]["attack_success"] if "build_ups" in found else None
        cells = [_rate(found["unsafe_refusal"]), _rate(found["over_refusal"]),
                 _points(found["discrimination"]), _rate(found["capability"]),
                 _rate(found["incoherent"]), *([_rate(success)] if success else [])]
        assert f"| `{name}` | " + " | ".join(cells) in text


def _rate(r: dict[str, float]) -> str:
    return f"{100 * r['hits'] / r['n']:.1f} [{100 * r['low']:.0f}, {100 * r['high']:.0f}]"


def _points(d: dict[str, float]) -> str:
    return f"{d.get('points', d.get('median')):.0f} [{d['low']:.0f}, {d['high']:.0f}]"


def test_every_path_in_the_tree_exists() -> None:
    text = README.read_text(encoding="utf-8")
    tree = re.search(r"    src/sternpost/\n((?:      \S.*\n)+)", text)
    assert tree is not None
    named = [line.split()[0] for line in tree[1].splitlines()]
    there = {p.name + ("/" if p.is_dir() else "") for p in
             (README.parent / "src/sternpost").iterdir() if p.name[0] != "_"}
    assert set(named) == there - {"py.typed"}
