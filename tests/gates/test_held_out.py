"""Risks by gates that did not see a row's source."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sternpost.gates import held_out
from sternpost.stats import auroc

SOURCES = 6
NUMBER = 2 * SOURCES
"""A column that tells nothing."""


def sourced(n: int, seed: int) -> tuple[Tensor, np.ndarray, np.ndarray, np.ndarray]:
    """Six sources a side, half of the rows of the first; each has a direction of its own, and harm
    one that all share."""
    rng = np.random.default_rng(seed)
    y, which = np.arange(n) % 2 == 0, rng.choice(SOURCES, n, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    h = torch.tensor(rng.normal(size=(n, 2 * SOURCES + 2)), dtype=torch.float32)
    h[np.arange(n), which + SOURCES * ~y] += 4
    h[:, -1] += torch.tensor(2.0 * y)
    names = [f"{'bad' if harm else 'good'}{at}" for harm, at in zip(y, which, strict=True)]
    return h, y, np.array([f"c{at}" for at in range(n)]), np.array(names)


class Line:
    """The least that is a gate."""

    def __init__(self, w: Tensor) -> None:
        self.w = w

    def risk(self, h: Tensor) -> Tensor:
        return (with_one(h) @ self.w).sigmoid()


def with_one(h: Tensor) -> Tensor:
    return torch.cat([h.double(), torch.ones(len(h), 1)], 1)


def fit(h: Tensor, y: np.ndarray, clusters: np.ndarray) -> Any:
    """Least squares."""
    return Line(torch.linalg.lstsq(with_one(h), torch.tensor(2.0 * y - 1).double()[:, None])
                .solution[:, 0])


def area(risks: np.ndarray, y: np.ndarray) -> float:
    return auroc(risks.tolist(), y.tolist()).value


def test_sources_learnt_by_heart_show_as_a_gap() -> None:
    h, y, clusters, sources = sourced(600, 0)
    found = held_out(h, y, clusters, sources, fit)
    assert found.alone == ()
    assert area(found.within, y) > 0.97
    assert 0.8 < area(found.across, y) < 0.94  # Phi(2 / sqrt(2)) = 0.92 is what all share


def test_no_fit_sees_the_rows_that_it_is_asked_about() -> None:
    h, y, clusters, sources = sourced(240, 0)
    clusters[:2] = "pair"  # a harmful and a benign twin of different sources
    h[:, NUMBER] = torch.arange(240)
    asked: list[set[int]] = []
    seen: list[set[int]] = []
    sizes: list[tuple[int, int]] = []

    class Watched(Line):
        def risk(self, h: Tensor) -> Tensor:
            asked.append({int(row[NUMBER]) for row in h})
            return super().risk(h)

    def watched(h: Tensor, y: np.ndarray, clusters: np.ndarray) -> Any:
        sizes.append((int(y.sum()), int((~y).sum())))
        seen.append({int(row[NUMBER]) for row in h})
        return Watched(fit(h, y, clusters).w)

    held_out(h, y, clusters, sources, watched)
    assert len(asked) == 5 + 2 * SOURCES
    for known, new in zip(seen, asked, strict=True):
        assert not {clusters[at] for at in known} & {clusters[at] for at in new}
    for known, new in list(zip(seen, asked, strict=True))[5:]:
        assert len({sources[at] for at in new}) == 1
        assert not {sources[at] for at in known} & {sources[at] for at in new}
    assert set(sizes[5:]) == {(120, 120)}  # a side that lost a source is filled up
    for part in (asked[:5], asked[5:]):
        assert sorted(at for some in part for at in some) == list(range(240))


def test_a_source_alone_on_its_side_is_named_and_keeps_its_clusters_out() -> None:
    h, y, clusters, sources = sourced(240, 0)
    sources[y] = "bad"
    found = held_out(h, y, clusters, sources, fit)
    assert found.alone == ("bad",)
    assert np.array_equal(found.across[y], found.within[y])
    assert not np.array_equal(found.across[~y], found.within[~y])


def test_a_source_with_both_sides_is_left_out_whole() -> None:
    h, y, clusters, sources = sourced(240, 0)
    sources[np.isin(sources, ["bad0", "good0"])] = "pairs"
    found = held_out(h, y, clusters, sources, fit)
    rest = sources != "pairs"
    gate = fit(h[rest], y[rest], clusters[rest])
    assert np.corrcoef(found.across[~rest], gate.risk(h[~rest]).numpy())[0, 1] > 0.95
