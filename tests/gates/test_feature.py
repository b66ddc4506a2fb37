"""The gate of one feature against naive counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sternpost.errors import GateError
from sternpost.gates import fit_feature
from sternpost.gates.feature import areas
from streams import D, planted, rows


def test_it_is_the_feature_that_tells_harm() -> None:
    sae = planted()
    gate = fit_feature(*rows(600, 0), sae)
    h, y, _ = rows(400, 7)
    assert gate.feature == 4
    acts = torch.where(sae.pre(h)[:, 4] > 0.1, sae.pre(h)[:, 4], 0.0).double()
    assert torch.allclose(gate.risk(h), (gate.v * acts + gate.b).sigmoid(), atol=1e-5)
    risk = gate.risk(h).numpy()
    assert risk[y].mean() > risk[~y].mean() + 0.3
    for low in (0.0, 0.5):
        part = (risk >= low) & (risk < low + 0.5)
        assert abs(y[part].mean() - risk[part].mean()) < 0.1
    assert abs(gate.auroc - areas(acts.numpy()[:, None], y)[0]) < 0.05


def test_its_id_is_the_saes_own() -> None:
    sae = replace(planted(), ids=tuple(range(100, 120)))
    assert fit_feature(*rows(600, 0), sae).feature == 104


def test_areas_count_pairs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (30, 5)).astype(float), np.arange(30) % 3 == 0
    for column, found in zip(x.T, areas(x, y), strict=True):
        pairs = [(a > b) + (a == b) / 2 for a in column[y] for b in column[~y]]
        assert found == pytest.approx(np.mean(pairs))


def test_where_nothing_tells_harm_its_auroc_says_so() -> None:
    """The best of many random features looks good on the rows that it was picked on."""
    torch.manual_seed(0)
    h, y, clusters = rows(80, 0)
    sae, found, seen = planted(), [], []
    W = torch.randn(400, D)
    wide = replace(sae, W_enc=W, W_dec=W, b_enc=torch.zeros(400), threshold=torch.zeros(400))
    for seed in range(6):
        noise = torch.randn(h.shape, generator=torch.Generator().manual_seed(seed))
        try:
            found.append(fit_feature(noise, y, clusters, wide).auroc)
        except GateError:
            continue
        seen.append(areas(wide.pre(noise).relu().numpy(), y).max())
    assert np.mean(found) < 0.6 < 0.65 < np.mean(seen)


def test_a_dead_sae_is_refused() -> None:
    sae = replace(planted(), threshold=torch.full((20,), 1e6))
    with pytest.raises(GateError, match="No feature of this SAE is active"):
        fit_feature(*rows(100, 0), sae)
