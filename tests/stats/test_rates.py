import random
import time
import warnings
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sternpost.errors import InputError
from sternpost.stats import rate
from sternpost.types import Rate


def naive_wilson(hits, n, z=1.959963984540054):
    p = hits / n
    centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def naive_bootstrap(hits, clusters, resamples=4000):
    rng, rows = random.Random(7), {}
    for hit, cluster in zip(hits, clusters, strict=True):
        rows.setdefault(cluster, []).append(hit)
    draws = ([h for c in rng.choices(list(rows), k=len(rows)) for h in rows[c]]
             for _ in range(resamples))
    shares = sorted(sum(draw) / len(draw) for draw in draws)
    return shares[int(0.025 * resamples)], shares[int(0.975 * resamples)]


def made(hits, clusters=None, seed=0, interval=None) -> Rate:
    result = rate(hits, clusters, seed, interval)
    assert result is not None
    return result


def test_no_rows_is_no_rate():
    assert rate([]) is None
    assert rate([], []) is None


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_wilson_as_the_formula(hits):
    r = made(hits)
    assert (r.hits, r.n, r.interval) == (sum(hits), len(hits), "wilson")
    assert (r.low, r.high) == pytest.approx(naive_wilson(sum(hits), len(hits)), abs=1e-12)
    assert 0 <= r.low <= r.share <= r.high <= 1
    assert (r.low == 0) == (r.hits == 0)
    assert (r.high == 1) == (r.hits == r.n)


def test_clusters_of_one_row_are_no_clusters():
    hits = [True, False, True, True]
    assert rate(hits, ["a", "b", "c", "d"]) == rate(hits)
    assert made(hits, ["a", "b", "c", "d"], interval="cluster").interval == "cluster"


def test_cluster_bootstrap_agrees_with_a_naive_one():
    rng = random.Random(3)
    clusters = [str(i // 4) for i in range(200)]
    tilt = {c: rng.random() for c in clusters}
    hits = [rng.random() < tilt[c] for c in clusters]
    r = made(hits, clusters)
    assert (r.hits, r.n, r.interval) == (sum(hits), 200, "cluster")
    assert (r.low, r.high) == pytest.approx(naive_bootstrap(hits, clusters), abs=0.02)
    alone = made(hits)
    assert r.high - r.low > 1.2 * (alone.high - alone.low)  # rows of a cluster are no news


def test_copies_of_rows_add_nothing():
    hits = [i % 3 == 0 for i in range(60)]
    copied = made(hits * 5, [str(i) for i in range(60)] * 5)
    once = made(hits)
    assert copied.n == 300
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.15)


@pytest.mark.parametrize("hit", [True, False])
def test_at_the_ends_wilson_counts_clusters(hit):
    r = made([hit] * 30, [str(i // 3) for i in range(30)])
    assert (r.hits, r.n, r.interval) == (30 * hit, 30, "cluster")
    assert (r.low, r.high) == pytest.approx(naive_wilson(10 * hit, 10), abs=1e-12)


def test_one_cluster_tells_nothing():
    r = made([True, False, True], ["a", "a", "a"])
    assert (r.low, r.high, r.interval) == (0, 1, "cluster")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh")), min_size=2, max_size=40),
       st.randoms(use_true_random=False))
def test_same_seed_same_interval_in_any_row_order(rows, shuffler):
    mixed = list(rows)
    shuffler.shuffle(mixed)
    one, two = (rate([h for h, _ in r], [c for _, c in r], 5, "cluster") for r in (rows, mixed))
    assert one == two
    assert one is not None and 0 <= one.low <= one.high <= 1


def test_another_seed_another_draw():
    hits = [i % 3 == 0 for i in range(120)]
    clusters = [str(i // 5 * 7 % 11) for i in range(120)]
    seeds = {made(hits, clusters, seed).low for seed in range(8)}
    assert len(seeds) > 1


def test_five_thousand_rows_are_quick():
    hits = [i % 7 == 0 for i in range(5000)]
    start = time.perf_counter()
    rate(hits, [str(i // 2) for i in range(5000)])
    assert time.perf_counter() - start < 5


def test_no_warnings_on_small_data():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rate([True, False], ["a", "b"], interval="cluster")
        rate([True, False, True, False], ["a", "a", "b", "b"])


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="hits has 2, clusters has 1"):
        rate([True, False], ["a"])
    with pytest.raises(InputError, match="needs clusters"):
        rate([True, False], interval="cluster")
