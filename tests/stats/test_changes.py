"""Means and their changes where there is little to draw from: no more is claimed than is known."""

import numpy as np
import pytest

from sternpost.errors import InputError
from sternpost.stats import (
    PairedRows,
    auroc,
    change_of_hits,
    change_of_means,
    mcnemar,
    mean,
    paired_difference,
    paired_discrimination,
    rate,
)


def test_one_cluster_tells_nothing_of_a_change() -> None:
    found = change_of_means([0, 0, 0], [1, 2, 3], ["a"] * 3)
    assert (found.delta, found.low, found.high, found.p) == (2, 1, 3, 1)
    hits = change_of_hits([False] * 4, [True, True, True, False], ["a"] * 4)
    assert (hits.low, hits.high, hits.p) == (-1, 1, 1)
    rows = PairedRows([False] * 5, [True] * 5, ["a"] * 5)
    still = PairedRows([True] * 5, [True] * 5, list("abcde"))
    assert paired_discrimination(rows, still).p == 1


@pytest.mark.parametrize(("k", "p"), [(2, .5), (4, .125), (8, 2 ** -7)])
def test_few_clusters_that_all_rise_are_no_rarer_than_so_many_coins(k: int, p: float) -> None:
    rise = [1 + at / 10 for at in range(k)]
    assert change_of_means([0.0] * k, rise, [str(at) for at in range(k)]).p == p


def test_many_clusters_that_all_rise_are_as_rare_as_the_draws_can_say() -> None:
    found = change_of_means([0.0] * 40, [1 + at / 10 for at in range(40)],
                            [str(at) for at in range(40)])
    assert found.p == 1 / 4000 and found.low > 0


def test_nothing_moved() -> None:
    same = change_of_means([1, 2], [1, 2], ["a", "b"])
    assert (same.delta, same.low, same.high, same.p) == (0, 0, 0, 1)
    hits = change_of_hits([True] * 9, [True] * 9, [str(at) for at in range(9)])
    assert hits.delta == 0 and hits.low < 0 < hits.high and hits.p == 1


def test_rows_that_stand_alone_take_mcnemars_p_and_clusters_do_not() -> None:
    a, b = [False] * 20, [True] * 12 + [False] * 8
    alone = change_of_hits(a, b, [str(at) for at in range(20)])
    assert alone.p == mcnemar(a, b)
    assert change_of_hits(a, b, [str(at // 4) for at in range(20)]).p > alone.p


def test_clusters_that_are_all_alike_leave_doubt() -> None:
    """Each of four has one hit of two: no resample differs, yet four clusters are not many."""
    clusters = ["a", "a", "b", "b", "c", "c", "d", "d"]
    found = rate([True, False] * 4, clusters)
    assert found is not None and found.low < .3 and found.high > .7
    move = paired_difference([False] * 8, [True, False] * 4, clusters)
    assert move.points == 50 and move.low < 30 and move.high > 70
    still = PairedRows([True] * 8, [True] * 8, clusters)
    both = paired_discrimination(still, still).points
    assert both.low < 0 < both.high
    perfect = auroc([0, 0, 0, 1, 1, 1], [False] * 3 + [True] * 3)
    assert perfect.value == perfect.high == 1 and perfect.low < .5


def test_a_mean_is_wider_for_clusters_and_the_same_in_any_order() -> None:
    values = np.random.default_rng(0).normal(size=50).repeat(4)
    clusters = np.arange(50).repeat(4)
    order = np.random.default_rng(1).permutation(200)
    one = mean(values.tolist(), [str(c) for c in clusters])
    two = mean(values[order].tolist(), [str(c) for c in clusters[order]])
    alone = mean(values.tolist(), [str(at) for at in range(200)])
    assert one is not None and two is not None and alone is not None
    assert (one.low, one.high) == pytest.approx((two.low, two.high))
    assert one.high - one.low > 1.5 * (alone.high - alone.low)
    assert mean([], []) is None


def test_rows_must_pair() -> None:
    with pytest.raises(InputError, match="at least one row"):
        change_of_means([], [], [])
    with pytest.raises(InputError, match="a has 1, b has 2"):
        change_of_means([1], [1, 2], ["a"])
