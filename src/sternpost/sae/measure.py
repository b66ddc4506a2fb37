"""How well an SAE fits data, and what each feature does on it.

    fvu           = sum |x - x_hat|^2 / sum |x - mean(x)|^2
    l0            = mean active features a token
    dead_fraction = share of features never active on the data
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sternpost.sae.autoencoder import SAE, FeatureStats
from sternpost.sae.jumprelu import activate

CHUNK = 2048
"""Tokens encoded at once, and features sorted at once: bounds the memory."""


@dataclass(frozen=True)
class Fit:
    """How well an SAE reconstructs data."""

    fvu: float
    """Fraction of variance unexplained."""
    l0: float
    """Mean active features a token."""
    dead_fraction: float
    """Share of features never active."""
    tokens: int
    """Tokens it was measured on."""


@torch.no_grad()
def measure_fit(sae: SAE, x: Float[Tensor, "token d_model"]) -> Fit:
    """FVU, L0 and dead share of `sae` on the rows of `x`."""
    x = x.to(sae.device)
    mean = x.float().mean(0)
    if sae.centred:
        x = x - x.mean(-1, keepdim=True)
        mean = mean - mean.mean()
    lost = total = active = 0.0
    seen = torch.zeros(sae.d_sae, dtype=torch.bool, device=sae.device)
    for rows in x.split(CHUNK):
        acts = sae.encode(rows)
        lost += float((rows - sae.reconstruct(rows, acts)).double().square().sum())
        total += float((rows - mean).double().square().sum())
        active += float((acts.values > 0).sum())
        seen[acts.indices[acts.values > 0]] = True
    return Fit(lost / max(total, 1e-30), active / len(x), 1 - float(seen.float().mean()), len(x))


@torch.no_grad()
def calibrate(sae: SAE, x: Float[Tensor, "token d_model"]) -> SAE:
    """`sae` with each feature's threshold, high activation and density measured on `x`.

    The threshold of a TopK SAE's feature lies halfway between two neighbouring pre-activations,
    so that on `x` it is active on as many tokens as under top-k; one never active gets a
    threshold above all it showed. A BatchTopK SAE becomes one with thresholds in the same way. A
    threshold kind keeps its own.
    """
    x = x.to(sae.device)
    kept = [sae.encode(rows) for rows in x.split(CHUNK)]
    values = torch.cat([acts.values[acts.values > 0] for acts in kept])
    ids = torch.cat([acts.indices[acts.values > 0] for acts in kept])
    count = ids.bincount(minlength=sae.d_sae)
    threshold = sae.threshold
    if sae.kind != "jumprelu":
        threshold = torch.cat([_thresholds(sae, x, columns, count[columns]) for columns in
                               torch.arange(sae.d_sae, device=sae.device).split(CHUNK)])
    stats = FeatureStats(_high(values, ids, count), count / len(x))
    norm = float(x.float().norm(dim=-1).median())
    if sae.kind == "batchtopk":
        sae = replace(sae, kind="jumprelu", k=None, threshold=threshold)
    return replace(sae, threshold=threshold, stats=stats, residual_norm=norm)


@torch.no_grad()
def measure_agreement(sae: SAE, x: Float[Tensor, "token d_model"]) -> Float[Tensor, " d_sae"]:
    """Of the rows of `x` on which a feature is active under top-k or by its threshold, the share on
    which it is under both: how far mode `threshold` is mode `exact`. NaN where there are none."""
    assert sae.threshold is not None
    both, either = torch.zeros(2, sae.d_sae, dtype=torch.long, device=sae.device)
    for rows in x.to(sae.device).split(CHUNK):
        exact = sae.encode(rows).dense() > 0
        by_threshold = activate(sae.pre(rows), sae.threshold) > 0
        both += (exact & by_threshold).sum(0)
        either += (exact | by_threshold).sum(0)
    return both / either  # 0/0 is NaN


def _thresholds(sae: SAE, x: Tensor, columns: Tensor, count: Tensor) -> Tensor:
    """Thresholds that the pre-activations of `columns` exceed on `count` rows each."""
    pre = torch.cat([sae.pre(rows, columns) for rows in x.split(CHUNK)])
    ranked = pre.sort(dim=0, descending=True).values
    top = ranked.gather(0, (count - 1).clamp(min=0)[None])[0]
    below = ranked.gather(0, count.clamp(max=len(x) - 1)[None])[0]
    below = torch.where(count < len(x), below, torch.zeros_like(below)).clamp(min=0)
    middle = (top + below) / 2
    middle = torch.where(middle < top, middle, below)  # so close that halfway is rounded up
    return torch.where(count > 0, middle, ranked[0].relu() * 1.01 + 1e-6)


def _high(values: Tensor, ids: Tensor, count: Tensor) -> Float[Tensor, " d_sae"]:
    """The 99th percentile of each feature's activations, rounded up to one of them; 0 if none."""
    order = values.argsort(descending=True)
    order = order[ids[order].argsort(stable=True)]
    ranked = torch.cat([values[order], values.new_zeros(1)])
    at = count.cumsum(0) - count + count // 100
    return ranked[torch.where(count > 0, at, len(values))]
