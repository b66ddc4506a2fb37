"""A gate a category, on streams where each category has its own coordinate."""

import numpy as np
import pytest
import torch

from sternpost.errors import GateError
from sternpost.gates import CategoryGate, fit_categories, fit_cosine
from sternpost.types import Gate
from streams import HERE, D, every_gate

NAMES = ("fraud", "theft", "arson")


def kinds(n: int, seed: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray, list[str | None]]:
    """Half benign, which have categories too; fraud in coordinate 0, theft in 1; little arson."""
    h = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    y = np.arange(n) % 2 == 0
    which = (np.arange(n) // 2) % 2
    h[y & (which == 0), 0] += 4
    h[y & (which == 1), 1] += 4
    names: list[str | None] = [NAMES[at] for at in which]
    names[0] = names[2] = "arson"
    names[4] = None
    return h, y, np.array([f"c{at}" for at in range(n)]), names


def fit(h: torch.Tensor, y: np.ndarray, clusters: np.ndarray) -> Gate:
    return fit_cosine(h, y, clusters, HERE)


def test_each_category_has_its_column() -> None:
    h, y, clusters, names = kinds(400, 0)
    gate = fit_categories(h, y, clusters, names, fit)
    assert gate.categories == ("fraud", "theft")
    assert gate.left_out == ("arson",)
    new, other, _, given = kinds(400, 1)
    risks = gate.risks(new)
    assert risks.shape == (400, 3)
    assert torch.equal(risks[:, 0], gate.risk(new))
    overall = fit(h, y, clusters)
    assert torch.equal(gate.risk(new), overall.risk(new))
    for at, name in enumerate(gate.categories):
        mine = torch.tensor(other & np.array([n == name for n in given]))
        rest = torch.tensor(other) & ~mine
        assert risks[mine, at + 1].mean() > 0.85
        assert risks[rest, at + 1].mean() < 0.5
        assert risks[~torch.tensor(other), at + 1].mean() < 0.15


def test_a_category_is_fitted_against_benign_rows_alone() -> None:
    h, y, clusters, names = kinds(400, 0)
    gate = fit_categories(h, y, clusters, names, fit)
    rows = ~y | np.array([name == "fraud" for name in names])
    assert torch.equal(gate.members[0].risk(h), fit(h[rows], y[rows], clusters[rows]).risk(h))


def test_gates_and_names_must_fit() -> None:
    one = every_gate()["residual"]
    with pytest.raises(GateError, match="got 1 gates for 2 categories"):
        CategoryGate(one, (one,), ("a", "b"))
