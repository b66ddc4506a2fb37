"""How much of each edit each token of a forward gets.

    where a plan writes       the dose of the row: all of it, or what its gate's risks ask for
    where a continuation gate is open       all of it
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sternpost.engines.proofs import Orders
from sternpost.engines.reading import Stream


class Dosed(NamedTuple):
    """The tokens that are written, and how."""

    edited: Tensor
    """[row, seq]"""
    on: Tensor
    """[row, seq, slot]: bool, or where a policy gives doses, those."""
    more: Tensor | None
    """[row, seq]: those that only a continuation gate has written; None for none."""


def dosed(orders: Orders, stream: Stream, h: Tensor) -> Dosed:
    """What of the stream `h` [row, seq, d_model] is written; gates have read it."""
    edited, dose, rows = stream.edited.to(h.device), orders.table.rows, len(h)
    if orders.n_lists is not None:
        dose = dose.repeat_interleave(rows // len(dose), 0)
    whole = dose  # [row, slot], or [1, slot] where all rows' edits are one list
    if orders.plan.gate is not None:
        edited, dose = _gated(orders, stream, (edited, dose))
    on = dose[:, None, :] * edited[:, :, None]
    if stream.opened is None or not stream.opened.any():
        return Dosed(edited, on, None)
    opened = stream.opened.to(h.device)
    on = torch.where(opened[:, :, None], whole[:, None, :].to(on.dtype), on)
    return Dosed(edited | opened, on, opened & ~edited)


def _gated(orders: Orders, stream: Stream, by: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Which tokens are written, and each row's doses [row, slot], by its gate's risks."""
    (edited, rows), plan, lists = by, orders.plan, orders.table.lists
    doses = stream.doses(plan, 1 if plan.policy is None else len(lists[0])).to(edited.device)
    stream.call.doses = doses
    edited = edited & doses.ne(0).any(1)[:, None]
    if plan.policy is None:
        return edited, rows
    slots = torch.tensor(lists, device=edited.device).repeat_interleave(
        len(doses) // len(lists), 0)
    return edited, torch.zeros(len(doses), rows.shape[1], device=edited.device).scatter(
        1, slots, doses)
