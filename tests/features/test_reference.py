"""The benign reference against counting by hand."""

import math

import numpy as np
import pytest
import torch

from sternpost.features.contrast import STEPS
from sternpost.features.reference import Reference
from sternpost.sae import SAE, FeatureStats
from sternpost.types import Hookpoint

D_MODEL, D_SAE = 6, 50


def sae(**changes):
    g = torch.Generator().manual_seed(0)
    whole = {"W_enc": torch.randn(D_SAE, D_MODEL, generator=g),
             "W_dec": torch.randn(D_SAE, D_MODEL, generator=g), "b_enc": torch.zeros(D_SAE),
             "b_dec": torch.zeros(D_MODEL), "hookpoint": Hookpoint(0), "k": 4,
             "stats": FeatureStats(torch.linspace(0.2, 3.0, D_SAE), torch.full((D_SAE,), 0.1))}
    return SAE(**{**whole, **changes})


def tokens(n, seed=1):
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(seed))


def step(acts, high):
    """The eighth of an octave around `high` that an activation lies in."""
    return np.floor(np.log2(np.maximum(acts, 1e-12) / high) * STEPS)


@pytest.mark.parametrize("portions", [[300], [1, 120, 179]])
def test_it_counts_the_tokens_that_are_at_least_as_active(portions):
    one, h = sae(), tokens(300)
    reference = Reference(one)
    for some in h.split(portions):
        reference.add(some)
    assert reference.n == 300
    acts, high = one.encode(h).dense().double().numpy(), one.stats.high.double().numpy()
    assert int(reference.counts.sum()) == (acts > 0).sum()
    some = tokens(40, seed=2)
    asked = one.encode(some)
    got = reference.surprise(asked.indices.flatten(), asked.values.flatten())
    for feature, act, surprise in zip(asked.indices.flatten().tolist(),
                                      asked.values.flatten().tolist(), got.tolist(), strict=True):
        seen = step(acts[:, feature], high[feature]) >= step(act, high[feature])
        m = (seen & (acts[:, feature] > 0)).sum() if act > 0 else 300
        assert surprise == pytest.approx(-math.log10((m + 1) / 301), abs=1e-6)


def test_what_was_never_seen_is_the_most_unusual_and_finite():
    reference = Reference(sae())
    reference.add(tokens(99))
    reference.counts[:, 7] = 0
    got = reference.surprise(torch.tensor([7, 7, 3]), torch.tensor([1e-3, 50.0, 0.0]))
    assert got.tolist() == pytest.approx([2.0, 2.0, 0.0])


def test_more_active_is_never_less_unusual():
    reference = Reference(sae())
    reference.add(tokens(500))
    acts = torch.linspace(0, 6, 80)
    for feature in (0, 11, D_SAE - 1):
        got = reference.surprise(torch.full((80,), feature), acts)
        assert bool((got.diff() >= 0).all())


def test_without_tokens_nothing_is_unusual():
    got = Reference(sae()).surprise(torch.tensor([0, 1]), torch.tensor([0.0, 4.0]))
    assert got.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("changes", [{"stats": None}, {
    "stats": FeatureStats(torch.zeros(D_SAE), torch.zeros(D_SAE))}, {
    "kind": "jumprelu", "k": None, "threshold": torch.full((D_SAE,), 0.5)}])
def test_any_sae_serves_and_memory_does_not_grow(changes):
    reference = Reference(sae(**changes))
    size = reference.counts.shape
    for seed in range(3):
        reference.add(tokens(50, seed))
    assert (reference.n, reference.counts.shape) == (150, size)
    assert float(reference.surprise(torch.tensor([2]), torch.tensor([1e6]))) > 1
