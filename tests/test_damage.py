"""The arithmetic of benchmarks/damage.py."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from sternpost.sae import SAE
from sternpost.types import Hookpoint

sys.path.insert(0, str(Path(__file__).parents[1]))
damage = import_module("benchmarks.damage")


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def exact() -> SAE:
    """A feature for either sign of every coordinate: it reconstructs any stream exactly."""
    W = torch.cat([torch.eye(8), -torch.eye(8)])
    return SAE(W, W, torch.zeros(16), torch.zeros(8), Hookpoint(0), "jumprelu",
               threshold=torch.zeros(16))


def test_every_switched_feature_of_an_exact_sae_put_back_is_the_clean_stream(exact, rng):
    clean = torch.randn(5, 8, generator=rng)
    h = -2 * clean  # every coordinate changes its sign: every feature is switched
    new, n = damage.put_back(h, clean, exact, "switched", rng)
    assert torch.allclose(new, clean, atol=1e-6)
    assert n.tolist() == [16] * 5


def test_only_coordinates_whose_sign_changed_come_back(exact, rng):
    clean, h = torch.randn(2, 5, 8, generator=rng)
    new, n = damage.put_back(h, clean, exact, "switched", rng)
    changed = clean.sign() != h.sign()
    assert torch.allclose(new, clean.where(changed, h), atol=1e-6)
    assert n.tolist() == (2 * changed.sum(-1)).tolist()
    assert torch.allclose(damage.put_back(h, clean, exact, "every", rng)[0], clean, atol=1e-6)


def test_the_control_puts_back_as_many_of_the_others(exact, rng):
    clean, h = torch.randn(2, 50, 8, generator=rng)
    both = (clean.sign() == h.sign()).sum(-1)
    fewer = torch.minimum(both, 2 * (8 - both))
    some, n = damage.put_back(h, clean, exact, "some switched", rng)
    others, m = damage.put_back(h, clean, exact, "some unswitched", rng)
    assert torch.equal(n, fewer)
    assert torch.equal(m, fewer)
    assert torch.equal((others != h).sum(-1), fewer)
    assert not ((others != h) & (some != h)).any()


def test_the_norm_comes_back_and_the_direction_stays():
    h, edited = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    new = damage.restored(edited, h)
    assert torch.allclose(new.norm(dim=-1), h.norm(dim=-1))
    assert torch.allclose(torch.cosine_similarity(new, edited), torch.ones(5))


BASE, CLAMP = [True] * 40 + [False] * 10, [False] * 30 + [True] * 10 + [False] * 10
NAMES = [str(at) for at in range(50)]


def test_the_share_returned_is_of_what_was_lost():
    half = [True] * 15 + CLAMP[15:]
    found = damage.returned(BASE, CLAMP, half, NAMES)
    assert (found["median"], found["returned"], found["lost"], found["n"]) == (0.5, 15, 30, 50)
    assert 0.25 < found["low"] < 0.5 < found["high"] < 0.75


@pytest.mark.parametrize(("undone", "share"), [(CLAMP, 0), (BASE, 1)])
def test_nothing_and_everything_are_not_beyond_doubt(undone, share):
    found = damage.returned(BASE, CLAMP, undone, NAMES)
    assert found["median"] == share
    assert found["low"] < share < found["high"]


def test_of_a_loss_that_may_be_none_there_is_no_share():
    found = damage.returned(BASE, [False, *BASE[1:]], BASE, NAMES)
    assert found["median"] is None
    assert "may be none" in found["why"]
