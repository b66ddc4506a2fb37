"""Gates as tensors and a line of JSON, and back."""

from typing import Any

import torch
from torch import Tensor

from sternpost.errors import GateError
from sternpost.gates.residual import ResidualGate
from sternpost.gates.sparse import SparseGate
from sternpost.types import Hookpoint

_TENSORS = {"residual": ("w",), "sparse": ("features", "rows", "bias", "thresholds", "v")}


def to_tensors(gate: ResidualGate | SparseGate) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file keeps of a gate: its JSON, its tensors."""
    body = {"kind": gate.kind, "hookpoint": str(gate.hookpoint), "b": gate.b,
            "threshold": gate.threshold}
    return body, {name: getattr(gate, name).contiguous() for name in _TENSORS[gate.kind]}


def from_tensors(body: dict[str, Any], tensors: dict[str, Tensor]) -> ResidualGate | SparseGate:
    """The gate that `to_tensors` took apart. Raises GateError."""
    kinds = {"residual": ResidualGate, "sparse": SparseGate}
    kind = body.get("kind")
    if kind not in kinds:
        raise GateError(f"A gate is of kind {', '.join(kinds)}; this file says {kind!r}. It may be "
                        "of a newer sternpost.")
    missing = [name for name in _TENSORS[kind] if name not in tensors]
    if missing or not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise GateError(f"A {kind} gate with missing or non-finite tensors: {missing or 'NaN'}.")
    named = {name: tensors[name] for name in _TENSORS[kind]}
    return kinds[kind](Hookpoint.parse(body["hookpoint"]), b=float(body["b"]),
                       threshold=float(body["threshold"]), **named)
