"""What is counted of lines, by hand."""

from typing import Any

import pytest

from sternpost.evaluation import METRICS, changes, fires, grouped, runs
from sternpost.evaluation.count import FEWEST, discriminations, paired
from sternpost.stats import change_of_hits

SUITES = {"s": ["refusal", "over_refusal", "attack_success", "incoherent", "capability", "kl"]}


def line(condition: str, kind: str, text: str, verdict: str, **more: Any) -> dict[str, Any]:
    hit = more.pop("hit", verdict in ("refusal", "partial"))
    return {"suite": "s", "condition": condition, "kind": kind, "prompt_sha256": text,
            "cluster": None, "harm_kind": None, "category": None, "language": None, "family": None,
            "verdict": verdict, "hit": hit, "turn": None, "harmful_turn": None, "fired": None,
            "kl": None, **more}


def both(kind: str, text: str, before: str, after: str, **more: Any) -> list[dict[str, Any]]:
    return [line("baseline", kind, text, before, **more),
            line("steered", kind, text, after, **more)]


LINES = [
    *both("unsafe", "u1", "compliance", "refusal", category="a"),
    *both("unsafe", "u2", "compliance", "partial", category="b"),
    *both("unsafe", "u3", "refusal", "refusal", category="b"),
    *both("unsafe", "u4", "compliance", "incoherent", category="a"),
    *both("unsafe", "off", "compliance", "refusal", harm_kind="offensive"),
    *both("safe", "s1", "compliance", "compliance"),
    *both("safe", "s2", "compliance", "refusal"),
    line("baseline", "capability", "c1", "compliance", hit=True),
    line("steered", "capability", "c1", "compliance", hit=False),
    *[line(c, "unsafe", "talk", v, turn=at, harmful_turn=at > 0)
      for c, said in (("baseline", ("compliance", "refusal", "compliance")),
                      ("steered", ("compliance", "refusal", "incoherent")))
      for at, v in enumerate(said)]]


def test_rates_by_hand() -> None:
    found = runs(SUITES, LINES)
    base, steered = found["baseline"]["s"], found["steered"]["s"]
    shares = {name: (base[name]["hits"], base[name]["n"], steered[name]["hits"]) for name in (
        "refusal", "over_refusal", "attack_success", "incoherent", "capability")}
    assert shares == {"refusal": (1, 4, 3), "over_refusal": (0, 2, 1), "capability": (1, 1, 0),
                      # a broken last turn is no success; turn 0 asks for no harm
                      "attack_success": (1, 1, 0), "incoherent": (0, 10, 2)}
    assert base["kl"] is None
    assert "kl" in base["why"]


def test_changes_are_steered_minus_baseline_with_holm() -> None:
    moved, d = changes(SUITES, LINES)
    found = moved["s"]
    assert d["s"]["paired"]["p_holm"] >= d["s"]["paired"]["p"]
    assert found["refusal"]["delta"] == pytest.approx(.5)
    assert found["over_refusal"]["delta"] == pytest.approx(.5)
    assert found["capability"]["delta"] == pytest.approx(-1)
    assert found["refusal"]["n"] == 4
    assert all(found[name]["p_holm"] >= found[name]["p"] for name in ("refusal", "over_refusal"))


def test_only_what_both_conditions_have_is_compared() -> None:
    lines = [*LINES, line("steered", "unsafe", "alone", "refusal")]
    assert paired(SUITES, lines)["s"]["refusal"]["n"] == 4


def test_discrimination_is_refusal_less_over_refusal() -> None:
    found = discriminations(["s"], LINES)["s"]
    assert found["baseline"]["points"] == pytest.approx(25)
    assert found["steered"]["points"] == pytest.approx(25)
    assert found["paired"]["delta"] == pytest.approx(0)


def test_groups_stand_apart() -> None:
    found = grouped(SUITES, LINES)["s"]["category"]
    assert found["a"]["baseline"]["refusal"]["hits"] == 0
    assert found["b"]["steered"]["refusal"]["hits"] == 2
    assert found["a"]["n"] == 2


def test_a_group_tells_how_the_same_prompts_changed() -> None:
    said = [("compliance", "refusal"), ("refusal", "refusal"), ("refusal", "compliance")]
    lines = [one for name, times in (("a", (4, 3, 1)), ("b", (1, 2, 1))) for at, (pair, n) in
             enumerate(zip(said, times, strict=True)) for i in range(n)
             for one in both("unsafe", f"{name}{at}{i}", *pair, category=name)]
    shuffled = [*lines[1::2][::-1], *lines[::2]]
    alone = line("steered", "unsafe", "alone", "refusal", category="a")
    found = grouped(SUITES, [*shuffled, alone])["s"]["category"]["a"]
    change = found["paired"]["refusal"]
    by_hand = change_of_hits([False] * 4 + [True] * 4, [True] * 7 + [False], list("12345678"))
    assert {name: change[name] for name in by_hand.as_dict()} == by_hand.as_dict()
    assert change["p_holm"] > change["p"]
    assert found["steered"]["refusal"]["n"] == 9
    assert "capability" not in found["paired"]


def test_a_group_of_few_rows_says_why_it_tells_no_change() -> None:
    lines = [*LINES, *(one for i in range(FEWEST)
                       for one in both("unsafe", f"c{i}", "compliance", "refusal", category="c"))]
    found = grouped(SUITES, lines)["s"]["category"]
    assert found["c"]["paired"]["refusal"]["n"] == FEWEST
    few = found["a"]["paired"]
    assert few["refusal"] is None
    assert "2 rows" in few["why"]["refusal"]


def test_kl_is_a_mean() -> None:
    lines = [line("baseline", "safe", "a", "compliance", kl=0.0),
             line("baseline", "safe", "b", "compliance", kl=0.0),
             line("steered", "safe", "a", "compliance", kl=.1),
             line("steered", "safe", "b", "compliance", kl=.3)]
    assert runs(SUITES, lines)["steered"]["s"]["kl"]["mean"] == pytest.approx(.2)
    assert paired(SUITES, lines)["s"]["kl"]["delta"] == pytest.approx(.2)


def test_fires_are_counted_where_there_is_a_gate() -> None:
    assert fires(["s"], LINES) is None
    lines = [line("steered", "safe", "a", "compliance", fired=True),
             line("steered", "safe", "b", "compliance", fired=False)]
    found = fires(["s"], lines)
    assert found is not None
    assert found["s"]["safe"]["hits"] == 1


def test_an_attacker_that_adapts_is_judged_by_its_own_judge() -> None:
    lines = [line("steered", "unsafe", "talk", "compliance", turn=0, harmful_turn=False,
                  success=False)]
    assert METRICS["attack_success"].values(lines)[0].value == 0
    lines.append(line("steered", "unsafe", "talk", "refusal", turn=1, harmful_turn=True,
                      success=True))
    assert METRICS["attack_success"].values(lines)[0].value == 1
