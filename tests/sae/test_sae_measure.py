"""FVU, L0, dead share, thresholds and statistics against naive counts."""

from dataclasses import replace

import pytest
import torch

from sternpost.sae import (
    SAE,
    calibrate,
    measure,
    measure_agreement,
    measure_fit,
    read_sae,
    save_sae,
)
from sternpost.types import Hookpoint


@pytest.fixture
def rows():
    """Residuals [500, d_model], more than one chunk of them."""
    return torch.randn(500, 6, generator=torch.Generator().manual_seed(21)) * 2 + 0.5


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of tokens and of features that do not divide evenly."""
    monkeypatch.setattr(measure, "CHUNK", 7)


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
@pytest.mark.parametrize("centred", [False, True])
def test_fit_is_the_naive_count(kind, centred, make_sae, rows):
    sae = make_sae(kind, centred=centred, b_enc=torch.linspace(-12, 1, 20))
    fit = measure_fit(sae, rows)
    dense = sae.encode(rows).dense()
    seen = rows - rows.mean(-1, keepdim=True) if centred else rows
    x_hat = dense @ sae.W_dec + sae.b_dec
    lost = sum(float(((a - b) ** 2).sum()) for a, b in zip(seen, x_hat, strict=True))
    total = sum(float(((a - seen.mean(0)) ** 2).sum()) for a in seen)
    assert fit.fvu == pytest.approx(lost / total, rel=1e-4)
    assert fit.l0 == pytest.approx(int((dense > 0).sum()) / 500)
    dead = [f for f in range(20) if not (dense[:, f] > 0).any()]
    assert 0 < len(dead) < 20
    assert fit.dead_fraction == pytest.approx(len(dead) / 20, abs=1e-6)
    assert fit.tokens == 500


def test_a_perfect_and_an_empty_reconstruction(make_sae, rows):
    both = torch.cat([torch.eye(6), -torch.eye(6)])
    perfect = make_sae(W_enc=both, W_dec=both, b_enc=torch.zeros(12), k=6)
    assert measure_fit(perfect, rows).fvu < 1e-6
    mean = make_sae("jumprelu", threshold=torch.full((20,), 1e9), b_dec=rows.mean(0))
    fit = measure_fit(mean, rows)
    assert fit.fvu == pytest.approx(1, rel=1e-4)
    assert (fit.l0, fit.dead_fraction) == (0, 1)


def in_threshold_mode(sae, rows):
    """Which features are active on which tokens by their thresholds alone."""
    return (sae.pre(rows) > sae.threshold) & (sae.pre(rows) > 0)


@pytest.mark.parametrize("k", [1, 3, 12, 20])
def test_thresholds_are_active_as_often_as_top_k(k, make_sae, rows):
    b_enc = torch.linspace(-3, 3, 20)
    b_enc[0], b_enc[-1] = -90, 90
    sae = calibrate(make_sae(k=k, b_enc=b_enc), rows)
    active = sae.encode(rows).dense() > 0
    assert in_threshold_mode(sae, rows).sum(0).tolist() == active.sum(0).tolist()
    assert torch.allclose(sae.stats.density, active.float().mean(0))
    assert not active[:, 0].any()  # one that is never active
    assert active[:, -1].all()  # and one that always is
    assert sae.threshold is not None
    assert (sae.threshold >= 0).all()
    assert sae.kind == "topk"


def test_thresholds_lie_halfway_between_neighbours(make_sae, rows):
    sae = calibrate(make_sae(), rows)
    pre = sae.pre(rows).sort(0, descending=True).values
    for feature, count in enumerate((sae.encode(rows).dense() > 0).sum(0).tolist()):
        if 0 < count < 500:
            middle = (pre[count - 1, feature] + pre[count, feature].clamp(min=0)) / 2
            assert sae.threshold[feature] == pytest.approx(float(middle), rel=1e-4)


def test_a_feature_that_was_never_active_stays_so(make_sae, rows):
    sae = calibrate(make_sae(k=1), rows)
    never = sae.stats.density == 0
    assert never.any()
    assert (sae.threshold[never] > sae.pre(rows).max(0).values[never]).all()
    assert not sae.stats.high[never].any()


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_high_is_the_99th_percentile_of_the_active(kind, make_sae, rows):
    sae = calibrate(make_sae(kind, b_enc=torch.linspace(-12, 9, 20)), rows)
    for feature, acts in enumerate(sae.encode(rows).dense().T):
        active = sorted(float(v) for v in acts if v > 0)
        high = active[-1 - len(active) // 100] if active else 0.0
        assert float(sae.stats.high[feature]) == pytest.approx(high, rel=1e-5)


def test_a_threshold_kind_keeps_its_own(make_sae, rows):
    sae = make_sae("jumprelu")
    assert calibrate(sae, rows).threshold is sae.threshold


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_counts_what_it_encodes(dtype, make_sae, rows):
    sae = calibrate(make_sae().to(dtype=dtype), rows)
    active = torch.cat([sae.encode(part).dense() > 0 for part in rows.split(7)])
    assert torch.allclose(sae.stats.density, active.float().mean(0), atol=1e-3)


def test_the_residual_norm_is_the_median(make_sae, rows):
    norms = sorted(float(row.norm()) for row in rows)
    assert calibrate(make_sae(), rows).residual_norm == pytest.approx(norms[249], rel=1e-5)


def test_agreement_is_counted_token_by_token(tmp_path):
    g = torch.Generator().manual_seed(5)
    x, unseen = torch.randn(400, 12, generator=g), torch.randn(300, 12, generator=g)
    rows = torch.randn(30, 12, generator=g)
    sae = calibrate(SAE(rows, rows, torch.zeros(30), torch.zeros(12), Hookpoint(0), k=4), x)
    got = measure_agreement(sae, unseen)
    assert sae.threshold is not None
    for feature in range(30):
        exact = {at for at, row in enumerate(unseen) if sae.encode(row).dense()[feature] > 0}
        by_threshold = {at for at, row in enumerate(unseen)
                        if sae.pre(row)[feature] > sae.threshold[feature]}
        share = len(exact & by_threshold) / len(exact | by_threshold)
        assert float(got[feature]) == pytest.approx(share)
    assert 0.3 < float(got.median()) < 0.99
    assert sae.stats is not None
    kept = replace(sae, stats=replace(sae.stats, agreement=got))
    save_sae(kept, tmp_path)
    read = read_sae(tmp_path).to(dtype=torch.float32)
    assert read.stats is not None
    assert torch.equal(read.stats.agreement, got)
    never = calibrate(SAE(rows, rows, torch.full((30,), -99.0), torch.zeros(12), Hookpoint(0),
                          k=4), x)
    assert bool(measure_agreement(never, unseen).isnan().all())
