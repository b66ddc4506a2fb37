"""Controls: what a feature's effect is measured against."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sternpost.sae import SAE


def matched_features(sae: SAE, feature: int, n: int, seed: int, nearest: int = 40,
                     but: Sequence[int] | None = None) -> list[int]:
    """`n` random live features, drawn from the `nearest` in density to `feature`; with a list of
    others that are left out, in density and in the norm that their high activation writes."""
    assert sae.stats is not None
    density = sae.stats.density.cpu()
    live = torch.nonzero(density > 0).flatten()
    live = live[~torch.isin(live, torch.tensor([feature, *(but or ())]))]
    gap = (density[live].log() - density[feature].clamp(min=1e-9).log()).abs()
    if but is not None:
        norm = (sae.stats.high * sae.W_dec.norm(dim=1)).cpu().clamp(min=1e-9).log()
        gap = gap + (norm[live] - norm[feature]).abs()
    pool = live[gap.argsort(stable=True)[:max(nearest, n)]]
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    return sorted(pool[order[:n]].tolist())


def difference_in_means(unsafe: Float[Tensor, "_ d_model"],
                        safe: Float[Tensor, "_ d_model"]) -> Float[Tensor, " d_model"]:
    """Mean residual at the last prompt token of unsafe minus that of safe prompts, with unit
    norm (arXiv 2406.11717, section 2.3)."""
    direction = unsafe.float().mean(0) - safe.float().mean(0)
    return direction / direction.norm().clamp(min=1e-12)
