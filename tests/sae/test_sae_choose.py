"""What is chosen, against a dense matrix."""

import threading

import pytest
import torch

from sternpost.sae import batchtopk, choose
from sternpost.sae.choose import Encoder

D, N, TOKENS = 16, 40, 50


def encoder(**how):
    g = torch.Generator().manual_seed(1)
    return Encoder(torch.randn(N, D, generator=g), torch.randn(N, generator=g) - 2, **how)


def stream():
    return torch.randn(TOKENS, D, generator=torch.Generator().manual_seed(2))


def pre():
    return stream() @ encoder().W_enc.T + encoder().b_enc


def dense(values, indices):
    return torch.zeros(TOKENS, N).scatter(1, indices, values)


@pytest.fixture(params=[1 << 23, 7 * N])
def block(request, monkeypatch):
    """All tokens at once, and seven at a time."""
    monkeypatch.setattr(choose, "BLOCK", request.param)


@pytest.mark.parametrize("k", [1, 5, N])
def test_top_is_each_tokens_k_largest(block, k):
    pairs = choose.top(stream(), encoder(), k)
    kept = pre() >= pre().sort(1, descending=True).values[:, k - 1:k]
    assert pairs.indices.shape == (TOKENS, k)
    assert torch.allclose(dense(*pairs), pre().relu() * kept, atol=1e-5)


def test_best_keeps_the_largest_of_more():
    more, few = choose.top(stream(), encoder(), 12), choose.top(stream(), encoder(), 3)
    assert torch.equal(dense(*choose.best(more, 3)), dense(*few))


def test_bfloat16_proposes_and_float32_decides(block):
    exact, fast = choose.top(stream(), encoder(), 6), choose.top(stream(), encoder(bf16=True), 6)
    assert torch.allclose(dense(*fast), dense(*exact), atol=1e-5)  # also the values: not rounded
    rounded = (stream().bfloat16() @ encoder().W_enc.bfloat16().T).float() + encoder().b_enc
    assert (rounded - pre()).abs().max() > 1e-3


@pytest.mark.parametrize("uneven", [False, True])
def test_top_of_batch_is_batchtopks(block, uneven):
    x = stream()
    if uneven:  # one token has nearly all: more than is looked at first
        x[0] = 1000 * torch.randn(D, generator=torch.Generator().manual_seed(3))
    found, least = choose.top_of_batch(x, encoder(), 2)
    assert least == found.value.min()
    want = batchtopk.sparsify(x @ encoder().W_enc.T + encoder().b_enc, 2)
    mine = torch.zeros(TOKENS, N).index_put((found.token, found.feature), found.value)
    assert torch.allclose(mine, dense(*want), rtol=1e-5, atol=1e-5)
    assert (found.token.diff() >= 0).all()
    if uneven:
        assert (found.token == 0).sum() > 8


def test_top_of_batch_leaves_out_what_is_not_positive():
    few = encoder()._replace(b_enc=torch.full((N,), -9.0))
    found, _ = choose.top_of_batch(stream(), few, 10)
    assert len(found.value) == (stream() @ few.W_enc.T - 9 > 0).sum() < 10 * TOKENS


def test_processes_choose_together_what_one_chooses_alone():
    x = stream()
    shares = [x[::2], x[1::2]]
    alone, least = choose.top_of_batch(x, encoder(), 2)
    barrier, box, found = threading.Barrier(2), [x, x], {}

    def run(share: int) -> None:
        def add_up(mine: torch.Tensor) -> torch.Tensor:
            box[share] = mine
            barrier.wait()
            total = box[0] + box[1]
            barrier.wait()
            return total

        found[share] = choose.top_of_batch(shares[share], encoder(), 2, add_up)

    threads = [threading.Thread(target=run, args=(share,)) for share in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0][1] == found[1][1] == least
    assert sum(len(entries.value) for entries, _ in found.values()) == len(alone.value)


def test_over_finds_what_exceeds_its_features_threshold(block):
    least = torch.linspace(-1, 3, N)
    found = choose.over(stream(), encoder(), least)
    mine = torch.zeros(TOKENS, N).index_put((found.token, found.feature), found.value)
    assert torch.allclose(mine, pre() * (pre() > least), atol=1e-5)
    assert (found.token.diff() >= 0).all()
