"""How far the edits of a token may move it, together: the change is made shorter, never turned.

    h' = h + s * change,  s in [0, 1]
    NormCap:         s = min(1, limit * residual_norm / |change|)
    MahalanobisCap:  the largest s with |W (h + s * change - mean)| <= max(limit, |W (h - mean)|)

W'W is the inverse covariance of the residual stream, so the second keeps a token among those that
the model has seen; one that is further out already is not moved further.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sternpost.errors import EditError
from sternpost.sae import SAE
from sternpost.types import Cap, MahalanobisCap, NormCap

SHRINKAGE = 1e-3
"""Share of the mean variance that is added to every direction's, so that none is without."""


def kept_share(cap: Cap, h: Float[Tensor, "token d_model"],
               change: Float[Tensor, "token d_model"], sae: SAE) -> Float[Tensor, "token 1"]:
    """s of every token."""
    if isinstance(cap, NormCap):
        if sae.residual_norm is None:
            raise EditError("NormCap is in residual norms, and this SAE stores none. Train or "
                            "calibrate it with sternpost, or use a MahalanobisCap.")
        length = change.norm(dim=-1, keepdim=True)
        return (cap.limit * sae.residual_norm / length.clamp(min=1e-30)).clamp(max=1.0)
    W = cap.whitener.to(h.device, torch.float32)
    u = (h.float() - cap.mean.to(h.device, torch.float32)) @ W.T
    v = change @ W.T
    a, b = v.square().sum(-1, keepdim=True), (u * v).sum(-1, keepdim=True)
    c = (u.square().sum(-1, keepdim=True) - cap.limit ** 2).clamp(max=0.0)
    root = (b.square() - a * c).clamp(min=0.0).sqrt()
    return ((root - b) / a.clamp(min=1e-30)).clamp(0.0, 1.0)


@torch.no_grad()
def mahalanobis_cap(x: Float[Tensor, "token d_model"], share: float = 0.99) -> MahalanobisCap:
    """A cap at the distance within which `share` of the residual streams `x` lie.

    Raises EditError with fewer tokens than twice d_model: their covariance is not known.
    """
    if len(x) < 2 * x.shape[1]:
        raise EditError(f"A covariance of {x.shape[1]} dimensions needs at least {2 * x.shape[1]} "
                        f"tokens; got {len(x)}.")
    x = x.double()
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    values = values.clamp(min=0.0) + SHRINKAGE * values.mean()
    whitener = vectors.T / values.sqrt()[:, None]
    distance = ((x - mean) @ whitener.T).norm(dim=-1)
    return MahalanobisCap(float(distance.quantile(share)), mean.float(), whitener.float())
