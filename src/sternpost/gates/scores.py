"""Linear scores of rows, the same to the last bit whatever rows stand beside them.

    score_i = (x_0 + x_m) + ...       x = h_i * w in float64, halves added until one number is left
    risk    = 1 / (1 + exp(-score))

A matrix product sums in an order that hangs on how many rows it is given, and a vectorised sigmoid
treats a batch's last rows by another formula: a row whose risk is the threshold itself then fires
or not by its neighbours. Here each number comes of elementwise products and sums of its own row in
an order that d_model alone fixes, and of a sigmoid that takes one number at a time. What this
cannot mend is a stream that itself differs with the batch.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from scipy.special import expit
from torch import Tensor

from sternpost.errors import GateError

BLOCK = 1 << 20
"""Most products held at once."""


def dot(h: Float[Tensor, "row d_model"], w: Float[Tensor, " d_model"]) -> Float[Tensor, " row"]:
    """w . h of each row, float64, on the CPU."""
    return dots(h, w[None])[:, 0]


def dots(h: Float[Tensor, "row d_model"],
         W: Float[Tensor, "n d_model"]) -> Float[Tensor, "row n"]:
    """Each row's product with each of n vectors, float64, on the CPU."""
    check_width(h, W.shape[1])
    if len(h) == 0 or len(W) == 0:
        return torch.zeros(len(h), len(W), dtype=torch.float64)
    parts = [_total(part[:, :, None] * columns) for part, columns in _blocks(h, W)]
    return torch.cat(parts).cpu()


def lengths(h: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
    """|h| of each row, float64, on the CPU."""
    parts = [_total(part.to(torch.float64).T.contiguous() ** 2) for part in h.detach().split(256)]
    return torch.cat(parts).sqrt().cpu()


def sigmoid(score: Float[Tensor, " row"]) -> Float[Tensor, " row"]:
    """1 / (1 + exp(-score)), number by number."""
    return torch.from_numpy(expit(score.numpy()))


def check_width(h: Tensor, width: int) -> None:
    """Nothing, where rows are that long; else a GateError."""
    if h.shape[1] != width:
        raise GateError(f"This gate reads rows of {width} numbers; got {h.shape[1]}. Use the gate "
                        "of this model and hookpoint.")


def _blocks(h: Tensor, W: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows as columns [d_model, some], beside the vectors as [d_model, 1, n]."""
    if h.device.type not in ("cpu", "cuda"):  # others know no float64
        h = h.cpu()
    columns = W.detach().to(h.device, torch.float64).T.contiguous()[:, None]
    for part in h.detach().split(max(1, BLOCK // W.numel())):
        yield part.to(torch.float64).T.contiguous(), columns


def _total(x: Tensor) -> Tensor:
    """The sum over the first axis, its second half added to its first until one is left; uses x
    up."""
    while len(x) > 1:
        half = (len(x) + 1) // 2
        x[:len(x) - half] += x[half:]
        x = x[:half]
    return x[0]
