from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from sternpost.errors import InputError
from sternpost.stats import discrimination, interaction, mcnemar, paired_difference, rate
from sternpost.types import Points, Rate

counts = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
flags = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def of(hits, n) -> Rate:
    result = rate([True] * hits + [False] * (n - hits))
    assert result is not None
    return result


@given(counts, counts)
def test_discrimination_is_newcombes_interval_in_points(unsafe, safe):
    d = discrimination(of(*unsafe), of(*safe))
    low, high = confint_proportions_2indep(*unsafe, *safe, method="newcomb")  # pyright: ignore
    assert d.points == pytest.approx(100 * (unsafe[0] / unsafe[1] - safe[0] / safe[1]))
    assert (d.low, d.high) == pytest.approx((100 * low, 100 * high), abs=1e-6)
    assert -100 - 1e-9 <= d.low <= d.points <= d.high <= 100 + 1e-9


def test_discrimination_uses_the_intervals_it_is_given():
    narrow = discrimination(of(80, 100), of(10, 100))
    wide = discrimination(Rate(80, 100, 0.5, 0.95, "cluster"), of(10, 100))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_paired_difference_agrees_with_a_naive_bootstrap():
    rng = np.random.default_rng(1)
    a = rng.random(300) < 0.4
    b = a ^ (rng.random(300) < 0.2)
    change = b.astype(float) - a
    naive = [rng.choice(change, 300).mean() for _ in range(4000)]
    d = paired_difference(a.tolist(), b.tolist())
    assert d.points == pytest.approx(100 * change.mean())
    assert (d.low, d.high) == pytest.approx(100 * np.percentile(naive, [2.5, 97.5]), abs=1.2)


def test_paired_difference_resamples_clusters():
    a, b = [False] * 200, [i // 10 % 2 == 0 for i in range(200)]
    alone = paired_difference(a, b)
    together = paired_difference(a, b, [str(i // 10) for i in range(200)])
    assert together.points == alone.points == 50
    assert together.high - together.low > 2 * (alone.high - alone.low)


@settings(max_examples=30, deadline=None)
@given(flags)
def test_paired_difference_holds_its_value_and_is_the_same_again(rows):
    a, b = zip(*rows, strict=True)
    d = paired_difference(a, b, seed=3)
    assert d == paired_difference(a, b, seed=3)
    assert -100 - 1e-9 <= d.low <= d.points + 1e-9 <= d.high + 2e-9 <= 100 + 1e-6


@settings(max_examples=60, deadline=None)
@given(flags)
def test_an_interval_is_no_surer_than_mcnemars_exact_p(rows):
    a, b = zip(*rows, strict=True)
    d = paired_difference(a, b)
    if mcnemar(a, b) > .05:
        assert d.low <= 1e-9 and d.high >= -1e-9


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 1), (0, 1), (1, 0)])
def test_rows_all_alike_leave_doubt(a, b):
    few, many = (paired_difference([bool(a)] * n, [bool(b)] * n) for n in (10, 100))
    assert few.points == 100 * (b - a)
    assert 0 < many.high - many.low < few.high - few.low


def test_one_cluster_tells_nothing_of_a_difference():
    assert paired_difference([True, False], [True, True], ["a", "a"]) == Points(50, -100, 100)


@given(flags)
def test_mcnemar_is_an_exact_coin_test(rows):
    up = sum(b and not a for a, b in rows)
    down = sum(a and not b for a, b in rows)
    n, k = up + down, min(up, down)
    naive = min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2 ** n)
    a, b = zip(*rows, strict=True)
    assert mcnemar(a, b) == pytest.approx(naive)


def test_rows_must_pair():
    with pytest.raises(InputError, match="a has 1, b has 2"):
        paired_difference([True], [True, False])
    with pytest.raises(InputError, match="a has 1, b has 2"):
        mcnemar([True], [True, False])
    with pytest.raises(InputError, match="at least one row"):
        paired_difference([], [])


def test_an_interaction_is_what_two_do_beyond_each_alone():
    none, a, b = [False] * 40, [True] * 10 + [False] * 30, [False] * 10 + [True] * 10 + [False] * 20
    both = [True] * 20 + [False] * 20  # exactly the one and the other
    additive = interaction(none, a, b, both)
    assert (additive.points, additive.low < 0 < additive.high) == (0, True)
    more = interaction(none, a, b, [True] * 40)
    assert more.points == pytest.approx(50)
    assert 0 < more.low < more.points < more.high <= 100
    alike = interaction([True] * 9, [False] * 9, [False] * 9, [True] * 9)
    assert alike.points == 200
    assert 100 < alike.low < alike.high <= 200


def test_an_interaction_resamples_whole_clusters():
    rng = np.random.default_rng(0)
    columns = [np.repeat(rng.random(12) < 0.5, 8).tolist() for _ in range(4)]
    one = interaction(*columns)
    together = interaction(*columns, clusters=[str(i // 8) for i in range(96)])
    assert together.points == one.points
    assert together.high - together.low > 1.5 * (one.high - one.low)
