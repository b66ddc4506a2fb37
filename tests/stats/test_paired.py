"""The paired bootstrap of D: against a naive one, calibrated under no difference; Holm by hand."""

import numpy as np
import pytest

from sternpost.errors import InputError
from sternpost.stats import PairedRows, holm, paired_discrimination


def side(rng: np.random.Generator, n: int, a: float, b: float, size: int = 2) -> PairedRows:
    """Rows in clusters of `size` that share their luck."""
    clusters = [str(at // size) for at in range(n)]
    luck = rng.random(n // size).repeat(size)
    return PairedRows((luck < a).tolist(), (luck < b).tolist(), clusters)


def test_it_is_a_naive_bootstrap_over_clusters() -> None:
    rng = np.random.default_rng(0)
    unsafe, safe = side(rng, 200, .4, .6), side(rng, 300, .1, .15)
    found = paired_discrimination(unsafe, safe)
    naive = []
    for _ in range(600):
        total = 0.0
        for rows, sign in ((unsafe, 1), (safe, -1)):
            names = sorted(set(rows.clusters))
            picked = rng.choice(names, len(names))
            change = [int(y) - int(x) for name in picked for x, y, c in zip(
                rows.a, rows.b, rows.clusters, strict=True) if c == name]
            total += sign * float(np.mean(change))
        naive.append(100 * total)
    assert found.points.points == pytest.approx(
        100 * (np.mean(unsafe.b) - np.mean(unsafe.a) - np.mean(safe.b) + np.mean(safe.a)))
    assert found.points.low == pytest.approx(np.quantile(naive, .025), abs=1.5)
    assert found.points.high == pytest.approx(np.quantile(naive, .975), abs=2)  # moves are skewed
    assert found.p < .01


def test_without_a_difference_p_is_small_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    small = 0
    for _ in range(100):
        a, b = rng.random(120) < .5, rng.random(120) < .5
        rows = PairedRows(a.tolist(), b.tolist(), [str(at // 2) for at in range(120)])
        c, d = rng.random(120) < .2, rng.random(120) < .2
        safe = PairedRows(c.tolist(), d.tolist(), [str(at) for at in range(120)])
        small += paired_discrimination(rows, safe).p <= .05
    assert small / 100 <= .05 + 2 * (.05 * .95 / 100) ** .5 + .01


def test_holm_multiplies_and_never_falls() -> None:
    assert holm([.01, .04, .03]) == pytest.approx([.03, .06, .06])
    assert holm([]) == []


def test_a_side_without_rows_is_refused() -> None:
    rows = PairedRows([True], [False], ["a"])
    with pytest.raises(InputError, match="none of one"):
        paired_discrimination(rows, PairedRows([], [], []))
