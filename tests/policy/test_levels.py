"""Levels to JSON and back, and the plans that they are."""

import json
from typing import Any

import pytest
import torch

from sternpost.errors import PolicyError
from sternpost.gates import Continuation, ResidualGate
from sternpost.policy import Level, follows, linear, step
from sternpost.types import Ablate, Add, Ceiling, Clamp, Floor, Hookpoint, NormCap, Scale
from subjects import make_sae

GATE = ResidualGate(Hookpoint(0), torch.zeros(32), 0.0, threshold=.9)
DIRECTION = torch.arange(32.0)
LEVEL = Level((Clamp(3, 2.5), Ablate(4), Scale(5, -1.0), Floor(6, 1.0), Ceiling(7, 2.0),
               Add(8, .5), Add(DIRECTION, .25, unit="raw")), .7,
              (step(.7), *[linear(.2, .7)] * 6), cap=NormCap(.5))


def test_a_level_survives_json() -> None:
    body = json.loads(json.dumps(LEVEL.as_dict(LEVEL.directions())))
    back = Level.of(body, [DIRECTION])
    assert back.edits[:5] == LEVEL.edits[:5]
    assert back.responses == LEVEL.responses
    added: Any = back.edits[6]
    assert torch.equal(added.feature_or_direction, DIRECTION)
    assert (added.value, added.unit) == (.25, "raw")
    assert (back.threshold, back.cap, back.mode) == (.7, NormCap(.5), "threshold")


def test_a_level_is_a_plan() -> None:
    plan = LEVEL.plan(make_sae(), GATE, (1, 2), "abc")
    assert plan.gate.threshold == .7
    assert plan.policy.responses == LEVEL.responses
    assert (plan.tail, plan.pack, plan.cap) == ((1, 2), "abc", NormCap(.5))
    assert Level((Clamp(1, 1.0),)).plan(make_sae(), GATE).gate.threshold == .9
    off = Level().plan(make_sae(), GATE)
    assert (off.edits, off.gate, off.policy) == ((), None, None)


@pytest.mark.parametrize("change", [{"bogus": 1}, {"edits": [{"kind": "Explode", "feature": 1}]},
                                    {"edits": [{"kind": "Clamp", "feature": 1}]},
                                    {"responses": [{"points": [[0, 1]]}]}])
def test_what_a_level_does_not_know_is_refused(change: dict[str, Any]) -> None:
    body = {**Level().as_dict(), **change}
    with pytest.raises(PolicyError):
        Level.of(body)


def reading(threshold: float, w: float = 1.0) -> Continuation:
    return Continuation(ResidualGate(Hookpoint(1), torch.full((32,), w), 0.5, threshold), 3, 5)


def test_a_level_that_reads_turns_and_replies_survives_json() -> None:
    level = Level((Clamp(5, 6.0),), 0.5, decay=0.7, continuation=reading(0.9))
    shared = follows([Level(), level, Level((Clamp(5, 9.0),), continuation=reading(0.8))])
    assert isinstance(shared, ResidualGate)
    body = json.loads(json.dumps(level.as_dict()))
    again = Level.of(body, (), shared)
    plan = again.plan(make_sae(), ResidualGate(Hookpoint(0), torch.ones(32), 0.0))
    assert (plan.decay, plan.continuation.on, plan.continuation.off) == (0.7, 3, 5)
    assert plan.continuation.gate.threshold == 0.9
    assert torch.equal(plan.continuation.gate.w, torch.ones(32))
    assert again.as_dict() == level.as_dict()
    assert Level().plan(make_sae()).continuation is None
    assert follows([Level()]) is None
    assert not {"decay", "continuation"} & set(Level((Clamp(5, 6.0),)).as_dict())


def test_a_continuation_without_its_gate_or_with_several_is_refused() -> None:
    body = Level((Clamp(5, 6.0),), continuation=reading(0.9)).as_dict()
    with pytest.raises(PolicyError, match="and no gate"):
        Level.of(body)
    body["continuation"]["more"] = 1
    with pytest.raises(PolicyError, match="on, off and threshold"):
        Level.of(body, (), ResidualGate(Hookpoint(1), torch.ones(32), 0.5))
    with pytest.raises(PolicyError, match="one continuation gate"):
        follows([Level(continuation=reading(0.9)), Level(continuation=reading(0.9, 2.0))])
