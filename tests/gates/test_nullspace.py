"""The null-space gate against its definition in d_model dimensions."""

import numpy as np
import pytest
import torch

from sternpost.errors import GateError
from sternpost.gates import fit_nullspace
from sternpost.gates.nullspace import RIDGE, SHARES, _readers
from streams import HERE

D = 40


def spread(n: int, seed: int, sizes: np.ndarray | None = None,
           ) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Benign streams fill 10 of 40 dimensions, and the others a little, unless `sizes` says
    otherwise; harm also stands in an 11th."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4 < 2
    h = rng.normal(size=(n, D)) * (np.where(np.arange(D) < 10, 5.0, 0.05) if sizes is None
                                   else sizes)
    h[:, 0] += 20
    h[y, 10] += 2.0
    return torch.tensor(h, dtype=torch.float32), y, np.array([f"c{at // 2}" for at in range(n)])


def test_benign_rows_get_no_dose_and_harmful_ones_all_of_it() -> None:
    gate = fit_nullspace(*spread(400, 0), HERE)
    h, y, _ = spread(400, 1)
    risk = gate.risk(h).numpy()
    assert risk[~y].mean() < 0.05
    assert risk[y].mean() > 0.9
    assert torch.allclose(gate.risk(h), (h.double() @ gate.w.double()).clamp(0, 1))
    assert int(gate.w.abs().argmax()) == 10


def test_w_is_the_ridge_solution_inside_the_benign_null_space() -> None:
    """As published: the benign second moment's small eigenvectors, then primal ridge."""
    h, y, clusters = spread(400, 0, np.geomspace(5, 0.01, D))
    gate = fit_nullspace(h, y, clusters, HERE)
    x = h.double().numpy()
    values, vectors = np.linalg.eigh(x[~y].T @ x[~y])
    for share, found in zip(SHARES, _readers(x, y), strict=True):
        null = vectors[:, values < share * values.max()]
        z = x[y] @ null
        ridge = RIDGE * (z ** 2).sum() / len(z)
        w = null @ np.linalg.solve(z.T @ z + ridge * np.eye(null.shape[1]), z.sum(0))
        assert np.allclose(found, w, atol=1e-6)
        if share == gate.share:
            assert np.allclose(gate.w.numpy(), w, atol=1e-6)


def test_with_fewer_benign_rows_than_dimensions_it_is_the_same_formula() -> None:
    h, y, clusters = spread(60, 0)
    gate = fit_nullspace(h, y, clusters, HERE)
    new, other, _ = spread(400, 1)
    risk = gate.risk(new).numpy()
    assert risk[other].mean() - risk[~other].mean() > 0.5


def test_harm_inside_the_benign_directions_is_told_little_and_says_little() -> None:
    flat = np.full(D, 5.0)
    gate = fit_nullspace(*spread(400, 0, flat), HERE)
    h, y, _ = spread(400, 1, flat)
    risk = gate.risk(h).numpy()
    assert risk[y].mean() - risk[~y].mean() < 0.5


def test_the_share_is_chosen_on_rows_that_w_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def spy(x: np.ndarray, harmful: np.ndarray) -> np.ndarray:
        seen.append(x)
        return _readers(x, harmful)

    monkeypatch.setattr("sternpost.gates.nullspace._readers", spy)
    h, y, clusters = spread(100, 0)
    fit_nullspace(h, y, clusters, HERE)
    assert [len(x) for x in seen[5:]] == [100]
    missed = [set(range(100)) - {int(at) for at in (h.double().numpy()[:, None] == x[None]).all(-1)
                                 .any(1).nonzero()[0]} for x in seen[:5]]
    assert sorted(at for some in missed for at in some) == list(range(100))


def test_streams_without_a_null_space_are_refused() -> None:
    _, y, clusters = spread(100, 0)
    h = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) + 1.0
    with pytest.raises(GateError, match="nothing to read"):
        fit_nullspace(torch.ones(100, 2) + 1e-9 * h, y, clusters, HERE)
