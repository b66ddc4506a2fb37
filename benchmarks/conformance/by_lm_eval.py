"""lm-eval: `--model steered --model_args pretrained=...,steer_path=...`, docs/model_guide."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.hf_steered import SteeredModel

from benchmarks.conformance.checks import NotOfferedError, Peer
from benchmarks.conformance.hooked import Hooked
from benchmarks.conformance.subject import LAYER, NEW, STRENGTH, Subject


class Scored(Hooked):
    """The calls by which lm-eval's own tasks reach the model."""

    def logits(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[row, seq, vocabulary]; lm-eval pads on the right, so masks are not passed on."""
        if not bool(mask.all()):
            raise NotOfferedError("scores rows that are padded on the right")
        out: torch.Tensor = self.model._model_call(ids)
        return out

    def generate(self, ids: torch.Tensor, cached: bool = True) -> torch.Tensor:
        """[row, seq + NEW] greedy."""
        if not cached:
            raise NotOfferedError("always generates with a cache")
        out: torch.Tensor = self.model._model_generate(
            ids, ids.shape[1] + NEW, [], attention_mask=torch.ones_like(ids), do_sample=False)
        return out


@contextmanager
def steered(subject: Subject, model: Any, on: bool, start: int) -> Iterator[Hooked]:
    """Off is a coefficient of 0."""
    file = Path(subject.folder) / f"steer-{on}.pt"
    torch.save({f"layers.{LAYER}": {
        "steering_vector": subject.vector, "steering_coefficient": STRENGTH if on else 0.0,
        "action": "add", "bias": None, "head_index": None}}, file)
    yield Scored(SteeredModel(pretrained=model, tokenizer=subject.tokenizer, device="cpu",
                              steer_path=str(file)))


PEER = Peer("lm-eval", "add", steered, clamps="its clamp sets the stream's projection on the "
            "decoder row, not the feature's activation, as it documents")
