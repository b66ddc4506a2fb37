"""Which features are more active on some prompts than on others, in one pass and flat memory.

    x[p, f]   the largest activation of feature f on the read tokens of prompt p
    d         (mean_1 - mean_0) / pooled standard deviation                        Cohen's d
    AUROC     P(x_1 > x_0) + P(x_1 = x_0) / 2 = U / (n_0 n_1)
    p         Mann-Whitney's U, two-sided, normal with the ties' correction
    q         p after Benjamini and Hochberg, over all features

What is kept is two sums and a histogram a side and feature, of x in steps of an eighth of an
octave: O(d_sae), however many prompts there are. U, AUROC and p are those of x rounded down to
its step, and are a fair test of that; means and deviations are of x itself.

Covered: two sides, any number of prompts, features that are nearly never active. Not covered:
prompts that belong together (give one of each). Overall: a score says that a feature differs, not
that it does anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import false_discovery_control, norm
from torch import Tensor

from sternpost.errors import SearchError
from sternpost.sae import SAE

STEPS, OCTAVES = 8, 16
"""Steps an octave, and octaves around a feature's scale."""
BINS = STEPS * OCTAVES + 2
"""Not active, the steps, and what lies beyond them with the last."""


BLOCK = 1 << 20
"""Largest activations held at once, prompts times features."""


@dataclass(frozen=True)
class Contrasted:
    """How each feature differs between the two sides, `[d_sae]` each."""

    d: Float[np.ndarray, " d_sae"]
    auroc: Float[np.ndarray, " d_sae"]
    p: Float[np.ndarray, " d_sae"]
    q: Float[np.ndarray, " d_sae"]
    active: Float[np.ndarray, "2 d_sae"]
    """Share of the prompts of each side on which a feature is active at all."""
    n: tuple[int, int]
    """Prompts of each side."""


class Contrast:
    """Takes prompts of side 0 or 1."""

    def __init__(self, sae: SAE) -> None:
        self.sae = sae
        scale = torch.ones(sae.d_sae) if sae.stats is None else sae.stats.high.cpu()
        self.scale = torch.where(scale > 0, scale, scale[scale > 0].median() if
                                 bool((scale > 0).any()) else torch.tensor(1.0))
        self.counts = torch.zeros(2, BINS, sae.d_sae, dtype=torch.int32)
        self.sums = torch.zeros(2, 2, sae.d_sae, dtype=torch.float64)
        """Of x and of its square, a side."""
        self.n = [0, 0]

    def add(self, prompts: Sequence[Float[Tensor, "_ d_model"]], sides: Sequence[int]) -> None:
        """Prompts' residual streams on the tokens that are read, each of its side."""
        together = max(1, BLOCK // self.sae.d_sae)
        for start in range(0, len(prompts), together):
            some = prompts[start:start + together]
            acts = self.sae.encode(torch.cat(list(some)).to(self.sae.device))
            rows = torch.arange(len(some)).repeat_interleave(
                torch.tensor([len(h) for h in some]))
            at = rows[:, None] * self.sae.d_sae + acts.indices.cpu()
            best = torch.zeros(len(some) * self.sae.d_sae).scatter_reduce_(
                0, at.flatten(), acts.values.flatten().float().cpu(), "amax")
            self.add_values(best.view(len(some), -1), sides[start:start + together])

    def add_values(self, x: Float[Tensor, "prompt d_sae"], sides: Sequence[int]) -> None:
        """Prompts' largest activations."""
        at, which = step_of(x, self.scale), torch.tensor(list(sides))
        for side in (0, 1):
            mine = which == side
            ones = torch.ones(int(mine.sum()), x.shape[1], dtype=torch.int32)
            self.counts[side].scatter_add_(0, at[mine], ones)
            self.sums[side, 0] += x[mine].double().sum(0)
            self.sums[side, 1] += x[mine].double().square().sum(0)
            self.n[side] += int(mine.sum())

    def result(self) -> Contrasted:
        """What the prompts so far say. Raises SearchError with fewer than two a side."""
        if min(self.n) < 2:
            raise SearchError(f"A contrast needs two prompts a side; got {self.n[1]} and "
                              f"{self.n[0]}. Give more.")
        n0, n1 = self.n
        mean = self.sums[:, 0].numpy() / np.array([[n0], [n1]])
        squares = self.sums[:, 1].numpy() - np.array([[n0], [n1]]) * mean ** 2
        pooled = np.sqrt(np.maximum(squares.sum(0), 0.0) / max(n0 + n1 - 2, 1))
        gap = mean[1] - mean[0]
        d = np.divide(gap, pooled, out=np.zeros_like(gap), where=pooled > 0)
        auroc, p = _mann_whitney(self.counts.numpy().astype(float))
        active = 1 - self.counts[:, 0].numpy() / np.array([[n0], [n1]])
        return Contrasted(d, auroc, p, false_discovery_control(p), active, (n0, n1))


def step_of(x: Tensor, scale: Tensor) -> Tensor:
    """0: not active; else the step of the logarithm, the scale lying at three quarters."""
    step = ((x / scale).clamp(min=1e-12).log2() * STEPS).floor() + STEPS * OCTAVES * 3 // 4
    return torch.where(x > 0, step.clamp(0, BINS - 2) + 1, 0).long()


def _mann_whitney(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and two-sided p of each feature, from [side, bin, feature]."""
    n0, n1 = counts.sum(1)[:, 0]
    below = counts[0].cumsum(0) - counts[0]
    u = (counts[1] * (below + counts[0] / 2)).sum(0)
    ties = counts.sum(0)
    n = n0 + n1
    spread = n0 * n1 / 12 * ((n + 1) - (ties ** 3 - ties).sum(0) / (n * (n - 1)))
    z = np.abs(u - n0 * n1 / 2) - 0.5  # with the correction for continuity
    z = np.divide(np.maximum(z, 0.0), np.sqrt(np.maximum(spread, 0.0)),
                  out=np.zeros_like(z), where=spread > 1e-9)
    return u / (n0 * n1), np.minimum(2 * norm.sf(z), 1.0)


def discovered(found: Contrasted, rate: float = 0.05) -> Bool[np.ndarray, " d_sae"]:
    """Features whose difference is a discovery at this false discovery rate."""
    return found.q <= rate
