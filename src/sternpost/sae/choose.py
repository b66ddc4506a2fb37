"""Which features are active on which tokens, found without keeping a matrix [token, d_sae].

    pre = W_enc x + b_enc       in blocks of tokens; what is chosen of a block is all that is kept

`top` is a TopK SAE's choice, `top_of_batch` a BatchTopK SAE's, `over` a JumpReLU SAE's. In bfloat16
a token's candidates are proposed, a quarter more than k, and decided between in float32.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sternpost.sae.sparse import Entries, dots

Sum = Callable[[Tensor], Tensor]
"""A tensor's sum over all processes that train together, each on its share of the batch."""
BLOCK = 1 << 23
"""Pre-activations made at once, at most."""


class Encoder(NamedTuple):
    """The weights that read, and whether bfloat16 proposes."""

    W_enc: Float[Tensor, "d_sae d_model"]
    b_enc: Float[Tensor, " d_sae"]
    bf16: bool = False


class Pairs(NamedTuple):
    """A token's K largest pre-activations; 0 where they are negative."""

    values: Float[Tensor, "token K"]
    indices: Int[Tensor, "token K"]


def top(x: Float[Tensor, "token d_model"], encoder: Encoder, k: int) -> Pairs:
    """Each token's k largest pre-activations, in no order."""
    d_sae = len(encoder.b_enc)
    if encoder.bf16 and k < d_sae:
        return _decided(x, encoder, k)
    blocks = [torch.topk(pre, min(k, d_sae), dim=-1, sorted=False) for pre in _blocks(x, encoder)]
    values, indices = map(torch.cat, zip(*blocks, strict=True))
    return Pairs(values.relu(), indices)


def _decided(x: Tensor, encoder: Encoder, k: int) -> Pairs:
    half = encoder._replace(W_enc=encoder.W_enc.bfloat16(), b_enc=encoder.b_enc.bfloat16())
    more = min(k + max(8, k // 4), len(encoder.b_enc))
    ids = torch.cat([torch.topk(pre, more, dim=-1, sorted=False).indices
                     for pre in _blocks(x.bfloat16(), half)])
    token = torch.arange(len(x), device=x.device).repeat_interleave(more)
    scores = dots(ids.flatten(), encoder.W_enc, token, x).view_as(ids) + encoder.b_enc[ids]
    values, at = torch.topk(scores, k, dim=-1, sorted=False)
    return Pairs(values.relu(), ids.gather(1, at))


def best(pairs: Pairs, k: int) -> Pairs:
    """Each token's k largest of those."""
    values, at = torch.topk(pairs.values, k, dim=-1, sorted=False)
    return Pairs(values, pairs.indices.gather(1, at))


def top_of_batch(x: Float[Tensor, "token d_model"], encoder: Encoder, k: int,
                 add_up: Sum = lambda x: x) -> tuple[Entries, Float[Tensor, ""]]:
    """The k * tokens largest positive pre-activations of the whole batch, and the least of them.
    Of several processes that share a batch each gets its own tokens'."""
    each = min(4 * k, len(encoder.b_enc))
    wanted = k * int(add_up(x.new_tensor(float(len(x)))))
    while True:
        values, ids = top(x, encoder, each)
        least = _nth_largest(values, wanted, add_up)
        chosen = values >= least
        full = add_up(chosen.all(1).any().to(x.dtype))
        if each == len(encoder.b_enc) or not bool(full):
            return Entries.of(values, ids).where(chosen.flatten()), least
        each = min(2 * each, len(encoder.b_enc))  # a token may have more than was looked at


def _nth_largest(values: Tensor, n: int, add_up: Sum) -> Tensor:
    """The nth largest of all processes' values; the least positive number where fewer are positive.
    Numbers from 0 up are in the order of their bits, which are halved until one is left."""
    bits = values.flatten().view(torch.int32 if values.dtype == torch.float32 else torch.int64)
    low, high = 1, torch.iinfo(bits.dtype).max
    while low < high:
        middle = low + (high - low + 1) // 2
        enough = int(add_up((bits >= middle).sum())) >= n
        low, high = (middle, high) if enough else (low, middle - 1)
    return bits.new_tensor(low).view(values.dtype)


def over(x: Float[Tensor, "token d_model"], encoder: Encoder,
         least: Float[Tensor, " d_sae"]) -> Entries:
    """All pre-activations above their feature's `least`."""
    parts: list[Entries] = []
    start = 0
    for pre in _blocks(x, encoder):
        token, feature = (pre > least).nonzero(as_tuple=True)
        parts.append(Entries(token + start, feature, pre[token, feature]))
        start += len(pre)
    return Entries(*map(torch.cat, zip(*parts, strict=True)))


def _blocks(x: Tensor, encoder: Encoder) -> Iterator[Tensor]:
    """Pre-activations, block by block, in one buffer."""
    rows = max(1, BLOCK // len(encoder.b_enc))
    buffer = x.new_empty(min(rows, len(x)), len(encoder.b_enc))
    for block in x.split(rows):
        yield torch.addmm(encoder.b_enc, block, encoder.W_enc.T, out=buffer[:len(block)])
