"""The contrast against scipy on all values, and its false discovery rate on shuffled labels."""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from sternpost.errors import SearchError
from sternpost.features.contrast import STEPS, Contrast, discovered
from sternpost.sae import SAE
from sternpost.types import Hookpoint

D_SAE = 300


def sae(d_sae=D_SAE, d_model=6, k=3):
    g = torch.Generator().manual_seed(0)
    return SAE(torch.randn(d_sae, d_model, generator=g), torch.randn(d_sae, d_model, generator=g),
               torch.zeros(d_sae), torch.zeros(d_model), Hookpoint(0), k=k)


def sparse(rows, d_sae, density, seed):
    """Values that are mostly 0, as features' are."""
    rng = np.random.default_rng(seed)
    return (rng.random((rows, d_sae)) < density) * np.exp(rng.normal(size=(rows, d_sae)))


def contrast(x, side):
    out = Contrast(sae(x.shape[1]))
    out.add_values(torch.tensor(x, dtype=torch.float32), [int(which) for which in side])
    return out.result()


def test_it_is_scipys_on_the_same_steps():
    rng = np.random.default_rng(1)
    density = np.linspace(0.02, 0.9, 40)
    x = sparse(130, 40, density, 2)
    side = rng.random(130) < 0.4
    x[side, :20] *= 1.7
    # the steps stand for every value in them
    steps = np.where(x > 0, np.floor(np.log2(np.maximum(x, 1e-12)) * STEPS), -1e9)
    found = contrast(x, side)
    want = mannwhitneyu(steps[side], steps[~side], axis=0, method="asymptotic")
    assert np.allclose(found.auroc, want.statistic / (side.sum() * (~side).sum()))
    assert np.allclose(found.p, want.pvalue, atol=1e-9)
    exact = mannwhitneyu(x[side], x[~side], axis=0, method="asymptotic")
    assert np.abs(found.auroc - exact.statistic / (side.sum() * (~side).sum())).max() < 0.02
    pooled = np.sqrt((x[side].var(0, ddof=1) * (side.sum() - 1)
                      + x[~side].var(0, ddof=1) * ((~side).sum() - 1)) / (len(x) - 2))
    assert np.allclose(found.d, (x[side].mean(0) - x[~side].mean(0)) / pooled, rtol=1e-4)
    assert np.allclose(found.active, [(x[~side] > 0).mean(0), (x[side] > 0).mean(0)])


@pytest.mark.parametrize("block", [1, 3 * D_SAE, 1 << 20])
def test_what_is_read_is_the_largest_activation_of_any_token(block, monkeypatch):
    one, g = sae(), torch.Generator().manual_seed(3)
    prompts = [torch.randn(n, 6, generator=g) for n in (4, 1, 7, 3)]
    streamed, by_hand = Contrast(one), Contrast(one)
    monkeypatch.setattr("sternpost.features.contrast.BLOCK", block)
    streamed.add(prompts, [0, 1, 0, 1])
    for number, h in enumerate(prompts):
        by_hand.add_values(one.encode(h).dense().max(0).values[None], [number % 2])
    assert torch.equal(streamed.counts, by_hand.counts)
    assert torch.allclose(streamed.sums, by_hand.sums)


def test_shuffled_labels_discover_nothing_more_often_than_promised():
    x, runs, found = sparse(120, 300, 0.2, 4), 200, 0
    for run in range(runs):
        side = np.random.default_rng(run).permutation(np.arange(120) < 60)
        found += bool(discovered(contrast(x, side)).any())
    assert found / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5


def test_of_planted_features_nearly_all_are_found_and_few_others():
    false = total = hits = 0
    for run in range(20):
        x, side = sparse(300, 2000, 0.2, run), np.arange(300) < 150
        x[side, :50] += (np.random.default_rng(run).random((150, 50)) < 0.35) * 2.0
        found = np.flatnonzero(discovered(contrast(x, side)))
        false, total, hits = false + (found >= 50).sum(), total + len(found), \
            hits + (found < 50).sum()
    share = false / total
    assert share <= 0.05 + 2 * (0.05 * 0.95 / total) ** 0.5
    assert hits / (20 * 50) > 0.9  # power


def test_memory_is_that_of_the_features_and_two_prompts_a_side_are_needed():
    one = Contrast(sae())
    size = one.counts.numel()
    for number in range(50):
        one.add_values(torch.rand(1, D_SAE), [number % 2])
    assert one.counts.numel() == size
    assert int(one.counts.sum()) == 50 * D_SAE
    few = Contrast(sae())
    few.add_values(torch.rand(1, D_SAE), [0])
    with pytest.raises(SearchError, match="got 0 and 1"):
        few.result()


def test_a_feature_that_never_differs_is_no_discovery():
    x = np.zeros((40, 5))
    x[:, 1] = 3.0
    found = contrast(x, np.arange(40) < 20)
    assert (found.p == 1).all()
    assert (found.auroc == 0.5).all()
    assert (found.d == 0).all()
