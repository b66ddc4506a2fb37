"""TopK: the k largest pre-activations stay, the rest are 0.

    pre  = W_enc (x - b_dec) + b_enc
    acts = ReLU(pre) where pre is among its row's k largest, else 0

arXiv 2406.04093 (Gao et al., 2024), section 2.3.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sparsify(pre: Float[Tensor, "*rows d_sae"],
             k: int) -> tuple[Float[Tensor, "*rows k"], Int[Tensor, "*rows k"]]:
    """Values and feature ids of each row's k largest pre-activations, in activation units.

    A slot whose pre-activation is negative holds the value 0 and its own id.
    """
    values, indices = torch.topk(pre, k, dim=-1, sorted=False)
    return values.relu(), indices
