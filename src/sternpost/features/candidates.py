"""Which features might make a model refuse: two lists, each a few lines of arithmetic.

paper        active on at least 2 tokens of the model's refusal of an archetypal prompt
             (arXiv 2411.11296, section 3)
attribution  sum over prompt tokens of acts[f] * (gradient . W_dec[f]), the first-order effect of
             a feature on the logit of the refusal's first token; mean over prompts
             (arXiv 2403.19647, section 3.1). With the gradient's mean along `ablation_path`:
             integrated gradients, exact where features act on the logit one by one
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sternpost.sae import SAE


class Candidate(NamedTuple):
    """A feature to be tried, and which list it comes from."""

    feature: int
    origin: str
    """"paper", "attribution", "paper+attribution" or "given"."""


def active_in(refusals: Iterable[Float[Tensor, "_ d_model"]], sae: SAE,
              at_least: int = 2) -> list[int]:
    """Features active on at least `at_least` tokens of one of the `refusals`, the most often
    active first."""
    most = active_counts(refusals, sae)
    ranked = most.argsort(descending=True, stable=True).tolist()
    return [feature for feature in ranked if most[feature] >= at_least]


def active_counts(refusals: Iterable[Float[Tensor, "_ d_model"]],
                  sae: SAE) -> Int[Tensor, " d_sae"]:
    """On how many tokens of one of the `refusals` each feature is active, at most."""
    most = torch.zeros(sae.d_sae, dtype=torch.long, device=sae.device)
    for values in refusals:
        acts = sae.encode(values.to(sae.device))
        counts = torch.bincount(acts.indices[acts.values > 0], minlength=sae.d_sae)
        most = torch.maximum(most, counts)
    return most


def attribution(values: Float[Tensor, "token d_model"], gradient: Float[Tensor, "token d_model"],
                sae: SAE) -> Float[Tensor, " d_sae"]:
    """First-order effect of each feature of one prompt on the logit whose `gradient` it is."""
    acts = sae.encode(values.to(sae.device))
    along = gradient.to(sae.W_dec) * sae.unit(values.to(sae.device))
    pull = torch.einsum("td,tkd->tk", along, sae.W_dec[acts.indices])
    total = torch.zeros(sae.d_sae, dtype=pull.dtype, device=pull.device)
    return total.index_add(0, acts.indices.flatten(), (pull * acts.values).flatten())


def ablation_path(values: Float[Tensor, "token d_model"], sae: SAE,
                  steps: int = 8) -> Float[Tensor, "step token d_model"]:
    """The stream on its way from no feature active to all as they are, the SAE's error kept:
    h - (1 - alpha) * sum of acts[f] W_dec[f], alpha the middles of `steps` equal parts."""
    acts = sae.encode(values.to(sae.device))
    written = torch.einsum("tk,tkd->td", acts.values.to(sae.W_dec), sae.W_dec[acts.indices])
    written = written * sae.unit(values.to(sae.device))
    alpha = (torch.arange(steps, device=values.device) + 0.5) / steps
    return values - (1 - alpha)[:, None, None] * written.to(values)


def strongest(scores: Float[Tensor, " d_sae"], n: int) -> list[int]:
    """The `n` features of the highest positive score, best first."""
    order = scores.argsort(descending=True, stable=True)[:n].tolist()
    return [feature for feature in order if scores[feature] > 0]


def merge(paper: Sequence[int], attributed: Sequence[int]) -> list[Candidate]:
    """Both lists as one, each feature once, with its origin."""
    both = set(paper) & set(attributed)
    out = [Candidate(f, "paper+attribution" if f in both else "paper") for f in paper]
    return out + [Candidate(f, "attribution") for f in attributed if f not in both]
