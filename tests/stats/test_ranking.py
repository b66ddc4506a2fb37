"""AUROC and conformal thresholds against naive loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sternpost.errors import InputError
from sternpost.stats import auroc, conformal_threshold


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    risks, harmful = [float(r) for r, _ in rows], [h for _, h in rows]
    if all(harmful) or not any(harmful):
        with pytest.raises(InputError, match="both sides"):
            auroc(risks, harmful)
        return
    pairs = [(a > b) + (a == b) / 2 for a, x in zip(risks, harmful, strict=True) if x
             for b, y in zip(risks, harmful, strict=True) if not y]
    found = auroc(risks, harmful)
    assert math.isclose(found.value, sum(pairs) / len(pairs))
    assert 0 <= found.low <= found.high <= 1
    assert found.n == len(rows)


def test_shared_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=40)
    risks = np.repeat(base + np.repeat([0.0, 1.0], 20), 10)
    harmful = np.repeat(np.repeat([False, True], 20), 10).tolist()
    alone = auroc(risks.tolist(), harmful)
    grouped = auroc(risks.tolist(), harmful, [str(at // 10) for at in range(400)])
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.floats(0.001, 0.5))
def test_at_most_the_budget_of_the_calibration_prompts_fire(risks: list[float],
                                                            budget: float) -> None:
    found = conformal_threshold(risks, budget)
    n = len(risks)
    assert found.budget == max(budget, 1 / (n + 1))
    assert sum(r > found.value for r in risks) <= found.budget * (n + 1)


def test_new_prompts_fire_within_the_budget_on_average() -> None:
    rng = np.random.default_rng(0)
    fired = []
    for _ in range(400):
        found = conformal_threshold(rng.normal(size=150).tolist(), 0.05)
        fired.append(float((rng.normal(size=400) > found.value).mean()))
    assert 0.042 < np.mean(fired) < 0.053


def test_a_budget_that_few_prompts_cannot_promise_is_raised() -> None:
    risks = [at / 50 for at in range(50)]
    found = conformal_threshold(risks, 0.01)
    assert found.budget == 1 / 51
    assert found.value == max(risks)
    with pytest.raises(InputError, match="got none"):
        conformal_threshold([], 0.01)
    with pytest.raises(InputError, match="between 0 and 1"):
        conformal_threshold(risks, 1.0)
