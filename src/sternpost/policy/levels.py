"""Levels: operating points of a pack. What a level writes, when, and how much of it.

    off      nothing: logits are bit-identical to the model's own
    others   edits, each with its response to the gate's risk; or all of them above a threshold;
             with a decay the risk is that of all user messages, with a continuation gate they are
             written also where a reply turns harmful

A level's cost is measured, never stated here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor

from sternpost.errors import PolicyError
from sternpost.gates import Continuation, FittedGate, to_tensors
from sternpost.policy.responses import Doses, Response
from sternpost.types import Add, Cap, Edit, ErrorTerm, Mode, NormCap, Plan

LEVELS = ("off", "low", "medium", "high", "max")
"""Weakest first."""
KINDS = {kind.__name__: kind for kind in get_args(Edit)}


@dataclass(frozen=True)
class Level:
    """What is written at a level."""

    edits: tuple[Edit, ...] = ()
    threshold: float | None = None
    """The risk above which the gate fires; None: the gate's own."""
    responses: tuple[Response, ...] = ()
    """One an edit; none: each edit whole above the threshold."""
    positions: str = "tail+response"
    mode: Mode = "threshold"
    error: ErrorTerm = "keep"
    cap: Cap | None = None
    decay: float = 0.0
    """What is left of a risk one user message later; 0: the last message alone is read."""
    continuation: Continuation | None = None
    """What reads the reply; None: nothing does."""

    def __post_init__(self) -> None:
        if self.responses and len(self.responses) != len(self.edits):
            raise PolicyError(f"A level has a response for each edit, or none; got "
                              f"{len(self.responses)} for {len(self.edits)} edits.")

    def plan(self, sae: Any, gate: Any = None, tail: tuple[int, ...] = (),
             pack: str | None = None) -> Plan:
        """The plan that carries it out: on features of `sae`, when `gate` says so; without edits
        the gate is not asked."""
        if not self.edits:
            return Plan(sae, (), self.mode, self.positions, self.error, None, None, tail, pack)
        if gate is not None and self.threshold is not None:
            gate = replace(gate, threshold=self.threshold)
        policy = Doses(self.responses) if self.responses else None
        return Plan(sae, self.edits, self.mode, self.positions, self.error, gate, policy, tail,
                    pack, self.cap, decay=self.decay, continuation=self.continuation)

    def directions(self) -> list[Tensor]:
        """Those of its edits that are no features', in their order."""
        return [e.feature_or_direction for e in self.edits
                if isinstance(e, Add) and isinstance(e.feature_or_direction, Tensor)]

    def as_dict(self, directions: Sequence[Tensor] = ()) -> dict[str, Any]:
        """JSON's view; a direction is told by its place among `directions`."""
        out: dict[str, Any] = {"edits": [said(edit, directions) for edit in self.edits],
                               "positions": self.positions, "mode": self.mode, "error": self.error}
        if self.threshold is not None:
            out["threshold"] = self.threshold
        if self.responses:
            out["responses"] = [response.as_dict() for response in self.responses]
        if self.cap is not None:
            if not isinstance(self.cap, NormCap):
                raise PolicyError("A level keeps a NormCap; a covariance is not kept in a pack.")
            out["norm_cap"] = self.cap.limit
        if self.decay:
            out["decay"] = self.decay
        if (more := self.continuation) is not None:
            out["continuation"] = {"on": more.on, "off": more.off,
                                   "threshold": more.gate.threshold}
        return out

    @classmethod
    def of(cls, body: Mapping[str, Any], directions: Sequence[Tensor] = (),
           follows: FittedGate | None = None) -> "Level":
        """And back; `follows`: the gate that continuations read with. Raises PolicyError for keys
        that it does not know."""
        known = {"edits", "positions", "mode", "error", "threshold", "responses", "norm_cap",
                 "decay", "continuation"}
        if unknown := sorted(set(body) - known):
            raise PolicyError(f"A level has the keys {', '.join(sorted(known))}; got "
                              f"{', '.join(unknown)}. It may be of a newer sternpost.")
        return cls(tuple(edit_of(edit, directions) for edit in body["edits"]),
                   body.get("threshold"),
                   tuple(Response.of(one) for one in body.get("responses", ())),
                   body["positions"], body["mode"], body["error"],
                   NormCap(body["norm_cap"]) if "norm_cap" in body else None,
                   body.get("decay", 0.0), _continuation(body.get("continuation"), follows))


def _continuation(body: Mapping[str, Any] | None,
                  gate: FittedGate | None) -> Continuation | None:
    if body is None:
        return None
    if gate is None or set(body) != {"on", "off", "threshold"}:
        raise PolicyError("A level's continuation has on, off and threshold, and a gate beside the "
                          f"levels; got {', '.join(body)} and {'no' if gate is None else 'a'} "
                          "gate. Get the pack again.")
    return Continuation(replace(gate, threshold=float(body["threshold"])), body["on"], body["off"])


def follows(levels: Iterable[Level]) -> FittedGate | None:
    """The gate that the levels' continuations read with, which is one but for its threshold; None
    where they have none. Raises PolicyError."""
    gates = [level.continuation.gate for level in levels if level.continuation is not None]
    kept = [replace(gate, threshold=1.0) for gate in gates]  # type: ignore[type-var]
    if not kept:
        return None
    (body, tensors), *others = map(to_tensors, kept)
    if any(other != body or any(not torch.equal(tensors[name], part) for name, part in
                                parts.items()) for other, parts in others):
        raise PolicyError("The levels of a pack share one continuation gate, each with its own "
                          "threshold; these have several.")
    return kept[0]


def said(edit: Edit, directions: Sequence[Tensor] = ()) -> dict[str, Any]:
    """An edit as JSON has it."""
    out: dict[str, Any] = {"kind": type(edit).__name__}
    for name in type(edit).__slots__:
        value = getattr(edit, name)
        if isinstance(value, Tensor):
            place = [at for at, one in enumerate(directions) if torch.equal(one, value)]
            if not place:
                raise PolicyError("An Add of a direction that is not kept beside it.")
            out["direction"] = place[0]
        else:
            out["feature" if name == "feature_or_direction" else name] = value
    return out


def edit_of(body: Mapping[str, Any], directions: Sequence[Tensor] = ()) -> Edit:
    """And back."""
    given = dict(body)
    kind = given.pop("kind", None)
    if kind not in KINDS:
        raise PolicyError(f"An edit is one of {', '.join(KINDS)}; got {kind!r}.")
    if kind == "Add":
        at = given.pop("direction", None)
        given["feature_or_direction"] = given.pop("feature") if at is None else directions[at]
    try:
        return KINDS[kind](**given)
    except TypeError as error:
        raise PolicyError(f"{kind} takes {', '.join(KINDS[kind].__slots__)}; got "
                          f"{', '.join(map(str, body))}.") from error
