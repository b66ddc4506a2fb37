"""Candidates and controls against naive loops and autograd."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import sternpost
from sternpost.features import (
    ablation_path,
    active_in,
    attribution,
    difference_in_means,
    matched_features,
    merge,
    strongest,
)
from sternpost.sae import SAE, FeatureStats
from sternpost.types import Hookpoint

D, D_SAE = 12, 40


def make_sae(density: torch.Tensor | None = None) -> SAE:
    g = torch.Generator().manual_seed(0)
    stats = None if density is None else FeatureStats(torch.ones(D_SAE), density)
    return SAE(torch.randn(D_SAE, D, generator=g), torch.randn(D_SAE, D, generator=g),
               torch.zeros(D_SAE), torch.zeros(D), Hookpoint(0), k=5, stats=stats)


def test_active_in_counts_tokens_of_one_refusal() -> None:
    sae = make_sae()
    refusals = [torch.randn(n, D, generator=torch.Generator().manual_seed(n)) for n in (7, 3, 1)]
    want = set()
    for refusal in refusals:
        acts = sae.encode(refusal).dense()
        want |= {f for f in range(D_SAE) if int((acts[:, f] > 0).sum()) >= 2}
    found = active_in(refusals, sae)
    assert set(found) == want
    assert want
    most = [max(int((sae.encode(r).dense()[:, f] > 0).sum()) for r in refusals) for f in found]
    assert most == sorted(most, reverse=True)


def test_a_feature_active_once_in_each_of_two_refusals_is_no_candidate() -> None:
    sae = make_sae()
    token = torch.randn(1, D, generator=torch.Generator().manual_seed(5))
    assert active_in([token, token], sae) == []
    assert set(active_in([token.expand(2, D)], sae)) == set(
        sae.encode(token).indices[0][sae.encode(token).values[0] > 0].tolist())


def test_attribution_is_the_gradient_through_the_decoder() -> None:
    """acts[f] * d logit / d acts[f], by autograd through x_hat + error, for a random readout."""
    sae = make_sae()
    x = torch.randn(6, D, generator=torch.Generator().manual_seed(1))
    readout = torch.randn(6, D, generator=torch.Generator().manual_seed(2))
    acts = sae.encode(x).dense().requires_grad_()
    stream = acts @ sae.W_dec + (x - sae.encode(x).dense() @ sae.W_dec).detach()
    stream.retain_grad()
    (stream.sin() * readout).sum().backward()
    want = (acts * acts.grad).sum(0).detach()
    got = attribution(x, stream.grad, sae)
    assert torch.allclose(got, want, atol=1e-5)
    assert float(got.abs().max()) > 0.1


def test_strongest_leaves_out_what_pulls_the_other_way() -> None:
    scores = torch.tensor([0.1, -3.0, 2.0, 0.0, 0.5])
    assert strongest(scores, 4) == [2, 4, 0]
    assert strongest(scores, 1) == [2]


def test_merge_names_each_feature_once_with_its_origin() -> None:
    got = merge([3, 1, 2], [2, 9])
    assert [(c.feature, c.origin) for c in got] == [
        (3, "paper"), (1, "paper"), (2, "paper+attribution"), (9, "attribution")]


def test_matched_features_are_live_near_in_density_and_seeded() -> None:
    density = torch.linspace(0, 0.39, D_SAE)
    sae = make_sae(density)
    found = matched_features(sae, 20, 4, seed=0, nearest=8)
    assert len(set(found)) == 4
    assert 20 not in found
    assert all(abs(f - 20) <= 8 and f > 0 for f in found)
    assert found == matched_features(sae, 20, 4, seed=0, nearest=8)
    assert any(matched_features(sae, 20, 4, seed=s, nearest=8) != found for s in range(1, 5))


def test_difference_in_means_points_from_safe_to_unsafe() -> None:
    unsafe, safe = torch.full((3, D), 2.0), torch.zeros(5, D)
    safe[:, 0] = 2.0
    direction = difference_in_means(unsafe, safe)
    assert abs(float(direction.norm()) - 1) < 1e-6
    assert float(direction[0]) == 0
    assert bool((direction[1:] > 0).all())


@pytest.mark.parametrize("per_token", [None, "layer_norm", "constant_norm_rescale"])
def test_attribution_is_exact_ablation_where_the_rest_is_linear(per_token: Any) -> None:
    """On a linear toy: each feature's attribution is the logit's fall when `steer` ablates it."""
    sae = replace(make_sae(), per_token=per_token)
    x = torch.randn(1, 6, D, generator=torch.Generator().manual_seed(3))
    toy = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(D, 3))
    with torch.no_grad():
        logit = toy(x)[0, :, 1].sum()
        weight = toy[1].weight[1].detach()
        got = attribution(x[0], weight.expand(6, D), sae)
        path = ablation_path(x[0], sae)
        assert path.shape == (8, 6, D)
        active = sae.encode(x[0])
        for feature in set(active.indices[active.values > 0].tolist()):
            with sternpost.steer(toy, sae, [sternpost.Ablate(feature)], at="0"):
                fallen = logit - toy(x)[0, :, 1].sum()
            assert float(got[feature]) == pytest.approx(float(fallen), abs=1e-5)
