"""nnsight: `with model.trace(...)` and `with model.generate(...)`, nnsight.net's walkthrough."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from nnsight import LanguageModel

from benchmarks.conformance.checks import Peer
from benchmarks.conformance.subject import LAYER, NEW, STRENGTH, Subject


class Traced:
    """A model whose traces add the vector."""

    def __init__(self, model: Any, tokenizer: Any, change: torch.Tensor | None) -> None:
        self.model, self.change = LanguageModel(model, tokenizer=tokenizer), change

    @torch.no_grad()
    def logits(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[row, seq, vocabulary] of a trace."""
        lm, change = self.model, self.change
        with lm.trace({"input_ids": ids, "attention_mask": mask}):
            if change is not None:
                lm.model.layers[LAYER].output[:] += change
            out = lm.lm_head.output.save()
        return out  # noqa: RET504 a trace is no place to return from

    @torch.no_grad()
    def generate(self, ids: torch.Tensor, cached: bool = True) -> torch.Tensor:
        """[row, seq + NEW] greedy."""
        lm, change = self.model, self.change
        with lm.generate({"input_ids": ids, "attention_mask": torch.ones_like(ids)},
                         max_new_tokens=NEW, do_sample=False, use_cache=cached) as tracer:
            for _ in tracer.iter[:NEW]:
                if change is not None:
                    lm.model.layers[LAYER].output[:] += change
            out = tracer.result.save()
        return out  # noqa: RET504


@contextmanager
def steered(subject: Subject, model: Any, on: bool, start: int) -> Iterator[Traced]:
    """Off is a trace that changes nothing."""
    yield Traced(model, subject.tokenizer, STRENGTH * subject.vector if on else None)


PEER = Peer("nnsight", "add", steered)
