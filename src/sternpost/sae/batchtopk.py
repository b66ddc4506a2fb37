"""BatchTopK: of all tokens of a call the k largest pre-activations a token on average stay.

    acts = ReLU(pre) where pre is among the k * tokens largest of the call, else 0

arXiv 2412.06410 (Bussmann et al., 2024), section 3. What a token reads then hangs on the others:
BatchTopK is for training. It is used with thresholds (jumprelu.py), which training keeps.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sparsify(pre: Float[Tensor, "*rows d_sae"],
             k: int) -> tuple[Float[Tensor, "*rows K"], Int[Tensor, "*rows K"]]:
    """Values and ids of what is active; K is the most that any row of this call has, >= 1."""
    flat = pre.relu().reshape(-1)
    values, at = torch.topk(flat, min(k * (flat.numel() // pre.shape[-1]), flat.numel()),
                            sorted=False)
    acts = torch.zeros_like(flat).scatter_(0, at, values).reshape(pre.shape)
    most = int((acts > 0).sum(-1).max()) if acts.numel() else 1
    kept, indices = torch.topk(acts, max(most, 1), dim=-1, sorted=False)
    return kept, indices
