"""sternpost: `with steer(model, sae, [Clamp(...)])`, README."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.conformance.checks import Peer
from benchmarks.conformance.hooked import Hooked
from benchmarks.conformance.subject import FEATURE, VALUE, Subject
from sternpost import Clamp, steer


@contextmanager
def steered(subject: Subject, model: Any, on: bool, start: int) -> Iterator[Hooked]:
    """A reply alone is `response`; the prompt has as many columns as `start`."""
    edits = [Clamp(FEATURE, VALUE)] if on else []
    with steer(model, subject.sae, edits, positions="response" if start else "all"):
        yield Hooked(model)


PEER = Peer("sternpost", "clamp", steered, start=True)
