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
"""Hours of sleep that ten patients gained by each of two drugs (Student 1908, Biometrika 6)."""
TEN = [str(at) for at in range(10)]
BH = [.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528,
      .7590, 1.0]
"""Fifteen comparisons of a trial (Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57, section 4)."""


def of(hits: int, n: int) -> Rate:
    found = rate([True] * hits + [False] * (n - hits))
    assert found is not None
    return found


def pairs(table: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Two raters' labels of the rows that a table counts."""
    rows = [(i, j) for i, row in enumerate(table) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in rows], [j for _, j in rows]


def approval() -> tuple[list[bool], list[bool]]:
    """Two surveys of 1600 voters (Agresti 1990, Categorical Data Analysis, p. 350)."""
    a, b = pairs([[570, 86], [150, 794]])
    return [bool(x) for x in a], [bool(x) for x in b]


@pytest.mark.parametrize(("hits", "n", "low", "high"), [
    (81, 263, .2553, .3662), (15, 148, .0624, .1605), (0, 20, 0, .1611), (1, 29, .0061, .1718)])
def test_wilson(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3."""
    found = of(hits, n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_a_rate_over_clusters() -> None:
    """Cochran 1977, Sampling Techniques, section 3.12: 30 households, of whose 104 members 30 had
    seen a doctor; variance .00520, 2.6 times that of 104 persons drawn singly."""
    size = map(int, "563323334432743544334331243424")
    seen = map(int, "502300000000041200132000220201")
    homes = list(zip(size, seen, strict=True))
    hits = [at < k for n, k in homes for at in range(n)]
    clusters = [str(at) for at, (n, _) in enumerate(homes) for _ in range(n)]
    found = rate(hits, clusters)
    assert found is not None and (found.hits, found.n, found.interval) == (30, 104, "cluster")
    half = 2.045 * .00520 ** .5  # Student's, 29 degrees of freedom
    assert found.high - found.low == pytest.approx(2 * half, rel=.1)
    assert found.low == pytest.approx(30 / 104 - half, abs=.03)
    alone = of(30, 104)
    assert (found.high - found.low) / (alone.high - alone.low) == pytest.approx(2.6 ** .5, rel=.15)


@pytest.mark.parametrize(("counts", "low", "high"), [
    ((56, 70, 48, 80), .0524, .3339), ((9, 10, 3, 10), .1705, .8090),
    ((6, 7, 2, 7), .0582, .8062), ((5, 56, 0, 29), -.0381, .1926),
    ((0, 10, 0, 20), -.1611, .2775), ((0, 10, 0, 10), -.2775, .2775),
    ((10, 10, 0, 20), .6791, 1), ((10, 10, 0, 10), .6075, 1)])
def test_a_difference_of_two_rates(counts: tuple[int, ...], low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10."""
    found = discrimination(of(*counts[:2]), of(*counts[2:]))
    assert (round(found.low / 100, 4), round(found.high / 100, 4)) == (low, high)


@pytest.mark.parametrize(("up", "down", "p"), [(7, 1, .0703), (16, 6, .0525)])
def test_mcnemar(up: int, down: int, p: float) -> None:
    """Fagerland, Lydersen & Laake 2013, BMC Medical Research Methodology 13:91: the exact
    conditional test of their two examples (tables 1 and 2)."""
    a, b = [False] * up + [True] * down + [True] * 9, [True] * up + [False] * down + [True] * 9
    assert round(mcnemar(a, b), 4) == p


def test_paired_shares() -> None:
    """Agresti 2002, Categorical Data Analysis, section 10.1.1: approval fell by .04, standard error
    .0095, 95 % interval (.02, .06)."""
    a, b = approval()
    found = paired_difference(a, b)
    assert found.points == pytest.approx(-4)
    assert (found.low, found.high) == pytest.approx((-4 - 1.96 * .95, -4 + 1.96 * .95), abs=.15)
    change = change_of_hits(a, b, [str(at) for at in range(1600)])
    assert (change.delta, change.low, change.high, change.n) == pytest.approx(
        (-.04, found.low / 100, found.high / 100, 1600))
    assert change.p == mcnemar(a, b) < .0001  # z^2 = 34.7 with the counts' own standard error


def test_an_interaction_with_one_that_does_nothing_is_a_paired_change() -> None:
    """Agresti 2002, as above."""
    a, b = approval()
    found = interaction(a, a, a, b)
    assert found == paired_difference(a, b)
    assert (found.points, found.low, found.high) == pytest.approx((-4, -5.86, -2.14), abs=.15)


def test_a_change_of_d_where_only_the_unsafe_side_moves() -> None:
    """Agresti 2002, as above; the safe side has 4,000 rows that stay."""
    a, b = approval()
    stay = [False] * 4000
    found = paired_discrimination(PairedRows(a, b, [str(at) for at in range(1600)]),
                                  PairedRows(stay, stay, [str(at) for at in range(4000)]))
    assert found.points.points == pytest.approx(-4)
    assert (found.points.low, found.points.high) == pytest.approx((-5.86, -2.14), abs=.15)
    assert found.p == 1 / 4000  # the least that so many draws can say


def test_means_and_their_change() -> None:
    """Student 1908: the second drug gives 2.33 hours, 95 % interval .90 to 3.76, and 1.58 more than
    the first: .70 to 2.46, t = 4.06, p = .0028."""
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
    ([[88, 14, 18], [10, 40, 10], [2, 6, 12]], .492, .055),
    ([[106, 10, 4], [22, 28, 10], [2, 12, 6]], .429, .0537),
    ([[75, 1, 4], [5, 4, 1], [0, 0, 10]], .676, .0877)])
def test_kappa(table: list[list[int]], kappa: float, error: float) -> None:
    """Cohen 1960, Educational and Psychological Measurement 20, 37-46; Fleiss, Cohen & Everitt
    1969, Psychological Bulletin 72, 323-327; Fleiss 1981, Statistical Methods for Rates and
    Proportions, table 13.1. Each with its standard error, by the large-sample formula of 1969 in
    the last two."""
    a, b = pairs(table)
    found = kappa_of(a, b)
    assert found is not None and found.value == cohen_kappa(a, b)
    assert round(found.value, 3) == kappa
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=.12)


def test_holm() -> None:
    """Holm's adjustment of five p-values as the manual of stdlib's `padjust` prints it; and Holm at
    .05 rejects three of Benjamini and Hochberg's fifteen, as the paper says of Bonferroni's."""
    assert holm([.319, .201, .4, .374, .113]) == pytest.approx([.957, .804, .957, .957, .565])
    assert [p <= .05 for p in holm(BH)] == [True] * 3 + [False] * 12


def test_benjamini_hochberg() -> None:
    """Benjamini & Hochberg 1995, section 4: four of fifteen at .05."""
    for module in (contrast, delta, describe):
        q = module.false_discovery_control(BH)
        assert (q <= .05).tolist() == [True] * 4 + [False] * 11
        assert q[3] == pytest.approx(.0095 * 15 / 4)


def test_auroc() -> None:
    """Hanley & McNeil 1982, Radiology 143, 29-36, table I: 109 CT images in five grades, area .893,
    standard error .032."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    rows = [(grade, harmful) for side, harmful in ((normal, False), (abnormal, True))
            for grade, n in enumerate(side) for _ in range(n)]
    found = auroc([float(grade) for grade, _ in rows], [harmful for _, harmful in rows])
    assert round(found.value, 3) == .893
    assert found.high - found.low == pytest.approx(2 * 1.96 * .032, rel=.1)


@pytest.mark.parametrize(("n", "slack"), [(22, .1), (102, .05), (2491, .01)])
def test_conformal(n: int, slack: float) -> None:
    """Angelopoulos & Bates 2021 (arXiv 2107.07511), table 1: so many rows keep coverage within the
    slack of 90 % in 90 % of calibrations."""
    risks = [at / n for at in range(1, n + 1)]
    rank = round(conformal_threshold(risks, .1).value * n)
    assert grouped_threshold(risks, ["one"] * n, .1).value == conformal_threshold(risks, .1).value
    covered = beta(rank, n + 1 - rank)
    assert covered.cdf(.9 + slack) - covered.cdf(.9 - slack) >= .9 - 2e-3
    assert covered.mean() >= .9 - 1e-9
