"""Training: gradients against plain autograd, and what it learns on made-up sparse data."""

import time

import pytest
import torch

from sternpost.sae import measure_fit
from sternpost.sae.settings import TrainSettings
from sternpost.sae.train import Trainer, moments_of, tokens_needed, train
from sternpost.types import Hookpoint


def sparse_data(tokens, d_model=32, truth=48, active=3):
    """Sums of a few of `truth` random directions, around a mean."""
    generator = torch.Generator().manual_seed(77)  # not the seed of a trainer
    rows = torch.randn(truth, d_model, generator=generator)
    on = torch.rand(tokens, truth, generator=generator).topk(active, dim=-1).indices
    much = torch.rand(tokens, active, generator=generator) + 0.5
    acts = torch.zeros(tokens, truth).scatter(1, on, much)
    return 3 * acts @ (rows / rows.norm(dim=-1, keepdim=True)) + 1.5


def batches_of(data, size=128):
    return lambda step: data[(step * size) % len(data):][:size]


def trainer_on(data, **settings):
    how = {"d_sae": 48, "k": 3, "steps": 60, "batch": 128, "lr": 3e-3, **settings}
    return Trainer(TrainSettings(**how), *moments_of(data))


def test_idle_counts_the_steps_since_a_feature_was_active():
    x = sparse_data(512)
    trainer = trainer_on(x)
    with torch.no_grad():
        trainer.b_enc[7] = -100
    for step in range(3):
        trainer.update(batches_of(x, 128)(step))
    assert trainer.idle[7] == 3
    assert trainer.idle.min() == 0


def test_decoder_rows_have_unit_norm_after_every_step():
    data = sparse_data(1024)
    trainer = trainer_on(data, lr=0.05)
    before = trainer.W_dec.detach().clone()
    for _ in train(trainer, batches_of(data)):
        assert torch.allclose(trainer.W_dec.norm(dim=-1), torch.ones(48), atol=1e-6)
    assert not torch.allclose(trainer.W_dec, before, atol=0.1)


def test_the_gradient_along_a_row_is_taken_out():
    data = sparse_data(256)
    trainer = trainer_on(data)
    with torch.no_grad():
        trainer.W_dec.grad = 3 * trainer.W_dec + 1
        rows = trainer.W_dec.clone()
    trainer._keep_rows_unit(lambda: None)
    assert torch.allclose((trainer.W_dec.grad * rows).sum(-1), torch.zeros(48), atol=1e-5)
    assert trainer.W_dec.grad.abs().max() > 0.1


def test_b_dec_is_the_data_mean_and_the_sae_is_in_the_data_units():
    data = 7 * sparse_data(2048) - 3
    trainer = trainer_on(data, steps=80)
    *_, last = train(trainer, batches_of(data))
    sae = trainer.sae(Hookpoint(4))
    assert torch.allclose(sae.b_dec, data.mean(0), atol=1e-4)
    assert (sae.hookpoint.layer, sae.kind, sae.k) == (4, "topk", 3)
    x = batches_of(data)(79)
    scaled = (x - trainer.mean) / trainer.scale
    values = (scaled @ trainer.W_enc.T + trainer.b_enc).topk(3).values.relu()
    assert torch.allclose(sae.encode(x).values.sort().values,
                          (values * trainer.scale).sort().values, rtol=1e-3, atol=1e-3)
    assert measure_fit(sae, data).fvu == pytest.approx(last.fvu, abs=0.05)


def test_moments_are_the_mean_and_the_root_mean_square_of_the_rest():
    data = torch.randn(3000, 5, generator=torch.Generator().manual_seed(3)) * 4 + 9
    mean, scale = moments_of(data)
    assert torch.allclose(mean, data.mean(0), atol=1e-4)
    assert scale == pytest.approx(4, rel=0.05)
    assert moments_of(torch.ones(3, 2))[1] > 0


def test_it_learns_sparse_data():
    data, start = sparse_data(4096), time.perf_counter()
    unseen = sparse_data(8192)[4096:]  # the same directions: they are drawn first
    trainer = trainer_on(data, d_sae=96, k=4, steps=300)
    before = measure_fit(trainer.sae(Hookpoint(0)), unseen).fvu
    *_, last = train(trainer, batches_of(data))
    after = measure_fit(trainer.sae(Hookpoint(0)), unseen)
    assert before > 0.3
    assert after.fvu < 0.5 * before
    assert last.fvu < 0.5 * before
    assert after.l0 <= 4
    assert time.perf_counter() - start < 20  # seconds; 0.5 on an idle core


@pytest.mark.parametrize("seed", [0, 1])
def test_aux_k_revives_dead_features(seed):
    """Twice as many directions as the living half has features; a low bias keeps the other half
    out of the top k, though not below 0 on every token."""
    data, ends = sparse_data(4096, truth=96), {}
    for weight in (0.0, 1 / 32):
        trainer = trainer_on(data, d_sae=96, k=1, steps=300, aux_weight=weight, dead_after=10,
                             seed=seed)
        with torch.no_grad():
            trainer.b_enc[48:] = -2.5
        dead = [progress.dead_fraction for progress in train(trainer, batches_of(data))]
        assert max(dead) > 0.4
        ends[weight] = measure_fit(trainer.sae(Hookpoint(0)), data)
    assert ends[0.0].dead_fraction > 0.4
    assert ends[1 / 32].dead_fraction < 0.1
    assert ends[1 / 32].fvu < 0.97 * ends[0.0].fvu


def test_the_learning_rate_warms_up_and_decays():
    trainer = trainer_on(sparse_data(64), steps=100)
    rates = []
    for step in range(100):
        trainer.step = step
        rates.append(trainer._warmth())
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:71] == [1.0] * 67
    assert rates[70:] == sorted(rates[70:], reverse=True)
    assert 0 < rates[-1] < 0.05


def test_the_seed_decides_the_start():
    data = sparse_data(64)
    one, same, other = (trainer_on(data, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.W_enc, same.W_enc)
    assert not torch.equal(one.W_enc, other.W_enc)


def test_tokens_needed_extends_the_curve():
    curve = [(t, 4 * t ** -0.5) for t in (100, 200, 400, 800)]
    assert tokens_needed(curve, 0.05) == pytest.approx(6400, rel=0.01)  # 4 / sqrt(6400) = 0.05
    assert tokens_needed([(t, 0.5) for t in (100, 200, 400, 800)], 0.05) is None
    assert tokens_needed([], 0.05) is None
    assert tokens_needed(curve[:1], 0.05) is None


def test_the_loss_told_is_the_loss_taken():
    """JumpReLU's pull towards k active features is part of what is minimised, so it is told."""
    x = sparse_data(512)
    trainer = trainer_on(x, kind="jumprelu", fewness=0.5, dead_after=10**9)
    progress = trainer.update(x[:128])
    fewness = 0.5 * (progress.l0 / 3 - 1) ** 2
    assert progress.loss == pytest.approx(progress.fvu + fewness, rel=1e-4)
