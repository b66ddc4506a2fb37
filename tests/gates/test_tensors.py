"""Gates to tensors and a line of JSON, and back."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from sternpost.errors import GateError
from sternpost.files import canonical_json
from sternpost.gates import from_tensors, to_tensors
from streams import every_gate, rows

GATES = every_gate()


@pytest.mark.parametrize("name", GATES)
def test_gates_come_back_from_tensors(name: str) -> None:
    gate = replace(GATES[name], threshold=0.375)
    body, tensors = to_tensors(gate)
    again = from_tensors(json.loads(canonical_json(body)), tensors)
    h = rows(50, 9).h
    assert type(again) is type(gate)
    assert torch.equal(again.risks(h), gate.risks(h))
    assert (again.kind, again.hookpoint, again.threshold, again.categories) == (
        gate.kind, gate.hookpoint, 0.375, gate.categories)
    assert to_tensors(again)[0] == body
    assert all(isinstance(t, torch.Tensor) and t.is_contiguous() for t in tensors.values())


def test_nested_tensors_have_dotted_names() -> None:
    body, tensors = to_tensors(GATES["categories"])
    assert set(tensors) == {
        "overall.members.0.direction", "overall.members.0.mean", "overall.members.1.w",
        *(f"overall.members.2.{name}" for name in
          ("features", "rows", "bias", "thresholds", "v")),
        "members.0.w", "members.1.direction", "members.1.mean"}
    assert body["overall"]["members"][1]["kind"] == "residual"
    assert body["left_out"] == ["arson"]


def test_a_residual_gate_is_written_as_before() -> None:
    body, tensors = to_tensors(GATES["residual"])
    assert set(body) == {"kind", "hookpoint", "b", "threshold"}
    assert set(tensors) == {"w"}
    assert from_tensors({**body, "schema_version": 1}, tensors).kind == "residual"


def broken(name: str) -> list[tuple[str, Any, Any]]:
    """Each way in which one part of a gate can be wrong: the part, its JSON, its tensors."""
    body, tensors = to_tensors(GATES[name])
    out: list[tuple[str, Any, Any]] = []
    for key, tensor in tensors.items():
        out.append((key, body, {k: t for k, t in tensors.items() if k != key}))
        if tensor.is_floating_point():
            out.append((key, body, {**tensors, key: tensor * float("nan")}))
    for key, value in body.items():
        out.append((key, {k: v for k, v in body.items() if k != key}, tensors))
        if isinstance(value, float):
            out.append((key, {**body, key: float("inf")}, tensors))
    return out


@pytest.mark.parametrize("name", GATES)
def test_a_broken_gate_is_refused_by_the_name_of_the_part(name: str) -> None:
    for part, body, tensors in broken(name):
        with pytest.raises(GateError) as error:
            from_tensors(body, tensors)
        assert part.rsplit(".", 1)[-1] in str(error.value)


def test_a_kind_of_a_newer_version_is_refused_also_inside() -> None:
    body, tensors = to_tensors(GATES["cascade"])
    with pytest.raises(GateError, match="'oracle'"):
        from_tensors({**body, "kind": "oracle"}, tensors)
    members = [{**body["members"][0], "kind": "oracle"}, *body["members"][1:]]
    with pytest.raises(GateError, match="'oracle'"):
        from_tensors({**body, "members": members}, tensors)


@pytest.mark.usefixtures("unchecked")
def test_a_gate_that_no_file_can_hold_is_refused() -> None:
    class Mine:
        kind = "residual"

    with pytest.raises(GateError, match="Mine is none of them"):
        to_tensors(Mine())  # type: ignore[arg-type]
