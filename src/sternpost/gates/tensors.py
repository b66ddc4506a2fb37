"""Gates as tensors and a line of JSON, and back.

The JSON holds the kind and every field that is no tensor. A gate inside a gate is JSON inside the
JSON, and its tensors' names stand behind its own: `members.0.w`.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from sternpost.errors import GateError
from sternpost.gates.categories import CategoryGate
from sternpost.gates.combined import CombinedGate
from sternpost.gates.cosine import CosineGate
from sternpost.gates.feature import FeatureGate
from sternpost.gates.nullspace import NullspaceGate
from sternpost.gates.residual import ResidualGate
from sternpost.gates.sparse import SparseGate
from sternpost.types import Gate, Hookpoint

FittedGate = (ResidualGate | SparseGate | FeatureGate | CosineGate | NullspaceGate | CombinedGate
              | CategoryGate)
"""A gate of any kind that a file can hold."""

_KINDS: dict[str, tuple[type[FittedGate], tuple[str, ...], tuple[str, ...]]] = {
    "residual": (ResidualGate, ("w",), ()),
    "sparse": (SparseGate, ("features", "rows", "bias", "thresholds", "v"), ()),
    "feature": (FeatureGate, ("row", "bias", "cutoff"), ()),
    "cosine": (CosineGate, ("direction", "mean"), ()),
    "nullspace": (NullspaceGate, ("w",), ()),
    "combined": (CombinedGate, (), ("members",)),
    "categories": (CategoryGate, (), ("overall", "members")),
}
"""Of each kind: its class, the fields that are tensors, those that are gates."""


def to_tensors(gate: Gate) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file keeps of a gate: its JSON, its tensors. Raises GateError."""
    cls, named, nested = _kind(gate.kind)
    if type(gate) is not cls:
        raise GateError(f"A file holds gates of sternpost's own kinds; {type(gate).__name__} is "
                        "none of them.")
    body: dict[str, Any] = {"kind": gate.kind}
    tensors = {name: getattr(gate, name).contiguous() for name in named}
    for field in fields(cls):
        value = getattr(gate, field.name)
        if field.name in nested:
            body[field.name] = _apart(value, field.name, tensors)
        elif field.name not in named:
            body[field.name] = str(value) if isinstance(value, Hookpoint) else \
                list(value) if isinstance(value, tuple) else value
    return body, tensors


def _apart(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """JSON of a gate inside a gate, or of several; their tensors join the others."""
    if isinstance(value, tuple):
        return [_apart(gate, f"{name}.{at}", tensors) for at, gate in enumerate(value)]
    body, inside = to_tensors(value)
    tensors |= {f"{name}.{key}": tensor for key, tensor in inside.items()}
    return body


def from_tensors(body: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FittedGate:
    """The gate that `to_tensors` took apart. Raises GateError."""
    cls, named, nested = _kind(body.get("kind"))
    _check(body, tensors, named, [f.name for f in fields(cls) if f.name not in named])
    values: dict[str, Any] = {name: tensors[name] for name in named}
    for field in fields(cls):
        if field.name in nested:
            values[field.name] = _together(body[field.name], field.name, tensors)
        elif field.name not in named:
            values[field.name] = _value(body[field.name], field.type)
    return cls(**values)


def _together(body: Any, name: str, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(body, list):
        return tuple(_together(one, f"{name}.{at}", tensors) for at, one in enumerate(body))
    dotted = f"{name}."
    return from_tensors(body, {key.removeprefix(dotted): tensor for key, tensor in tensors.items()
                               if key.startswith(dotted)})


def _value(value: Any, wanted: Any) -> Any:
    if wanted is Hookpoint:
        return Hookpoint.parse(value)
    if isinstance(value, list):
        return tuple(value)
    return float(value) if wanted is float else value


def _kind(kind: Any) -> tuple[type[FittedGate], tuple[str, ...], tuple[str, ...]]:
    if kind not in _KINDS:
        raise GateError(f"A gate is of kind {', '.join(_KINDS)}; this one says {kind!r}. It may be "
                        "of a newer sternpost.")
    return _KINDS[kind]


def _check(body: Mapping[str, Any], tensors: Mapping[str, Tensor], named: tuple[str, ...],
           rest: list[str]) -> None:
    """A gate that reads NaN never fires: nothing unfinished gets in."""
    missing = [name for name in named if name not in tensors] + \
        [name for name in rest if name not in body]
    broken = [name for name in named if name in tensors
              and not bool(torch.isfinite(tensors[name]).all())]
    broken += [name for name in rest if isinstance(body.get(name), float)
               and not math.isfinite(body[name])]
    if missing or broken:
        raise GateError(f"A {body['kind']} gate with missing or non-finite parts: missing "
                        f"{', '.join(missing) or 'none'}; not finite {', '.join(broken) or 'none'}"
                        ". Get the file again.")
