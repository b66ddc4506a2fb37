"""Operating points against brute force over every threshold, and what is made of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sternpost.calibration.levels import (
    Costs,
    Point,
    both,
    costs,
    freer_level,
    freer_point,
    joined,
    rising,
    safer_level,
    safer_point,
    why_alike,
    within,
    worth,
)
from sternpost.calibration.settings import Budget
from sternpost.calibration.writes import Measured, Table
from sternpost.errors import PolicyError
from sternpost.policy import Level, until
from sternpost.types import Clamp, LabelledPrompt, Message, Request

WRITE = Level((Clamp(3, 2.0),))
OTHER = Level((Clamp(4, 1.0), Clamp(5, 0.0)))


def prompt(kind: str, at: int) -> LabelledPrompt:
    text = f"{kind} {at}"
    return LabelledPrompt(Request((Message("user", text),), text), kind)  # type: ignore[arg-type]


def table(rng: np.random.Generator, n: int = 30) -> Table:
    prompts = [prompt(kind, at) for kind in ("unsafe", "safe", "capability") for at in range(n)]
    risk = np.concatenate([rng.beta(4, 2, n), rng.beta(2, 4, 2 * n)])
    hit = np.concatenate([rng.random(n) < .4, rng.random(n) < .1, rng.random(n) < .8])
    neutral = np.array([p.kind != "unsafe" for p in prompts])
    return Table(prompts, risk, hit, np.zeros(3 * n, dtype=bool), neutral)


def write_of(rng: np.random.Generator, rows: Table, level: Level = WRITE) -> Measured:
    n = len(rows.prompts)
    share = np.where(rows.of("capability"), .3, .9)
    return Measured(level, rng.random(n) < share, rng.random(n) < .02, np.ones(n, dtype=bool),
                    rng.exponential(.2, n))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0, .6), st.floats(0, 20), st.floats(0, 10))
def test_a_safer_point_is_the_best_of_all_thresholds(seed: int, least: float, over: float,
                                                     lost: float) -> None:
    rng = np.random.default_rng(seed)
    rows = table(rng)
    writes = [write_of(rng, rows), write_of(rng, rows, OTHER)]
    budget, kl = Budget(over, lost), .1
    got = safer_point(rows, writes, least, budget, kl)
    lowest = []  # of each write, the lowest threshold that keeps the budget
    for write in writes:
        bad = (~rows.of("unsafe") | write.incoherent) & (rows.risk > least)
        costly = sorted(set(rows.risk[bad].tolist()))
        kept = [(t, found) for t in [least, *costly]
                if within(found := costs(rows, write, rows.risk > t), budget, kl)]
        lowest += kept[:1]
    if not lowest:
        assert got is None
        return
    assert got is not None
    assert (got.threshold, got.costs) == max(lowest, key=lambda one: (
        one[1].unsafe, -one[1].incoherent, -one[1].safe))
    assert got.level == safer_level(writes[got.choice].level, got.threshold)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0, .6))
def test_no_threshold_at_all_is_better_for_a_write_that_only_refuses_more(seed: int,
                                                                          least: float) -> None:
    rng = np.random.default_rng(seed)
    rows = table(rng)
    write = write_of(rng, rows)
    unsafe = rows.of("unsafe")
    write = replace(write, hit=np.where(unsafe, write.hit | rows.hit, write.hit))
    got = safer_point(rows, [write], least, Budget(5, 5), .1)
    every = [found.unsafe for t in [least, *rows.risk[rows.risk > least]]
             if within(found := costs(rows, write, rows.risk > t), Budget(5, 5), .1)]
    assert (got is None) == (not every)
    if got is not None:
        assert got.costs.unsafe == max(every)


def test_costs_are_counts_over_rows() -> None:
    rows = table(np.random.default_rng(0), 4)
    rows = replace(rows, hit=np.array([1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0], dtype=bool))
    write = Measured(WRITE, np.ones(12, dtype=bool), np.arange(12) == 4, np.ones(12, dtype=bool),
                     np.full(12, .5))
    fired = np.isin(np.arange(12), [0, 1, 4, 11])
    assert costs(rows, write, fired) == Costs(50.0, 50.0, 25.0, 25.0, 25.0, 12.5, pytest.approx(
        .5 * 2 / 8))


def test_a_freer_point_answers_more_and_keeps_unsafe_refusal() -> None:
    rng = np.random.default_rng(1)
    rows = table(rng, 60)
    hit = rows.hit.copy()
    hit[rows.of("unsafe")], hit[rows.of("safe")] = True, rng.random(60) < .5
    rows = replace(rows, hit=hit)
    n = len(rows.prompts)
    answers = Measured(OTHER, np.where(rows.of("capability"), hit, False), np.zeros(n, dtype=bool),
                       np.ones(n, dtype=bool), np.zeros(n))
    point = freer_point(rows, [answers], 8.0, Budget(0.0, 1.0))
    assert point is not None
    below = rows.risk <= point.threshold
    assert (below & rows.of("unsafe")).sum() <= 1  # a quarter of 8 points of 60
    assert point.costs.more_safe < -20
    assert point.level.responses == (until(point.threshold),) * 2
    # one unsafe row more would cost too much, or there is no safe row to win before it
    higher = rows.risk[rows.of("safe") & hit & (rows.risk > point.threshold)]
    if len(higher):
        assert (rows.of("unsafe") & (rows.risk <= higher.min())).sum() > 1


def test_levels_rise_and_a_larger_budget_never_refuses_less() -> None:
    def point(unsafe: float) -> Point:
        return Point(WRITE, Costs(unsafe, 0, 0, 0, 0, 0, 0), .5)

    found = rising({"low": None, "medium": point(80), "high": point(70), "max": point(90)})
    assert [(name, p.costs.unsafe) for name, p in found.items()] == [
        ("medium", 80), ("high", 80), ("max", 90)]


def test_why_high_and_low_are_alike_is_said() -> None:
    rows = table(np.random.default_rng(2))
    low, high = (Point(WRITE, Costs(unsafe, 0, 0, 0, 0, 0, 0), t) for unsafe, t in ((90, .5),
                                                                                   (93, .4)))
    said = why_alike({"low": low, "high": high}, rows)
    assert said is not None
    assert "3.0 points" in said
    assert why_alike({"low": low, "high": replace(high, costs=replace(high.costs, unsafe=95.0))},
                     rows) is None
    assert why_alike({"high": high}, rows) is None


def test_both_is_one_level_whose_rows_never_meet() -> None:
    level = both(safer_level(WRITE, .8), freer_level(OTHER, .1))
    assert level.edits == (*WRITE.edits, *OTHER.edits)
    risks = np.linspace(0, 1, 21)
    import torch

    doses = [r.dose(torch.tensor(risks)).numpy() for r in level.responses]
    assert not ((doses[0] > 0) & (doses[1] > 0)).any()
    assert (doses[0] > 0).tolist() == (risks > .8).tolist()
    assert both(Level(), freer_level(OTHER, .1)).edits == OTHER.edits
    with pytest.raises(PolicyError, match="would get both"):
        both(safer_level(WRITE, .1), freer_level(OTHER, .2))


def test_a_joined_point_costs_what_both_cost_on_the_same_rows() -> None:
    rng = np.random.default_rng(5)
    rows = table(rng)
    one, other = write_of(rng, rows), write_of(rng, rows, OTHER)
    high, low = rows.risk > .7, rows.risk <= .2
    point = joined(Point(safer_level(WRITE, .7), costs(rows, one, high), .7),
                   Point(freer_level(OTHER, .2), costs(rows, other, low), .2))
    mixed = Measured(WRITE, np.where(low, other.hit, one.hit),
                     np.where(low, other.incoherent, one.incoherent), one.known,
                     np.where(low, other.kl, one.kl))
    want = costs(rows, mixed, high | low)
    assert list(point.costs.as_dict().values()) == pytest.approx(list(want.as_dict().values()))


def test_a_write_that_keeps_no_budget_is_worth_the_baseline() -> None:
    rng = np.random.default_rng(3)
    rows = table(rng)
    n = len(rows.prompts)
    breaks = Measured(WRITE, np.zeros(n, dtype=bool), np.ones(n, dtype=bool),
                      np.ones(n, dtype=bool), np.ones(n))
    own = 100 * rows.hit[rows.of("unsafe")].mean()
    least = {"low": 0.0, "high": 0.0}
    budgets = {"low": Budget(.5, .5), "high": Budget(2, 1)}
    assert worth(rows, breaks, least, budgets, .1) <= own
    refuses = Measured(WRITE, np.where(rows.of("unsafe"), True, rows.hit), breaks.known ^ True,
                       breaks.known, np.zeros(n))
    assert worth(rows, refuses, least, budgets, .1) == 100.0
