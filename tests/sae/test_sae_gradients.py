"""Every term of the loss: its value and gradients against autograd on plain dense matrices."""

import pytest
import torch

from sternpost.sae.losses import WINDOW
from sternpost.sae.settings import TrainSettings
from sternpost.sae.sparse import Entries, decode, dots, gradients
from sternpost.sae.train import Trainer

D, N, TOKENS = 10, 24, 40
CASES = {
    "topk": {},
    "topk, two dead": {"dead": 2},
    "topk, most dead": {"dead": 17},
    "multi-topk": {"multi_weight": 1 / 8},
    "multi-topk, dead": {"multi_weight": 1 / 8, "dead": 6},
    "matryoshka": {"prefixes": (3, 9, N)},
    "matryoshka, dead": {"prefixes": (5, 11), "dead": 6},
    "batchtopk": {"kind": "batchtopk"},
    "matryoshka batchtopk, dead": {"kind": "batchtopk", "prefixes": (8,), "dead": 3},
    "jumprelu": {"kind": "jumprelu"},
    "matryoshka jumprelu, dead": {"kind": "jumprelu", "prefixes": (8,), "dead": 3},
}


def trainer_of(dead=0, **how):
    """One in the middle of things: free rows, biases, some features dead, some values negative."""
    g = torch.Generator().manual_seed(5)
    settings = TrainSettings(d_sae=N, k=4, steps=10, aux_weight=0.5, dead_after=5, **how)
    trainer = Trainer(settings, torch.zeros(D, dtype=torch.float64), 1.0)
    trainer.W_enc += 0.3 * torch.randn(N, D, generator=g)
    trainer.W_dec *= torch.linspace(0.5, 2, N)[:, None]
    trainer.b_enc += torch.linspace(-1.5, 0.1, N)
    trainer.log_threshold += torch.linspace(-2.0, 0.5, N)
    trainer.idle[torch.randperm(N, generator=g)[:dead]] = 5
    trainer.step = 3
    return trainer, torch.randn(TOKENS, D, generator=g, dtype=torch.float64)


class Jump(torch.autograd.Function):
    """JumpReLU, with the window's slope for the threshold; and whether each is active."""

    @staticmethod
    def forward(ctx, pre, log_threshold):
        threshold = log_threshold.exp()
        on = pre > threshold
        near = (pre.clamp(min=1e-9) / threshold).log().abs() < WINDOW / 2
        ctx.save_for_backward(on, near, threshold)
        return pre * on, on.to(pre)

    @staticmethod
    def backward(ctx, *grad_outputs):
        by_acts, by_on = grad_outputs
        on, near, threshold = ctx.saved_tensors
        return by_acts * on, -((by_acts * threshold + by_on) * near / WINDOW).sum(0)


def largest(pre, k):
    mask = torch.zeros_like(pre).scatter(-1, pre.argsort(-1, descending=True)[..., :k], 1.0)
    return pre.clamp(min=0) * mask


def dense_loss(trainer, x, W_enc, W_dec, b_enc, log_threshold):
    how = trainer.settings
    pre, power, loss, error = x @ W_enc.T + b_enc, x.square().sum(), 0.0, x
    if how.kind == "topk":
        acts = largest(pre, how.k)
    elif how.kind == "batchtopk":
        acts = largest(pre.flatten(), how.k * len(x)).view_as(pre)
    else:
        acts, on = Jump.apply(pre, log_threshold)
        loss = how.fewness * (on.sum() / len(x) / how.k - 1) ** 2
    for end in how.ends:
        error = x - acts[:, :end] @ W_dec[:end]
        loss = loss + error.square().sum() / power / len(how.ends)
    if how.multi_weight:
        wide = x - largest(pre, 4 * how.k) @ W_dec
        loss = loss + how.multi_weight * wide.square().sum() / power
    dead, e = trainer.idle >= how.dead_after, error.detach()
    if dead.any():
        k_aux = min(D // 2, int(dead.sum()))
        missed = e - largest(pre[:, dead], k_aux) @ W_dec[dead]
        loss = loss + how.aux_weight * k_aux / (D // 2) * missed.square().sum() / e.square().sum()
    return loss


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_dense_loss(name):
    trainer, x = trainer_of(**CASES[name])
    names = ["W_enc", "W_dec", "b_enc", "log_threshold"]
    copies = [getattr(trainer, name).clone().requires_grad_() for name in names]
    want = dense_loss(trainer, x, *copies)
    found = torch.autograd.grad(want, copies, allow_unused=True)
    chosen = trainer.choose(x)
    terms = trainer.terms(x, chosen)
    trainer.differentiate(x, chosen, terms)
    fewness = 0.0
    if trainer.settings.kind == "jumprelu":
        active = float((chosen.entries.value > 0).sum())
        fewness = (active / TOKENS / 4 - 1) ** 2
        assert chosen.near is not None
        assert 0 < chosen.near.sum() < len(chosen.near)
    assert float(sum(t.loss for t in terms)) + fewness == pytest.approx(want.item(), rel=1e-9)
    assert trainer.learned.keys() == {n for n, g in zip(names, found, strict=True) if g is not None}
    for key, tensor in trainer.learned.items():
        gradient = found[names.index(key)]
        assert gradient.abs().max() > 1e-3, key
        assert torch.allclose(tensor.grad, gradient, rtol=1e-9, atol=1e-12), key


def test_a_list_of_entries_decodes_and_dots_as_a_dense_matrix():
    g = torch.Generator().manual_seed(1)
    dense = torch.randn(7, N, generator=g) * (torch.rand(7, N, generator=g) < 0.2)
    dense[3] = 0  # a token on which nothing is active
    token, feature = dense.nonzero(as_tuple=True)
    entries = Entries(token, feature, dense[token, feature])
    W, x = torch.randn(N, D, generator=g), torch.randn(7, D, generator=g)
    assert torch.allclose(decode(entries, W, 7), dense @ W, atol=1e-6)
    assert torch.allclose(dots(feature, W, token, x), (x @ W.T)[token, feature], atol=1e-5)
    nothing = entries.where(torch.zeros(len(token), dtype=torch.bool))
    assert torch.equal(decode(nothing, W, 7), torch.zeros(7, D))
    assert all((part == 0).all() for part in gradients(nothing, x, nothing.token, x, W)[:3])
