"""A conversation's risk and its gate's state, against loops that keep everything."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sternpost.errors import GateError
from sternpost.gates import Hysteresis, rolling

SHARES = st.floats(0, 1)


@given(st.lists(SHARES, max_size=12), SHARES)
def test_rolling_is_the_highest_of_the_faded_risks(risks: list[float], decay: float) -> None:
    faded = [risk * decay ** (len(risks) - 1 - at) for at, risk in enumerate(risks)]
    assert rolling(risks, decay) == pytest.approx(max(faded, default=0.0))


@given(st.lists(SHARES, min_size=1, max_size=12))
def test_without_decay_it_is_the_highest_and_with_all_of_it_the_last(risks: list[float]) -> None:
    assert rolling(risks, 1.0) == max(risks)
    assert rolling(risks, 0.0) == risks[-1]


@pytest.mark.parametrize(("risks", "decay"), [([0.5, float("nan")], 0.9), ([1.5], 0.9),
                                              ([0.5], 1.1), ([0.5], float("nan"))])
def test_what_is_no_risk_is_refused(risks: list[float], decay: float) -> None:
    with pytest.raises(GateError, match="from 0 to 1"):
        rolling(risks, decay)


def naive(over: list[bool], on: int, off: int) -> list[bool]:
    """Looks back over all tokens since the last change, at each token."""
    opened, since, states = False, 0, []
    for at in range(len(over)):
        tokens = over[since:at + 1]
        need = off if opened else on
        if len(tokens) >= need and all(token != opened for token in tokens[-need:]):
            opened, since = not opened, at + 1
        states.append(opened)
    return states


@given(st.lists(st.lists(st.booleans(), min_size=20, max_size=20), min_size=1, max_size=5),
       st.integers(1, 4), st.integers(1, 4))
def test_hysteresis_of_every_row_is_the_loop(rows: list[list[bool]], on: int, off: int) -> None:
    rule = Hysteresis(on, off)
    state, seen = rule.start(len(rows)), []
    for over in torch.tensor(rows).T:
        before = (state.opened.clone(), state.streak.clone())
        new = rule.step(state, over)
        assert torch.equal(state.opened, before[0])
        assert torch.equal(state.streak, before[1])
        state = new
        seen.append(state.opened)
    assert torch.stack(seen, 1).tolist() == [naive(row, on, off) for row in rows]


@given(st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=15, max_size=15),
                min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 15))
def test_along_several_tokens_it_steps_through_those_that_a_row_has(
        rows: list[list[tuple[bool, bool]]], on: int, off: int, cut: int) -> None:
    """In one go or in two, and a token that a row does not have changes nothing."""
    rule = Hysteresis(on, off)
    over, read = torch.tensor(rows).unbind(2)
    state, states = rule.along(rule.start(len(rows)), over, read)
    first, before = rule.along(rule.start(len(rows)), over[:, :cut], read[:, :cut])
    second, after = rule.along(first, over[:, cut:], read[:, cut:])
    assert torch.equal(torch.cat([before, after], 1), states)
    assert all(map(torch.equal, second, state))
    for row, mine in zip(rows, states.tolist(), strict=True):
        want = iter(naive([token for token, has in row if has], on, off))
        assert mine == [has and next(want) for _, has in row]


def test_it_opens_after_on_and_shuts_after_off() -> None:
    rule = Hysteresis(2, 3)
    state, seen = rule.start(1), []
    for token in "oo.o....ooo":
        state = rule.step(state, torch.tensor([token == "o"]))
        seen.append(bool(state.opened[0]))
    assert seen == [False, True, True, True, True, True, False, False, False, True, True]


@pytest.mark.parametrize(("on", "off"), [(0, 1), (1, 0)])
def test_a_gate_that_needs_no_token_is_refused(on: int, off: int) -> None:
    with pytest.raises(GateError, match="1 token or more"):
        Hysteresis(on, off)
