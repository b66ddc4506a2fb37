"""The terms of the training loss, each as what its gradients are made from.

    V       = |x|^2, summed over the batch
    prefix  = 1/G * sum over prefixes p of |x - x_hat_p|^2 / V               (plain SAEs: G = 1)
              x_hat_p: by the active features below p (Matryoshka)
    multi   = w * |x - x_hat_4k|^2 / V                                       (Multi-TopK)
    aux     = alpha * share * |e - e_hat|^2 / |e|^2          e: the error, taken as given
              e_hat: by the k_aux largest of the dead features, k_aux = min(d / 2, dead features),
              share = k_aux / (d / 2): few of them explain little
    fewness = lambda * (L0 / k - 1)^2                                        (JumpReLU)

arXiv 2406.04093 (A.2 and section 4), 2503.17547 (Matryoshka), 2407.14435 (appendix F).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sternpost.sae.sparse import Entries, decode

WINDOW = 0.5
"""JumpReLU: width of the window around a threshold, in its logarithm, that its gradient sees."""


class Chosen(NamedTuple):
    """What is active on a batch, and what else its loss looks at."""

    entries: Entries
    wide: Entries | None = None
    """Multi-TopK: the 4 k largest of each token."""
    near: Bool[Tensor, " entry"] | None = None
    """JumpReLU: which entries lie in the window around their threshold, on either side."""

    @classmethod
    def over(cls, found: Entries, log_threshold: Float[Tensor, " d_sae"]) -> "Chosen":
        """Of pre-activations: those over their threshold are active."""
        above = found.value.log() - log_threshold[found.feature]
        return cls(found._replace(value=torch.where(above > 0, found.value, 0.0)),
                   near=above.abs() < WINDOW / 2)


def threshold_gradient(chosen: Chosen, d_value: Float[Tensor, " entry"],
                       log_threshold: Float[Tensor, " d_sae"],
                       d_active: Tensor) -> Float[Tensor, " d_sae"]:
    """By the logarithm of each threshold. In the window a step is taken for a slope:

        d acts / d log threshold = -threshold / WINDOW,  d active / d log threshold = -1 / WINDOW

    `d_active`: the loss's gradient by the number of active entries.
    """
    entries = chosen.entries
    jump = log_threshold.exp()[entries.feature] * d_value + d_active
    assert chosen.near is not None
    by_entry = torch.where(chosen.near, -jump / WINDOW, 0.0)
    return torch.zeros_like(log_threshold).index_add_(0, entries.feature, by_entry)


class Term(NamedTuple):
    """One term's entries, and its gradient by the reconstructions that they make."""

    entries: Entries
    g: Float[Tensor, "row d_model"]
    row: Int[Tensor, " entry"]
    """The row of `g` of each entry."""
    lost: Float[Tensor, ""]
    """The squared error of this process's share of the batch, of the largest prefix."""
    loss: Float[Tensor, ""]
    """Of this process's share."""
    error: Float[Tensor, "token d_model"]


def prefix_term(x: Float[Tensor, "token d_model"], entries: Entries, W_dec: Tensor,
                ends: Sequence[int], variance: Tensor) -> Term:
    """The reconstruction by every prefix of the features."""
    errors, error, start = [], x, 0
    for end in ends:
        inside = (entries.feature >= start) & (entries.feature < end)
        part = entries if len(ends) == 1 else entries.where(inside)
        error = error - decode(part, W_dec, len(x))
        errors.append(error)
        start = end
    g = [(-2 / len(ends) / variance) * error for error in errors]
    # an entry is part of its own prefix and of every larger one
    sums = g if len(g) == 1 else list(torch.stack(g).flip(0).cumsum(0).flip(0))
    row = entries.token
    if len(ends) > 1:
        bounds = torch.tensor(list(ends), device=x.device)
        row = row + torch.bucketize(entries.feature, bounds, right=True) * len(x)
    squares = [error.square().sum() for error in errors]
    return Term(entries, torch.cat(sums), row, squares[-1],
                torch.stack(squares).sum() / len(ends) / variance, error)


def single_term(target: Float[Tensor, "token d_model"], entries: Entries, W_dec: Tensor,
                weight: Tensor) -> Term:
    """weight * |target - x_hat|^2, `target` and `weight` taken as given."""
    error = target - decode(entries, W_dec, len(target))
    lost = error.square().sum()
    return Term(entries, -2 * weight * error, entries.token, lost, weight * lost, error)


def joined(terms: Sequence[Term]) -> tuple[Entries, Tensor, Tensor]:
    """Entries, gradients and rows of several terms as of one: one pass does for all."""
    if len(terms) == 1:
        return terms[0].entries, terms[0].g, terms[0].row
    starts = [0, *torch.tensor([len(term.g) for term in terms[:-1]]).cumsum(0).tolist()]
    rows = [term.row + start for term, start in zip(terms, starts, strict=True)]
    entries = Entries(*map(torch.cat, zip(*(term.entries for term in terms), strict=True)))
    return entries, torch.cat([term.g for term in terms]), torch.cat(rows)
