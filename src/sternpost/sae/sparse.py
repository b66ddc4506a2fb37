"""Activations as a list of what is active, and the gradients of a decoder and an encoder from it.

    x_hat[t]  = sum over entries of token t:    value * W_dec[feature]
    d_value   = g[row] . W_dec[feature]                    g: the loss's gradient by x_hat
    dW_dec[f] = sum over entries of feature f:  value * g[row]
    dW_enc[f] = sum over entries of feature f:  d_value * x[token]      where value > 0
    db_enc[f] = sum over entries of feature f:  d_value                 where value > 0

Every sum is an embedding bag: over the entries by token, or over the entries sorted by feature. No
matrix [token, d_sae] is made, and none of the gradients' terms is larger than its result. One list
serves every term of a loss: an entry names the row of `g` that it belongs to.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag


class Entries(NamedTuple):
    """What is active, in the order of the tokens. A value of 0 or less is not active."""

    token: Int[Tensor, " entry"]
    feature: Int[Tensor, " entry"]
    value: Float[Tensor, " entry"]

    @classmethod
    def of(cls, values: Float[Tensor, "token K"], indices: Int[Tensor, "token K"]) -> "Entries":
        """Those of `values` at the features `indices`."""
        tokens, k = values.shape
        token = torch.arange(tokens, device=values.device).repeat_interleave(k)
        return cls(token, indices.reshape(-1), values.reshape(-1))

    def where(self, keep: Tensor) -> "Entries":
        """Those that a mask or an index keeps."""
        return Entries(self.token[keep], self.feature[keep], self.value[keep])


class Gradients(NamedTuple):
    """Of one loss, by the SAE's weights; and by each entry's value."""

    W_enc: Float[Tensor, "d_sae d_model"]
    W_dec: Float[Tensor, "d_sae d_model"]
    b_enc: Float[Tensor, " d_sae"]
    value: Float[Tensor, " entry"]


def decode(entries: Entries, W_dec: Float[Tensor, "d_sae d_model"],
           tokens: int) -> Float[Tensor, "token d_model"]:
    """Each token's sum of value * row, without a bias."""
    return _sums(entries.feature, W_dec, _starts(entries.token, tokens), entries.value)


def dots(feature: Int[Tensor, " entry"], W: Float[Tensor, "d_sae d_model"],
         row: Int[Tensor, " entry"], g: Float[Tensor, "row d_model"]) -> Float[Tensor, " entry"]:
    """W[feature] . g[row] of every entry."""
    # the gradient of an embedding bag by its weights is this very product; it makes no temporary
    starts = row.new_zeros(0)
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(
        g, W, feature, starts, row, 0)


def gradients(entries: Entries, g: Float[Tensor, "row d_model"], row: Int[Tensor, " entry"],
              x: Float[Tensor, "token d_model"],
              W_dec: Float[Tensor, "d_sae d_model"]) -> Gradients:
    """Of a loss whose gradient by the reconstructions is `g`; `x` is what the encoder read."""
    d_value = dots(entries.feature, W_dec, row, g)
    through = torch.where(entries.value > 0, d_value, 0.0)
    order, starts = _by_feature(entries.feature, len(W_dec))
    token, by = entries.token[order], through[order]
    b_enc = torch.zeros_like(W_dec[:, 0]).index_add_(0, entries.feature, through)
    return Gradients(_sums(token, x, starts, by),
                     _sums(row[order], g, starts, entries.value[order]), b_enc, d_value)


def _sums(which: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    return embedding_bag(which, rows, starts, mode="sum", per_sample_weights=weights)


def _starts(ids: Tensor, n: int) -> Tensor:
    count = ids.bincount(minlength=n)
    return count.cumsum(0) - count


def _by_feature(feature: Tensor, d_sae: int) -> tuple[Tensor, Tensor]:
    """The entries' order by feature, and where each feature's begin."""
    if feature.is_cuda:
        order = feature.argsort(stable=True)
    else:  # numpy sorts 16 bits by counting them: a hundredth of what torch takes on two threads
        small = np.uint16 if d_sae <= 1 << 16 else np.int32
        order = torch.from_numpy(feature.numpy().astype(small).argsort(kind="stable"))
    return order, _starts(feature, d_sae)
