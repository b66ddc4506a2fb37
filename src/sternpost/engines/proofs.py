"""From what each forward of a call wrote to one record a row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sternpost.engines.architectures import Architecture
from sternpost.engines.templates import Template
from sternpost.steering import Table
from sternpost.types import Plan, Proof


class Orders(NamedTuple):
    """What a call is to carry out."""

    plan: Plan
    template: Template | None
    """Where the positions are found through it."""
    table: Table
    n_lists: int | None
    """How many lists of edits there are, one a row; None for one list for all."""
    architecture: Architecture


@dataclass
class Piece:
    """What one forward wrote."""

    start: int
    """Column of its first token."""
    edited: Tensor
    """[row, seq]"""
    index: Tensor
    """[row, seq]: among the row's real tokens"""
    before: Tensor | None
    """[row, seq, slot]; None where there is no slot"""
    after: Tensor | None
    continued: Tensor | None = None
    """[row, seq]: tokens edited that only a continuation gate had written; None for none"""


class Opened(NamedTuple):
    """What the gate said of each row."""

    risk: Sequence[float]
    fired: Sequence[bool]


def proofs(orders: Orders, pieces: Sequence[Piece], n_rows: int, gate: Opened | None = None,
           reply_risks: Sequence[float] | None = None) -> list[Proof]:
    """One record a row. Of beams and of several sequences a row the first stands for all.
    `reply_risks`: the highest that a continuation gate read, -inf where it read nothing."""
    if not pieces:
        return []
    edited = torch.cat([piece.edited.cpu() for piece in pieces], 1)
    index = torch.cat([piece.index.cpu() for piece in pieces], 1)
    before = _means([piece.before for piece in pieces], edited)
    after = _means([piece.after for piece in pieces], edited)
    more = [piece.continued.sum(1).cpu() for piece in pieces if piece.continued is not None]
    continued = torch.stack(more).sum(0).tolist() if more else [0] * len(edited)
    each = max(1, edited.shape[0] // n_rows)
    out = []
    for row in range(n_rows):
        slots = orders.table.lists[0 if orders.n_lists is None else row]
        written = bool(slots) or orders.plan.error == "drop"
        where = index[row * each][edited[row * each]].tolist() if written else ()
        risk = None if gate is None else gate.risk[row * each]
        fired = None if gate is None else gate.fired[row * each]
        out.append(Proof(
            hookpoint=orders.plan.sae.hookpoint, positions=tuple(where),
            features=tuple(orders.table.features[slot] for slot in slots),
            before=tuple(before[row * each][slot] for slot in slots),
            after=tuple(after[row * each][slot] for slot in slots),
            risk=risk, fired=fired, pack=orders.plan.pack,
            continued=continued[row * each] if written else 0,
            reply_risk=_known(reply_risks, row * each)))
    return out


def _known(risks: Sequence[float] | None, row: int) -> float | None:
    return None if risks is None or risks[row] == -math.inf else risks[row]


def _means(parts: Sequence[Tensor | None], edited: Tensor) -> list[list[float]]:
    """[row][slot]: mean over the edited tokens; NaN where there are none."""
    if any(part is None for part in parts):
        return [[] for _ in range(len(edited))]
    values = torch.cat([part.cpu() for part in parts if part is not None], 1).double()
    weight = edited[:, :, None].double()
    count = weight.sum(1)
    mean = (values * weight).sum(1) / count.clamp(min=1)
    return torch.where(count > 0, mean, math.nan).tolist()
