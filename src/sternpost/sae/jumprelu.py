"""JumpReLU: what exceeds its feature's threshold stays, the rest is 0.

    acts = ReLU(pre) where pre > threshold, else 0

arXiv 2407.14435 (Rajamanoharan et al., 2024), section 2. The same formula with calibrated
thresholds is the `threshold` mode of a TopK SAE.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def activate(pre: Float[Tensor, "*rows features"],
             threshold: Float[Tensor, " features"]) -> Float[Tensor, "*rows features"]:
    """Feature activations for pre-activations `pre`, dense, in activation units."""
    return pre.relu() * (pre > threshold)


def sparsify(pre: Float[Tensor, "*rows d_sae"], threshold: Float[Tensor, " d_sae"],
             ) -> tuple[Float[Tensor, "*rows k"], Int[Tensor, "*rows k"]]:
    """Values and ids of the active features; k is the most that any row of this call has, >= 1."""
    acts = activate(pre, threshold)
    most = int((acts > 0).sum(-1).max()) if acts.numel() else 1
    values, indices = torch.topk(acts, max(most, 1), dim=-1, sorted=False)
    return values, indices
