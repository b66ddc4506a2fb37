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
        lost += float((rows - sae.decode(acts)).double().square().sum())
        total += float((rows - mean).double().square().sum())
        active += float((acts.values > 0).sum())
        seen[acts.indices[acts.values > 0]] = True
    return Fit(lost / max(total, 1e-30), active / len(x), 1 - float(seen.float().mean()), len(x))


@torch.no_grad()
def calibrate(sae: SAE, x: Float[Tensor, "token d_model"]) -> SAE:
    """`sae` with each feature's threshold, high activation and density measured on `x`.

    The threshold of a TopK SAE's feature lies halfway between two neighbouring pre-activations,
    so that on `x` it is active on as many tokens as under top-k; one never active gets a
    threshold above all it showed. A threshold kind keeps its own.
    """
    x = x.to(sae.device)
    kept = [sae.encode(rows) for rows in x.split(CHUNK)]
    lowest = torch.cat([_lowest_kept(acts.values) for acts in kept])
    columns = [_calibrate_columns(sae, x, lowest, columns)
               for columns in torch.arange(sae.d_sae, device=sae.device).split(CHUNK)]
    threshold, high, density = (torch.cat(part) for part in zip(*columns, strict=True))
    if sae.kind == "jumprelu":
        threshold = sae.threshold
    norm = float(x.float().norm(dim=-1).median())
    return replace(sae, threshold=threshold, stats=FeatureStats(high, density), residual_norm=norm)


def _lowest_kept(values: Float[Tensor, "token k"]) -> Float[Tensor, " token"]:
    """The smallest positive activation of each row; infinity where nothing is active."""
    return values.where(values > 0, torch.inf).amin(-1)


def _calibrate_columns(sae: SAE, x: Tensor, lowest: Tensor,
                       columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pre = torch.cat([sae.pre(rows, columns) for rows in x.split(CHUNK)])
    if sae.kind == "jumprelu":
        assert sae.threshold is not None
        active = (pre > sae.threshold[columns]) & (pre > 0)
    else:
        # a whisker of slack: the same product in other shapes may differ in its last bit
        active = (pre >= lowest[:, None] * (1 - 1e-6)) & (pre > 0)
    count = active.sum(0)
    ranked = pre.sort(dim=0, descending=True).values
    top = ranked.gather(0, (count - 1).clamp(min=0)[None])[0]
    below = ranked.gather(0, count.clamp(max=len(x) - 1)[None])[0]
    threshold = torch.where(count > 0, (top + below) / 2, ranked[0].relu() * 1.01 + 1e-6)
    # 99th percentile of the active ones, which are the first `count` rows
    at = (count.float() * 0.01).floor().long().clamp(max=len(x) - 1)
    high = torch.where(count > 0, ranked.gather(0, at[None])[0], torch.zeros_like(top))
    return threshold.clamp(min=0), high, count / len(x)
