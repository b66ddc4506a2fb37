"""The residual stream of texts at several blocks from one pass, and what splicing an SAE in costs.

    ce(h), ce(x_hat), ce(mean): nats a token with the stream as it is, reconstructed, or replaced by
    the SAE's bias, which is the data's mean, everywhere

    ce_recovered = (ce(mean) - ce(x_hat)) / (ce(mean) - ce(h))

The tokens that an SAE is not trained on, BOS and attention sinks, stay as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sternpost.activations import keep_for_training
from sternpost.engines.halves import until
from sternpost.engines.steering import Steering
from sternpost.engines.transformers import TransformersEngine
from sternpost.sae import SAE
from sternpost.types import Hookpoint, Plan, Transcript


class Streams(NamedTuple):
    """One text at several blocks."""

    ids: Tensor
    """[token]"""
    values: list[Tensor]
    """[token, d_model] of each block, in the model's type."""
    keep: Tensor
    """[token]: whether an SAE is trained on it."""


@torch.no_grad()
def streams(engine: TransformersEngine, texts: Sequence[Transcript], at: Sequence[Hookpoint],
            longest: int) -> Iterator[Streams]:
    """The streams of each text, in order; longer texts are cut."""
    ids = [engine.ids(text)[:limit(engine, longest)] for text in texts]
    start = 0
    while start < len(ids):
        chosen = ids[start:start + engine.batch_size]
        try:
            values = _several(engine, *engine.padded(chosen, left=False), at)
        except torch.OutOfMemoryError:
            if len(chosen) == 1:
                raise
            engine.halve(len(chosen))
            continue
        start += len(chosen)
        for place, row in enumerate(chosen):
            own = [one[place, :len(row)] for one in values]
            text = torch.tensor(row, dtype=torch.long)
            keep = torch.stack([keep_for_training(text, one.cpu(), engine.bos) for one in own])
            yield Streams(text, own, keep.all(0))


def limit(engine: TransformersEngine, longest: int) -> int:
    """Tokens of a text that are read, at most."""
    return min(longest, getattr(engine.model.config, "max_position_embeddings", None) or longest)


def _several(engine: TransformersEngine, ids: Tensor, mask: Tensor,
             at: Sequence[Hookpoint]) -> list[Tensor]:
    last = max(at, key=lambda point: point.layer)
    kept: dict[Hookpoint, Tensor] = {}
    handles = []
    for point in at:
        if point != last:
            def look(block: Any, args: Any, output: Any, point: Hookpoint = point) -> None:
                kept[point] = output[0] if isinstance(output, tuple) else output

            handles.append(engine.blocks.at(point).register_forward_hook(look))
    try:
        kept[last] = until(engine.blocks, last, input_ids=ids, attention_mask=mask,
                           use_cache=False)[0]
    finally:
        for handle in handles:
            handle.remove()
    return [kept[point] for point in at]


@dataclass(frozen=True)
class Recovered:
    """Cross-entropy of the next token, nats, over the same tokens."""

    plain: float
    spliced: float
    mean: float
    """With the data's mean in the stream's place."""
    tokens: int

    @property
    def share(self) -> float | None:
        """CE loss recovered; None where the mean costs nothing."""
        lost = self.mean - self.plain
        return (self.mean - self.spliced) / lost if lost > 1e-6 else None


@torch.no_grad()
def recovered(engine: TransformersEngine, texts: Sequence[Transcript], sae: SAE,
              longest: int) -> Recovered:
    """What the model loses when the stream goes through `sae`."""
    mean = replace(sae, W_dec=torch.zeros_like(sae.W_dec), stats=None)
    sums, tokens = [0.0, 0.0, 0.0], 0
    for text in texts:
        found = next(streams(engine, [text], [sae.hookpoint], longest))
        ids = found.ids[None].to(found.values[0].device)
        if len(found.ids) < 2:
            continue
        tokens += len(found.ids) - 1
        for at, spliced in enumerate((None, sae, mean)):
            if spliced is None:
                logits = engine.model(input_ids=ids, use_cache=False).logits
            else:
                where = found.keep[None].to(ids.device)
                with Steering(engine.model, Plan(spliced, (), "exact", where, "drop")):
                    logits = engine.model(input_ids=ids, use_cache=False).logits
            sums[at] += float(cross_entropy(logits[0, :-1].float(), ids[0, 1:], reduction="sum"))
    plain, through, by_mean = (total / max(tokens, 1) for total in sums)
    return Recovered(plain, through, by_mean, tokens)
