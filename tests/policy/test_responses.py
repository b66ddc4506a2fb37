"""Responses against a naive reading of their points; what they refuse; doses of several edits."""

from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sternpost.errors import PolicyError
from sternpost.policy import Doses, Response, learned, linear, step, until

RISK = st.floats(0, 1)
POINTS = st.lists(st.tuples(st.sampled_from([0.0, .1, .25, .5, .5, .8, 1.0]), st.floats(-2, 2)),
                  min_size=1, max_size=6).map(lambda some: tuple(sorted(some, key=lambda p: p[0])))


def naive(points: tuple[tuple[float, float], ...], risk: float) -> float:
    if risk <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < risk <= x1:
            return y0 + (y1 - y0) * (risk - x0) / (x1 - x0)
    return points[-1][1]


@given(POINTS, st.lists(RISK, min_size=1, max_size=8))
def test_a_response_is_the_line_through_its_points(points: tuple[tuple[float, float], ...],
                                                   risks: list[float]) -> None:
    got = Response(points).dose(torch.tensor(risks, dtype=torch.float64))
    assert got.tolist() == pytest.approx([naive(points, risk) for risk in risks], abs=1e-9)


@given(POINTS, RISK, st.floats(-1, 0), st.floats(0, 1))
@example(((0.0, -1.0), (0.1, 1e-31), (0.1, -1.0)), 1.0, -1.0, 0.0)  # a crossing on a jump
def test_a_floor_and_a_cap_cut_the_dose(points: tuple[tuple[float, float], ...], risk: float,
                                        floor: float, cap: float) -> None:
    at = torch.tensor([risk], dtype=torch.float64)
    whole, cut = Response(points), Response(points).within(floor, cap)
    assert float(cut.dose(at)) == pytest.approx(float(whole.dose(at).clamp(floor, cap)), abs=1e-6)


def test_a_step_opens_above_its_threshold_and_not_at_it() -> None:
    risks = torch.tensor([0.2, 0.5, 0.5 + 1e-12, 0.9], dtype=torch.float64)
    assert step(0.5).dose(risks).tolist() == [0, 0, 1, 1]
    assert until(0.5, -2.0).dose(risks).tolist() == [-2, -2, 0, 0]
    assert linear(0.4, 0.9, 2.0).dose(risks).tolist() == pytest.approx([0, .4, .4, 2])


def test_a_learned_response_rises_with_what_was_wanted() -> None:
    found = learned([.1, .2, .3, .4, .5, .6], [0.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    doses = found.dose(torch.linspace(0, 1, 50, dtype=torch.float64))
    assert bool((doses.diff() >= 0).all())
    assert doses[0] == 0
    assert doses[-1] == 1
    assert float(found.dose(torch.tensor([.35], dtype=torch.float64))) == pytest.approx(.5)


def test_each_edit_answers_to_its_category() -> None:
    policy = Doses((step(.5), step(.5, category="drugs"), linear(.0, 1.0, category="theft")))
    risks = torch.tensor([[.9, .1, .4], [.1, .8, .0]], dtype=torch.float64)
    got = policy.doses(risks, ("drugs", "theft"))
    assert got.flatten().tolist() == pytest.approx([1, 0, .4, 0, 1, 0])
    with pytest.raises(PolicyError, match=r"'theft'.*knows drugs"):
        policy.doses(risks[:, :2], ("drugs",))


@pytest.mark.parametrize("points", [(), ((.5, 1.0), (.2, 1.0)), ((float("nan"), 1.0),),
                                    ((.5, 11.0),),
                                    ((.5, float("nan")),)])
def test_points_that_mean_nothing_are_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(PolicyError):
        Response(points)
    with pytest.raises(PolicyError, match="rises"):
        linear(.5, .5)
    with pytest.raises(PolicyError, match="floor"):
        step(.5).within(1.0, 0.0)


def test_a_response_survives_json() -> None:
    for one in (step(.3, 2.0, "drugs"), linear(.1, .2), until(.5)):
        assert Response.of(one.as_dict()) == one
