"""Probes against their formulas, on data whose right answer is known."""

import numpy as np
import pytest
import torch

from sternpost.errors import GateError
from sternpost.gates import fit_residual, fit_sparse
from sternpost.types import Hookpoint
from streams import D, planted, rows


def test_a_residual_gate_finds_the_coordinate_that_tells_harm() -> None:
    gate = fit_residual(*rows(400, 0), Hookpoint(1))
    h, y, _ = rows(400, 1)
    risk = gate.risk(h).numpy()
    assert risk.dtype == np.float64
    weight = gate.w.abs() * h.std(0)
    assert int(weight.argmax()) == 0
    assert risk[y].mean() > 0.75 > 0.25 > risk[~y].mean()
    by_hand = 1 / (1 + np.exp(-(h.numpy() @ gate.w.numpy() + gate.b)))
    assert np.allclose(risk, by_hand, atol=1e-6)


def test_risks_are_probabilities_on_rows_not_fitted_on() -> None:
    gate = fit_residual(*rows(2000, 0), Hookpoint(1))
    h, y, _ = rows(4000, 5)
    risk = gate.risk(h).numpy()
    for low in (0.1, 0.3, 0.5, 0.7):
        part = (risk >= low) & (risk < low + 0.2)
        assert abs(y[part].mean() - risk[part].mean()) < 0.08


def test_a_sparse_gate_reads_few_features_as_the_sae_does() -> None:
    sae = planted()
    gate = fit_sparse(*rows(600, 0), sae)
    h, y, _ = rows(200, 7)
    assert 4 in gate.features.tolist()
    assert len(gate.features) < sae.d_sae
    pre = sae.pre(h)[:, gate.features]
    assert torch.allclose(gate.acts(h), torch.where(pre > 0.1, pre, 0.0), atol=1e-5)
    assert gate.risk(h)[torch.tensor(y)].mean() > gate.risk(h)[torch.tensor(~y)].mean() + 0.3


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("subtract", [True, False])
def test_a_sparse_gate_folds_what_the_sae_takes_off(centred: bool, subtract: bool) -> None:
    from dataclasses import replace

    sae = replace(planted(), centred=centred, subtract_b_dec=subtract)
    gate = fit_sparse(*rows(600, 0), sae)
    h, _, _ = rows(50, 9)
    pre = sae.pre(h)[:, gate.features]
    assert torch.allclose(gate.acts(h), torch.where(pre > 0.1, pre, 0.0), atol=1e-4)


def test_an_sae_that_scales_tokens_is_refused() -> None:
    from dataclasses import replace

    with pytest.raises(GateError, match="scales each token"):
        fit_sparse(*rows(100, 0), replace(planted(), per_token="layer_norm"))


def test_too_few_clusters_are_refused_with_the_counts() -> None:
    h, y, _ = rows(40, 0)
    with pytest.raises(GateError, match="got 1 unsafe and 1 safe"):
        fit_residual(h, y, np.where(y, "a", "b"), Hookpoint(1))


def test_a_stream_that_tells_nothing_is_refused() -> None:
    _, y, clusters = rows(400, 0)
    with pytest.raises(GateError, match="same for every prompt"):
        fit_residual(torch.ones(400, D), y, clusters, Hookpoint(1))


def test_rows_of_one_cluster_never_stand_on_both_sides() -> None:
    """Every cluster has its own direction: a probe could learn them by heart, and says so not."""
    torch.manual_seed(0)
    n = 300
    clusters = np.array([f"c{at // 3}" for at in range(n)])
    y = np.array([(at // 3) % 2 == 0 for at in range(n)])
    h = torch.randn(n // 3, D)[torch.arange(n) // 3] + 0.01 * torch.randn(n, D)
    risk = fit_residual(h, y, clusters, Hookpoint(1)).risk(h).numpy()
    assert risk[y].mean() - risk[~y].mean() < 0.2
