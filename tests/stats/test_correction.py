"""Rogan-Gladen: published examples, and how often the interval holds the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sternpost.errors import InputError
from sternpost.stats import Share, cohen_kappa, corrected_rate, kappa_of, rate
from sternpost.types import Rate


def of(hits: int, n: int) -> Rate:
    found = rate([True] * hits + [False] * (n - hits))
    assert found is not None
    return found


def test_the_herd_of_epirs_manual() -> None:
    """epi.prev of the R package epiR: 23 of 150 cows test positive, sensitivity 96 %, specificity
    89 %: 5.1 cases per 100 cows, 95 % interval 0 to 13."""
    found = corrected_rate(of(23, 150), Share(0.96, None), Share(0.89, None))
    assert found.value == pytest.approx(0.05098, abs=1e-5)
    assert found.low == 0.0
    assert found.high == pytest.approx(0.13, abs=0.005)
    assert found.raw.hits == 23


def test_the_children_of_epirs_manual() -> None:
    """The same page, after Moujaber et al. (2008): 6 of 151, 96.4 %, 92.7 %: 0 per 100, up to 1.3
    (by Clopper-Pearson; Wilson's upper end is a little above)."""
    found = corrected_rate(of(6, 151), Share(0.964, None), Share(0.927, None))
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(0.013, abs=0.002)


def test_a_perfect_judge_corrects_nothing() -> None:
    raw = of(30, 100)
    found = corrected_rate(raw, Share(1.0, None), Share(1.0, None))
    assert (found.value, found.low, found.high) == pytest.approx((0.3, raw.low, raw.high))


def test_measured_errors_widen_the_interval() -> None:
    known = corrected_rate(of(60, 200), Share(0.9, None), Share(0.95, None))
    few = corrected_rate(of(60, 200), Share(0.9, 30), Share(0.95, 30))
    many = corrected_rate(of(60, 200), Share(0.9, 3000), Share(0.95, 3000))
    assert few.value == known.value == many.value
    assert few.high - few.low > 1.3 * (many.high - many.low)
    assert many.high - many.low == pytest.approx(known.high - known.low, rel=0.05)


def test_a_judge_that_tells_nothing_corrects_nothing_and_says_so() -> None:
    found = corrected_rate(of(3, 10), Share(0.5, 20), Share(0.5, 20))
    assert found.value is None
    assert "better than chance" in found.as_dict()["why"]["value"]
    assert found.as_dict()["raw"]["hits"] == 3


@pytest.mark.parametrize(("truth", "se", "sp"), [(0.3, 0.9, 0.95), (0.05, 0.85, 0.97),
                                                 (0.9, 0.8, 0.9)])
def test_the_interval_holds_the_truth_nearly_as_often_as_it_says(truth, se, sp) -> None:
    rng, n, m, held, trials = np.random.default_rng(7), 250, 100, 0, 3000
    for _ in range(trials):
        hits = int(rng.binomial(n, truth * se + (1 - truth) * (1 - sp)))
        low, high = rate_bounds(hits, n)
        found = corrected_rate(Rate(hits, n, low, high), Share(rng.binomial(m, se) / m, m),
                               Share(rng.binomial(m, sp) / m, m))
        held += found.low <= truth <= found.high
    assert 0.93 <= held / trials <= 0.985


def rate_bounds(hits: int, n: int) -> tuple[float, float]:
    """Wilson's, fast; the correction of measured errors does not use them."""
    return 0.0, 1.0


def test_what_clusters_are_worth_widens_it() -> None:
    alone = corrected_rate(Rate(50, 100, 0.404, 0.596), Share(0.9, 500), Share(0.9, 500))
    hang = corrected_rate(Rate(50, 100, 0.30, 0.70, "cluster"), Share(0.9, 500), Share(0.9, 500))
    assert hang.high - hang.low > 1.7 * (alone.high - alone.low)


@given(st.integers(0, 40), st.floats(0.55, 1), st.floats(0.55, 1), st.integers(2, 300))
def test_the_value_lies_in_its_interval_and_all_are_fractions(hits, se, sp, m) -> None:
    found = corrected_rate(of(hits, 40), Share(se, m), Share(sp, m))
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(("se", "sp"), [(Share(1.2, 5), Share(1, 5)), (Share(0.9, 0), Share(1, 5)),
                                        (Share(float("nan"), 5), Share(1, 5))])
def test_shares_that_are_none_are_refused(se, sp) -> None:
    with pytest.raises(InputError, match="fraction"):
        corrected_rate(of(3, 10), se, sp)


# ---- kappa ---------------------------------------------------------------------------------------

A = ["r"] * 45 + ["c"] * 15 + ["r"] * 25 + ["c"] * 15
B = ["r"] * 45 + ["r"] * 15 + ["c"] * 25 + ["c"] * 15


def test_kappa_is_cohens_and_its_interval_is_statsmodels() -> None:
    """Table 45, 25, 15, 15: kappa 0.1304 (as in Wikipedia's article on Cohen's kappa)."""
    from statsmodels.stats.inter_rater import cohens_kappa

    found = kappa_of(A, B)
    assert found.value == pytest.approx(0.1304, abs=1e-4) == cohen_kappa(A, B)
    known = cohens_kappa(np.array([[45, 25], [15, 15]]))
    assert (found.low, found.high) == pytest.approx((known.kappa_low, known.kappa_upp), abs=0.02)
    assert found.as_dict() == {"value": found.value, "low": found.low, "high": found.high, "n": 100}


def test_kappas_rows_that_hang_together_widen_its_interval() -> None:
    alone = kappa_of(A * 4, B * 4)
    hang = kappa_of(A * 4, B * 4, list(range(100)) * 4)
    assert hang.value == alone.value
    assert hang.high - hang.low > 1.7 * (alone.high - alone.low)
    assert hang == kappa_of(A * 4, B * 4, [f"p{i}" for i in range(100)] * 4)


def test_full_agreement_knows_doubt_and_one_label_has_no_kappa() -> None:
    found = kappa_of(["r", "c"] * 10, ["r", "c"] * 10)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.4 < found.low < 0.9
    assert kappa_of(["r"], ["r"]) is None
    assert kappa_of([], []) is None
