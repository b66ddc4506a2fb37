"""What a jailbreak wrapper does to the features of the very same request.

    delta[i, f] = mean activation of f on the request's tokens, plain, minus wrapped, pair i
    p           Wilcoxon's signed rank over pairs, two-sided; q after Benjamini and Hochberg
    score       mean delta in units of the feature's high activation, where q <= 0.05, else 0

A feature that falls silent when the same words are wrapped is one that the wrapper hides harm from
(CC-Delta, arXiv 2602.12418). Covered: pairs whose request reads alike in both. Not covered:
wrappers that rewrite the request. Overall: names read-side features; says nothing of what they do.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import false_discovery_control, wilcoxon
from torch import Tensor

from sternpost.sae import SAE


class Delta(NamedTuple):
    """`[d_sae]` each."""

    score: Float[np.ndarray, " d_sae"]
    mean: Float[np.ndarray, " d_sae"]
    """Mean difference, activation units."""
    q: Float[np.ndarray, " d_sae"]


def mean_acts(h: Float[Tensor, "token d_model"], sae: SAE) -> Float[Tensor, " d_sae"]:
    """Mean activation of every feature over the tokens."""
    acts = sae.encode(h.to(sae.device))
    out = torch.zeros(sae.d_sae, device=sae.device)
    return (out.index_add_(0, acts.indices.flatten(), acts.values.flatten().float())
            / max(len(h), 1)).cpu()


def delta(plain: Float[Tensor, "pair d_sae"], wrapped: Float[Tensor, "pair d_sae"],
          high: Float[Tensor, " d_sae"], rate: float = 0.05) -> Delta:
    """Of mean activations, a row a pair."""
    gaps = (plain - wrapped).double().numpy()
    mean = gaps.mean(0)
    p = np.ones(gaps.shape[1])
    moved = np.flatnonzero((gaps != 0).sum(0) >= 5)  # fewer cannot be told from chance
    if len(moved):
        found: Any = wilcoxon(gaps[:, moved], axis=0, zero_method="wilcox", method="asymptotic")
        p[moved] = found.pvalue
    q = false_discovery_control(p)
    scale = np.where(high.numpy() > 0, high.double().numpy(), 1.0)
    return Delta(np.where(q <= rate, mean / scale, 0.0), mean, q)
