"""The terminal tables of a search, on made-up figures."""

from typing import Any

import pytest
from rich.console import Console

from sternpost.report import features as tables


def rate(hits: int, n: int) -> dict[str, Any]:
    return {"hits": hits, "n": n, "low": 0.0, "high": 1.0}


def moved(points: float, spread: float = 4.0) -> dict[str, float]:
    return {"points": points, "low": points - spread, "high": points + spread}


def condition(hits: int) -> dict[str, Any]:
    return {"edits": [{"edit": "Clamp", "feature": 5, "value": 7.25}],
            "search": {"discrimination": moved(33.25)},
            "unsafe_refusal": rate(hits, 20), "over_refusal": rate(1, 20),
            "discrimination": moved(5.0 * hits - 5), "incoherent": rate(0, 40),
            "capability": None}


@pytest.fixture
def found() -> dict[str, Any]:
    entries = [{"feature": f, "score": 1.0 / f} for f in (5, 6, 7)]
    return {"model": "m", "layer": 2, "goal": "rudeness",
            "methods": {"paper": entries, "contrast": entries[:1], "causal_grid": entries[::-1]},
            "harm": entries[1:], "agreement": {"paper/causal_grid": -0.5},
            "confirmed": {"baseline": {**condition(8), "edits": []}, "paper": condition(12),
                          "set": condition(18), "set_against_paper": {**moved(30), "better": True}},
            "interactions": [{"features": [5, 6], "unsafe_refusal": moved(-3.5),
                              "over_refusal": moved(0.5), "capability": None, "coactive": None,
                              "cosine": 0.25}],
            "side_effects": {"set": [
                {"kind": "capability", "by": "family", "group": "[red]add[/red]",
                 "before": rate(9, 10), "after": rate(2, 10), "change": moved(-70), "p": .01,
                 "q": .02},
                {"kind": "safe", "by": "source", "group": "look", "before": rate(1, 10),
                 "after": rate(1, 10), "change": moved(0), "p": 1, "q": 1}]}}


def text(what: Any) -> str:
    console = Console(width=140)
    with console.capture() as out:
        console.print(what)
    return out.get()


def test_every_method_has_a_column_in_its_order(found: dict[str, Any]) -> None:
    lines = text(tables.methods_table(found, 10)).splitlines()
    first = next(line for line in lines if line.strip().startswith("1 "))
    assert first.split() == ["1", "5", "5", "7", "6"]


def test_conditions_are_named_by_the_goal(found: dict[str, Any]) -> None:
    said = text(tables.confirmed_table(found))
    assert "rudeness" in said
    assert "5 at 7.25" in said
    assert "90.0 %" in said
    assert "33.2" in said
    assert "set_against_paper" not in said


@pytest.mark.parametrize(("points", "better", "word"), [
    (30, True, "better than"), (1, False, "not shown to differ"), (-30, False, "worse than")])
def test_better_is_said_only_where_zero_is_excluded(found: dict[str, Any], points: float,
                                                    better: bool, word: str) -> None:
    found["confirmed"]["set_against_paper"] = {**moved(points), "better": better}
    assert word in tables.verdict(found)
    assert f"{points:+.1f} points" in tables.verdict(found)


def test_without_a_set_it_says_so(found: dict[str, Any]) -> None:
    del found["confirmed"]["set_against_paper"]
    assert "No set" in tables.verdict(found)


def test_pairs_effects_and_agreement(found: dict[str, Any]) -> None:
    assert "-3.5 [-7.5, +0.5]" in text(tables.pairs_table(found))
    effects = text(tables.effects_table(found, "set", 1))
    assert "1 of 2 groups" in effects
    assert "[red]add[/red]" in effects  # a group's name is no markup
    assert "-70.0 [-74.0, -66.0]*" in effects
    assert "look" not in effects
    agreed = text(tables.agreement_table(found))
    assert agreed.count("-0.50") == 2
