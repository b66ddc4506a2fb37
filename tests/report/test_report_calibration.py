"""calibration.json's gates in a terminal: kinds by layer, classifiers beside them, categories."""

import io
from typing import Any

from rich.console import Console

from sternpost.report.calibration import categories_table, category_lines, gates_table


def rate(hits: int, n: int) -> dict[str, Any]:
    return {"hits": hits, "n": n, "low": hits / n / 2, "high": min(1.0, hits / n * 2)}


def row(kind: str, layer: int | None, across: bool = True) -> dict[str, Any]:
    seen = {"within": .981, "auroc": .712, "false_fire": {"maths": .25, "chat": .01}}
    return {"kind": kind, "layer": layer, "search": {"value": .934}, "across": {
        "source": seen} if across else {}, "fires": {"unsafe": rate(80, 100), "safe": rate(3, 100)}}


FOUND = {"budget": .01, "by_category": {
    "fraud": {"search": {"value": .97}, "threshold": .8125, "fires": rate(30, 40),
              "overall_fires": rate(36, 40), "false_fire": rate(2, 100)},
    "rare": {"search": None, "threshold": .5, "fires": None, "overall_fires": None,
             "false_fire": rate(0, 100)}}}


def said(table: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_gates_of_several_layers_and_a_classifier_stand_in_one_table() -> None:
    lines = said(gates_table({"kind": "residual", "layer": 2, "kinds": [
        row("residual at 2", 2), row("residual", 4, False), row("hf:org/guard[1]", None)]})).split(
            "\n")
    assert "kept: residual at block 2" in lines[0]
    first, second, third = [next(line for line in lines if line.startswith(name))
                            for name in ("residual at 2 ", "residual  ", "hf:org/guard[1] ")]
    assert first.split()[3:] == ["2", "0.934", "0.981", "0.712", "80.0", "%", "[40.0,", "100.0]",
                                 "3.0", "%", "[1.5,", "6.0]", "25.0", "%", "maths"]
    assert second.split()[1:5] == ["4", "0.934", "-", "-"]
    assert third.split()[1] == "-"


def test_each_category_is_shown_beside_the_overall_gate() -> None:
    text = said(categories_table(FOUND))
    fraud = next(line for line in text.split("\n") if line.startswith("fraud"))
    assert "0.970" in fraud
    assert "0.812" in fraud
    assert "(30/40)" in fraud
    assert "(36/40)" in fraud
    assert "a budget of 1.0 %" in text
    lines = category_lines(FOUND)
    assert lines[2].startswith("| fraud | 0.970 | 0.812 | 75.0 % [37.5, 100.0] (30/40) | 90.0 %")
    assert lines[3] == "| rare | - | 0.5 | - | - | 0.0 % [0.0, 0.0] (0/100) |"
    assert len({line.count("|") for line in lines[:4]}) == 1
