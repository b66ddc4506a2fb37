"""steering-vectors: `with vector.apply(model, multiplier=..., min_token_index=...)`, its README."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from steering_vectors import SteeringVector

from benchmarks.conformance.checks import Peer
from benchmarks.conformance.hooked import Hooked
from benchmarks.conformance.subject import LAYER, STRENGTH, Subject


@contextmanager
def steered(subject: Subject, model: Any, on: bool, start: int) -> Iterator[Hooked]:
    """Off is a multiplier of 0."""
    vector = SteeringVector({LAYER: subject.vector}, "decoder_block")
    with vector.apply(model, multiplier=STRENGTH if on else 0.0, min_token_index=start):
        yield Hooked(model)


PEER = Peer("steering-vectors", "add", steered, start=True)
