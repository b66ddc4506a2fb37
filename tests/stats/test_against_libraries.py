"""Each statistic is the libraries' own, to 1e-9, on random inputs.

Where an interval is a bootstrap, the library is scipy's `bootstrap` over whole rows of the data,
and the same draws.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from sternpost.stats import (
    PairedRows,
    auroc,
    change_of_hits,
    change_of_means,
    cohen_kappa,
    conformal_threshold,
    discrimination,
    holm,
    interaction,
    kappa_of,
    mcnemar,
    mean,
    paired_difference,
    paired_discrimination,
    rate,
)
from sternpost.stats.clusters import RESAMPLES
from sternpost.types import Rate

EXACT = {"rel": 0, "abs": 1e-9}
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)
COUNTS = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
FLAGS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def of(hits: int, n: int) -> Rate:
    found = rate([True] * hits + [False] * (n - hits))
    assert found is not None
    return found


def scipys(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """scipy's BCa interval of a mean over rows, clusters drawn, at the level for what they know."""
    sums = np.array(sorted((values[clusters == c].sum(), (clusters == c).sum())
                           for c in np.unique(clusters)), dtype=float)
    k = len(sums)
    off = sums[:, 0] - values.mean() * sums[:, 1]
    heavy = np.mean(off ** 4) / np.mean(off ** 2) ** 2
    known = min(k - 1, 2 * k / (heavy - 1)) if heavy > 1 + 1e-9 else k - 1
    wide = scipy_stats.norm.cdf((k / (k - 1)) ** .5 * scipy_stats.t.ppf(.975, known))
    found = scipy_stats.bootstrap(
        (np.arange(k),), lambda at, axis: sums[at, 0].sum(axis) / sums[at, 1].sum(axis),
        n_resamples=RESAMPLES, batch=200, confidence_level=2 * wide - 1, method="BCa",
        rng=np.random.default_rng(0))
    return found.confidence_interval.low, found.confidence_interval.high


def coins(change: np.ndarray) -> tuple[float, float]:
    """Ends that scipy's exact interval of the share that rises gives, of the rows that differ."""
    up, moved = int((change > 0).sum()), int((change != 0).sum())
    share = scipy_stats.binomtest(up, moved).proportion_ci(.95, "exact")
    ends = (moved / len(change) * (2 * end - 1) for end in (share.low, share.high))
    return next(ends), next(ends)


def flags(rng: np.random.Generator, n: int = 120) -> np.ndarray:
    return rng.random(n) < rng.uniform(.2, .8)


def names(numbers: np.ndarray) -> list[str]:
    return [str(at) for at in numbers]


@given(COUNTS)
def test_wilson(counts: tuple[int, int]) -> None:
    hits, n = counts
    found = of(hits, n)
    interval = scipy_stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), **EXACT)
    assert (found.low, found.high) == pytest.approx(
        proportion_confint(hits, n, method="wilson"), **EXACT)


@given(COUNTS, COUNTS)
def test_discrimination(unsafe: tuple[int, int], safe: tuple[int, int]) -> None:
    found = discrimination(of(*unsafe), of(*safe))
    low, high = confint_proportions_2indep(*unsafe, *safe, method="newcomb")  # pyright: ignore
    assert (found.low / 100, found.high / 100) == pytest.approx((low, high), **EXACT)


@given(FLAGS)
def test_mcnemar(rows: list[tuple[bool, bool]]) -> None:
    a, b = zip(*rows, strict=True)
    up, down = sum(y and not x for x, y in rows), sum(x and not y for x, y in rows)
    p = scipy_stats.binomtest(up, up + down).pvalue if up + down else 1.0
    assert mcnemar(a, b) == pytest.approx(p, **EXACT)
    table = [[0, up], [down, len(rows) - up - down]]
    assert mcnemar(a, b) == pytest.approx(statsmodels_mcnemar(table).pvalue, **EXACT)
    assert change_of_hits(a, b, names(np.arange(len(a)))).p == mcnemar(a, b)


@settings(max_examples=3, deadline=None)
@given(P_VALUES)
def test_holm_and_benjamini_hochberg(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], **EXACT)
    assert scipy_stats.false_discovery_control(p) == pytest.approx(
        multipletests(p, method="fdr_bh")[1], **EXACT)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=60))
def test_kappa(rows: list[tuple[str, str]]) -> None:
    a, b = ([row[side] for row in rows] for side in (0, 1))
    if len({*a, *b}) > 1:
        assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b), **EXACT)
        found = kappa_of(a, b)
        assert found is not None
        assert found.value == pytest.approx(cohen_kappa_score(a, b), **EXACT)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=60))
def test_auroc(rows: list[tuple[int, bool]]) -> None:
    risks, harmful = [r / 9 for r, _ in rows], [h for _, h in rows]
    if any(harmful) and not all(harmful):
        found = auroc(risks, harmful).value
        assert found == pytest.approx(float(roc_auc_score(harmful, risks)), **EXACT)


@given(st.lists(st.floats(0, 1), min_size=20, max_size=300), st.floats(.05, .5))
def test_conformal(risks: list[float], budget: float) -> None:
    n = len(risks)
    rank = min(n, np.ceil((n + 1) * (1 - budget) - 1e-9))
    assert conformal_threshold(risks, budget).value == pytest.approx(
        np.quantile(risks, (rank - .5) / n, method="inverted_cdf"), **EXACT)  # the rank-th


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [1, 4])
def test_bootstraps(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    none, a, b, both = (flags(rng) for _ in range(4))
    clusters = np.arange(120) // size
    found = rate(a.tolist(), names(clusters), interval="cluster")
    assert found is not None
    assert (found.low, found.high) == pytest.approx(scipys(a * 1.0, clusters), **EXACT)
    move = paired_difference(a.tolist(), b.tolist(), names(clusters))
    low, high = scipys(b * 1.0 - a, clusters)
    if size == 1:
        exact = coins(b * 1.0 - a)
        low, high = min(low, exact[0]), max(high, exact[1])
    assert (move.low, move.high) == pytest.approx((100 * low, 100 * high), **EXACT)
    more = interaction(*(x.tolist() for x in (none, a, b, both)), clusters=names(clusters))
    low, high = scipys(both * 1.0 - a - b + none, clusters)
    assert (more.low, more.high) == pytest.approx((100 * low, 100 * high), **EXACT)
    x, y = rng.normal(size=(2, 120))
    middle = mean(x.tolist(), names(clusters))
    assert middle is not None and middle.mean == pytest.approx(x.mean(), **EXACT)
    assert (middle.low, middle.high) == pytest.approx(scipys(x, clusters), **EXACT)
    change = change_of_means(x.tolist(), y.tolist(), names(clusters))
    assert (change.low, change.high) == pytest.approx(scipys(y - x, clusters), **EXACT)
    hits = change_of_hits(a.tolist(), b.tolist(), names(clusters))
    assert (100 * hits.low, 100 * hits.high) == pytest.approx((move.low, move.high), **EXACT)


@pytest.mark.parametrize("seed", range(3))
def test_a_change_of_d(seed: int) -> None:
    """Each side's interval as scipy's, put together as statsmodels puts two rates' together."""
    rng, sides, spans, k = np.random.default_rng(seed), [], [], np.arange(120)
    for _ in range(2):
        a, b = flags(rng), flags(rng)
        sides.append(PairedRows(a.tolist(), b.tolist(), names(k)))
        boot, exact = scipys(b * 1.0 - a, k), coins(b * 1.0 - a)
        spans.append((float((b * 1.0 - a).mean()), min(boot[0], exact[0]), max(boot[1], exact[1])))
    found = paired_discrimination(*sides).points
    (d1, l1, h1), (d2, l2, h2) = spans
    assert (found.points / 100, found.low / 100, found.high / 100) == pytest.approx(
        (d1 - d2, d1 - d2 - np.hypot(d1 - l1, h2 - d2), d1 - d2 + np.hypot(h1 - d1, d2 - l2)),
        **EXACT)


@pytest.mark.parametrize(("k", "shift"), [(20, 0), (20, .5), (200, .2)])
def test_the_p_of_a_change_is_near_students(k: int, shift: float) -> None:
    """A bootstrap of normal changes and a t test tell the same story."""
    moved = scipy_stats.norm.ppf((np.arange(k) + .5) / k) + shift  # no chance but the draws'
    found = change_of_means([0.0] * k, moved.tolist(), names(np.arange(k)))
    assert found.p == pytest.approx(scipy_stats.ttest_1samp(moved, 0).pvalue, rel=.3, abs=.03)
    student = scipy_stats.ttest_1samp(moved, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=.08)
