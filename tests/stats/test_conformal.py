"""Thresholds that each group keeps, against loops and in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sternpost.errors import InputError
from sternpost.stats import conformal_threshold, grouped_threshold

ROWS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcde")), min_size=1, max_size=200)


@given(ROWS, st.floats(0.01, 0.5))
def test_it_is_the_highest_of_the_groups_own(rows: list[tuple[float, str]],
                                             budget: float) -> None:
    found = grouped_threshold([r for r, _ in rows], [g for _, g in rows], budget)
    apart = {name: [r for r, g in rows if g == name] for name in "abcde"}
    large = {name for name, some in apart.items() if some and 1 / (len(some) + 1) <= budget}
    small = {name for name, some in apart.items() if some} - large
    assert set(found.groups) == large
    assert set(found.small) == small
    parts = [conformal_threshold(apart[name], budget).value for name in large]
    if small:
        assert found.pool == conformal_threshold([r for r, g in rows if g in small], budget)
        parts.append(found.pool.value)
    else:
        assert found.pool is None
    assert found.value == max(parts)
    assert found.budget == max([budget] if large else [0], [found.pool.budget] if small else [0])[0]
    for name in small:
        assert found.small[name] == (max(apart[name]), 1 / (len(apart[name]) + 1))


def fired(rule: str, draws: int = 300) -> dict[str, float]:
    """Share of new prompts of each kind that fire, over fresh calibrations."""
    rng = np.random.default_rng(0)
    centres = {"plain": (0.0, 400), "maths": (0.5, 80), "alike": (1.5, 60), "rare": (1.0, 12),
               "odd": (2.0, 12)}
    groups = [name for name, (_, n) in centres.items() for _ in range(n)]
    total = dict.fromkeys(centres, 0.0)
    for _ in range(draws):
        risks = [float(rng.normal(centres[name][0])) for name in groups]
        value = conformal_threshold(risks, 0.05).value if rule == "mixture" else \
            grouped_threshold(risks, groups, 0.05).value
        for name, (centre, _) in centres.items():
            total[name] += float((rng.normal(centre, size=500) > value).mean()) / draws
    return total


def test_each_group_keeps_the_budget_where_a_mixtures_threshold_does_not() -> None:
    kept, mixed = fired("grouped"), fired("mixture")
    assert all(kept[name] <= 0.052 for name in ("plain", "maths", "alike"))
    assert (kept["rare"] + kept["odd"]) / 2 <= 0.052
    assert mixed["alike"] > 0.15
    assert mixed["odd"] > 0.25


def test_it_is_no_higher_than_it_must_be() -> None:
    """The group that sets the threshold uses its budget."""
    rng = np.random.default_rng(1)
    groups, fires = ["easy"] * 100 + ["hard"] * 100, []
    for _ in range(400):
        risks = [*rng.normal(size=100), *rng.normal(3, size=100)]
        value = grouped_threshold(risks, groups, 0.05).value
        fires.append(float((rng.normal(3, size=400) > value).mean()))
    assert 0.04 < np.mean(fires) < 0.053


def test_small_groups_are_named_with_what_they_can_promise() -> None:
    risks = [at / 200 for at in range(100)] + [0.9, 0.8, 0.95]
    found = grouped_threshold(risks, ["many"] * 100 + ["few", "few", "one"], 0.05)
    assert found.small == {"few": (0.9, 1 / 3), "one": (0.95, 1 / 2)}
    assert found.pool == (0.95, 1 / 4)
    assert found.budget == 1 / 4
    assert found.value == 0.95
    assert math.isclose(found.groups["many"].budget, 0.05)


def test_no_prompts_or_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="got none"):
        grouped_threshold([], [], 0.05)
    with pytest.raises(InputError, match="groups has 1"):
        grouped_threshold([0.1, 0.2], ["a"], 0.05)
    with pytest.raises(InputError, match="between 0 and 1"):
        grouped_threshold([0.1], ["a"], 0.0)
