"""How unusual an activation is, compared with the tokens of benign prompts.

    surprise(f, a) = -log10((m + 1) / (n + 1))

n, the benign tokens; m, those of them on which feature f is at least as active as a. So 2 says: on
one benign token in a hundred; the most that n tokens can say is log10(n + 1).

What is kept is a histogram a feature, in steps of an eighth of an octave around the feature's high
activation (contrast.py): O(d_sae), however many tokens there are. "At least as active" counts from
the step that holds a: what is less than an eighth of an octave below may count too.

Covered: any number of tokens, in any portions. Not covered: what stands where; a feature that is
common on benign first tokens is common. Overall: unusual is not harmful; of the active features of
a token some are always rare.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sternpost.features.contrast import BINS, step_of
from sternpost.sae import SAE


class Reference:
    """Takes benign tokens; then says how unusual an activation is."""

    def __init__(self, sae: SAE) -> None:
        high = torch.zeros(sae.d_sae) if sae.stats is None else sae.stats.high.float().cpu()
        self.sae = sae
        self.scale = torch.where(high > 0, high, 1.0)
        self.counts = torch.zeros(BINS, sae.d_sae, dtype=torch.int32)
        """Tokens in each step, a feature; those on which it is not active are not counted."""
        self.n = 0

    @torch.no_grad()
    def add(self, h: Float[Tensor, "token d_model"]) -> None:
        """The residual stream of more benign tokens."""
        acts = self.sae.encode(h.to(self.sae.device))
        values, features = acts.values.flatten().float().cpu(), acts.indices.flatten().cpu()
        step = step_of(values, self.scale[features])
        at = (step * self.sae.d_sae + features)[values > 0]
        self.counts.view(-1).index_add_(0, at, torch.ones(len(at), dtype=torch.int32))
        self.n += len(h)

    def surprise(self, features: Int[Tensor, " n"], acts: Float[Tensor, " n"]
                 ) -> Float[Tensor, " n"]:
        """How unusual it is that feature `features[i]` is `acts[i]` active, in powers of ten."""
        some, column = features.cpu().unique(return_inverse=True)
        above = self.counts[:, some].long().flip(0).cumsum(0).flip(0)
        acts = acts.float().cpu()
        seen = above[step_of(acts, self.scale[some[column]]), column]
        seen = torch.where(acts > 0, seen, self.n)
        return (-((seen + 1) / (self.n + 1)).log10()).clamp(min=0)
