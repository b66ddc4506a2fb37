"""Each statistic against an example that was published with its result."""

from collections.abc import Sequence

import pytest
from scipy.stats import beta

from sternpost.features import contrast, delta, describe
from sternpost.stats import (
    PairedRows,
    auroc,
    change_of_hits,
    change_of_means,
    cohen_kappa,
    conformal_threshold,
    discrimination,
    grouped_threshold,
    holm,
    interaction,
    kappa_of,
    mcnemar,
    mean,
    paired_difference,
    paired_discrimination,
    rate,
)
from sternpost.types import Rate

SLEEP = ([.7, -1.6, -.2, -1.2, -.1, 3.4, 3.7, .8, 0, 2], [1.9, .8, 1.1, .1, -.1, 4.4, 5.5, 1.6, 4.6,
                                                          3.4])
"""Hours of sleep that ten patients gained by each of two drugs (Student 1908, Biometrika 6, p. 20;
R: `sleep`)."""
TEN = [str(at) for at in range(10)]
BH = [.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528,
      .7590, 1.0]
"""Fifteen comparisons of a trial (Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57; SciPy:
`false_discovery_control`)."""
CONTROL = ([13, 12, 9, 9, 8, 8, 12, 11, 9, 9, 8, 11, 4, 5, 7, 7],
           [13, 12, 9, 9, 8, 8, 13, 12, 10, 10, 9, 13, 5, 7, 10, 10])
TREATED = ([12, 11, 10, 9, 10, 9, 9, 8, 8, 4, 7, 4, 5, 3, 3, 0],
           [12, 11, 10, 9, 11, 10, 10, 9, 9, 5, 9, 7, 10, 6, 10, 7])
"""Pups that lived, and pups, of 16 litters each (Weil 1970; SAS/STAT: NLMIXED, example 2)."""


def of(hits: int, n: int) -> Rate:
    found = rate([True] * hits + [False] * (n - hits))
    assert found is not None
    return found


def pairs(table: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Two raters' labels of the rows that a table counts."""
    rows = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in rows], [j for _, j in rows]


def response() -> tuple[list[bool], list[bool]]:
    """Complete response of 161 patients before and after consolidation (Cavo et al. 2012, as in R's
    `contingencytables` of Fagerland, Lydersen & Laake, chapter 8: `cavo_2012`)."""
    a, b = pairs([[80, 16], [6, 59]])
    return [bool(x) for x in a], [bool(x) for x in b]


@pytest.mark.parametrize(("hits", "n", "low", "high"), [
    (81, 263, .2553, .3662), (15, 148, .0624, .1605), (0, 20, 0, .1611), (1, 29, .0061, .1718)])
def test_wilson(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3; the last three also in
    the tests of R's `ratesci`."""
    found = of(hits, n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize(("litters", "effect"), [(CONTROL, 1.232495), (TREATED, 3.952861)])
def test_a_rate_over_clusters(litters: tuple[list[int], list[int]], effect: float) -> None:
    """Rao & Scott 1992, Biometrics 48, 577-585, table 1: the design effects, as R's `PF::rsb`
    prints them."""
    homes = list(zip(*litters, strict=True))
    hits = [at < lived for lived, size in homes for at in range(size)]
    clusters = [str(at) for at, (_, size) in enumerate(homes) for _ in range(size)]
    found, alone = rate(hits, clusters), of(sum(hits), len(hits))
    assert found is not None and found.interval == "cluster"
    assert (found.hits, found.n) == (alone.hits, alone.n)
    student = 2.131  # 15 degrees of freedom
    half = student * (effect * found.share * (1 - found.share) / found.n) ** .5
    assert found.high - found.low == pytest.approx(2 * half, rel=.1)
    assert found.low == pytest.approx(found.share - half, abs=.05)
    wider = (found.high - found.low) / (alone.high - alone.low)
    assert wider == pytest.approx(effect ** .5 * student / 1.96, rel=.1)


@pytest.mark.parametrize(("counts", "low", "high"), [
    ((56, 70, 48, 80), .0524, .3339), ((9, 10, 3, 10), .1705, .8090),
    ((6, 7, 2, 7), .0582, .8062), ((5, 56, 0, 29), -.0381, .1926),
    ((0, 10, 0, 20), -.1611, .2775), ((0, 10, 0, 10), -.2775, .2775),
    ((10, 10, 0, 20), .6791, 1), ((10, 10, 0, 10), .6075, 1)])
def test_a_difference_of_two_rates(counts: tuple[int, ...], low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10; the first, second and
    seventh also by SAS (tests of R's `DescToolsX`), the fourth in the tests of R's `ratesci`."""
    found = discrimination(of(*counts[:2]), of(*counts[2:]))
    assert (round(found.low / 100, 4), round(found.high / 100, 4)) == (low, high)


@pytest.mark.parametrize(("up", "down", "p"), [
    (16, 6, .052479), (70, 59, .378688), (80, 59, .089452), (30, 10, .002221)])
def test_mcnemar(up: int, down: int, p: float) -> None:
    """The exact conditional test: of `response` as R's `contingencytables` prints it; the others by
    VassarStats, in the tests of statsmodels (`test_mcnemar_exact`)."""
    a, b = [False] * up + [True] * down + [True] * 9, [True] * up + [False] * down + [True] * 9
    assert mcnemar(a, b) == pytest.approx(p, abs=1e-6)


def test_paired_shares() -> None:
    """Wald's interval of `response`: .0621 (.0058 to .1184); McNemar's exact p .0525."""
    a, b = response()
    found = paired_difference(a, b)
    assert found.points == pytest.approx(6.21, abs=.005)
    assert (found.low, found.high) == pytest.approx((.58, 11.84), abs=.7)  # one patient is .62
    change = change_of_hits(a, b, [str(at) for at in range(161)])
    assert (change.delta, change.low, change.high, change.n) == pytest.approx(
        (found.points / 100, found.low / 100, found.high / 100, 161))
    assert change.p == mcnemar(a, b) == pytest.approx(.0525, abs=5e-5)


def test_an_interaction_with_one_that_does_nothing_is_a_paired_change() -> None:
    """`response`, as above."""
    a, b = response()
    found = interaction(a, a, a, b)
    assert found == paired_difference(a, b)
    assert (found.points, found.low, found.high) == pytest.approx((6.21, .58, 11.84), abs=.7)


def test_a_change_of_d_where_only_the_unsafe_side_moves() -> None:
    """`response`, as above; the safe side has 4,000 rows that stay. McNemar's asymptotic p is
    .0330, the exact one .0525."""
    a, b = response()
    stay = [False] * 4000
    found = paired_discrimination(PairedRows(a, b, [str(at) for at in range(161)]),
                                  PairedRows(stay, stay, [str(at) for at in range(4000)]))
    assert found.points.points == pytest.approx(6.21, abs=.005)
    assert (found.points.low, found.points.high) == pytest.approx((.58, 11.84), abs=.7)
    assert .0330 < found.p < .0525


def test_means_and_their_change() -> None:
    """The second drug gives 2.33 hours, 95 % interval .90 to 3.76, and 1.58 more than the first:
    .70 to 2.46, t = 4.06, p = .0028 (R: `t.test` of `sleep`, of one sample and paired)."""
    one, two = SLEEP
    second = mean(two, TEN)
    assert second is not None and second.mean == pytest.approx(2.33)
    assert (second.low, second.high) == pytest.approx((.90, 3.76), abs=.35)
    more = change_of_means(one, two, TEN)
    assert more.delta == pytest.approx(1.58)
    assert more.high - more.low == pytest.approx(2.46 - .70, rel=.25)
    assert (more.low, more.high) == pytest.approx((.70, 2.46), abs=.45)  # skewed: one gained 4.6
    assert .0005 < more.p < .01


@pytest.mark.parametrize(("table", "kappa", "error"), [
    ([[31, 12], [4, 58]], .6757, .0734),
    ([[7, 7, 2, 3], [2, 8, 3, 7], [1, 5, 4, 9], [2, 8, 9, 14]], .1293, .0686),
    ([[0, 4, 1], [0, 8, 0], [0, 1, 5]], .4842, .1380)])
def test_kappa(table: list[list[int]], kappa: float, error: float) -> None:
    """With its large-sample standard error: R's `statpsych`, example of `ci.kappa`; 91 couples
    (Hout et al. 1987; R: `vcd::SexualFun`) as `vcdExtra` prints them, `print.Kappa`; SAS, in the
    tests of statsmodels (`TestUnweightedCohens`)."""
    a, b = pairs(table)
    found = kappa_of(a, b)
    assert found is not None and found.value == cohen_kappa(a, b)
    assert round(found.value, 4) == kappa
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=.1)


def test_cohens_own_kappa() -> None:
    """Cohen's table of 200 and his .492, as R's `psych` cites them (`cohen.kappa`)."""
    found = kappa_of(*pairs([[88, 14, 18], [10, 40, 10], [2, 6, 12]]))
    assert found is not None and round(found.value, 3) == .492


def test_holm() -> None:
    """Holm's adjustment of five p-values as the manual of stdlib's `padjust` prints it (all but the
    third); and Holm at .05 rejects three of Benjamini and Hochberg's fifteen, as Bonferroni's does
    in the paper."""
    assert holm([.319, .201, .4, .374, .113]) == pytest.approx([.957, .804, .957, .957, .565])
    assert [p <= .05 for p in holm(BH)] == [True] * 3 + [False] * 12


def test_benjamini_hochberg() -> None:
    """Benjamini & Hochberg 1995: four of fifteen at .05; the fourth adjusted as SciPy prints it."""
    for module in (contrast, delta, describe):
        q = module.false_discovery_control(BH)
        assert (q <= .05).tolist() == [True] * 4 + [False] * 11
        assert q[3] == pytest.approx(.035625)


def test_auroc() -> None:
    """Hanley & McNeil 1982, Radiology 143, 29-36, tables I and II: 109 CT images in five grades,
    area .893, standard error .032 (Stata, `roctab`: .8932 and, by DeLong, .0307)."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    rows = [(grade, harmful) for side, harmful in ((normal, False), (abnormal, True))
            for grade, n in enumerate(side) for _ in range(n)]
    found = auroc([float(grade) for grade, _ in rows], [harmful for _, harmful in rows])
    assert round(found.value, 3) == .893
    assert found.high - found.low == pytest.approx(2 * 1.96 * .032, rel=.1)


@pytest.mark.parametrize(("n", "budget", "slack", "tolerance"), [
    (11, .1, .1, .9), (90, .1, .05, .9), (2429, .1, .01, .9), (128, .1, .05, .95),
    (227, .1, .05, .99), (40, .2, .1, .9), (22, .05, .05, .9)])
def test_conformal(n: int, budget: float, slack: float, tolerance: float) -> None:
    """Marques F. 2023 (arXiv 2303.02770), table 1: the fewest calibration rows whose coverage lies
    within the slack of what was asked for with that probability."""
    assert within(n, budget, slack) >= tolerance > within(n - 1, budget, slack)


def within(n: int, budget: float, slack: float) -> float:
    """How probably the coverage of a threshold from n rows lies that close to 1 - budget."""
    risks = [at / n for at in range(1, n + 1)]
    found = conformal_threshold(risks, budget).value
    assert grouped_threshold(risks, ["one"] * n, budget).value == found
    rank = round(found * n)
    covered = beta(rank, n + 1 - rank)
    assert covered.mean() >= 1 - budget - 1e-9
    return float(covered.cdf(1 - budget + slack) - covered.cdf(1 - budget - slack))
