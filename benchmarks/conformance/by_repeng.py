"""repeng: `ControlModel(model, layers).set_control(vector, coeff)`, its README."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

np.float_ = np.float64  # type: ignore[attr-defined]  # repeng 0.4 asks for numpy 1; this is all it misses

from repeng import ControlModel, ControlVector  # noqa: E402

from benchmarks.conformance.checks import Peer  # noqa: E402
from benchmarks.conformance.hooked import Hooked  # noqa: E402
from benchmarks.conformance.subject import LAYER, STRENGTH, Subject  # noqa: E402


@contextmanager
def steered(subject: Subject, model: Any, on: bool, start: int) -> Iterator[Hooked]:
    """Off is `reset()`."""
    controlled = ControlModel(model, [LAYER])
    if on:
        controlled.set_control(ControlVector("llama", {LAYER: subject.vector.numpy()}), STRENGTH)
    else:
        controlled.reset()
    yield Hooked(controlled)


PEER = Peer("repeng", "add", steered, leaves=False)
