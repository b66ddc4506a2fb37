"""Edits -> a table of small tensors: one slot an edit, one mask row a list of edits.

| edit | s | t | lo | hi | D |
|---|---|---|---|---|---|
| Clamp(f, c) | 1 | 0 | c | c | W_dec[f] |
| Floor(f, c) / Ceiling(f, c) | 1 | 0 | c / -inf | inf / c | W_dec[f] |
| Scale(f, x) | x | 0 | -inf | inf | W_dec[f] |
| Ablate(f) | 1 | 0 | 0 | 0 | W_dec[f] |
| Add(f or v, x) | 1 | x * norm | -inf | inf | unit direction |

`a`, what an edit reads, is the feature's activation; for `Add` it is 0 (it reads nothing).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sternpost.errors import EditError
from sternpost.sae import SAE
from sternpost.types import Ablate, Add, Ceiling, Clamp, Edit, Floor, Mode, Plan, Scale

INF = math.inf
LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Table:
    """Compiled edits, float32: everything that the formula needs, and nothing else."""

    features: tuple[int | None, ...]
    """Feature of each slot; None for a direction that is no feature."""
    reads: Bool[Tensor, " slot"]
    """Whether the slot reads a feature's activation."""
    column: Int[Tensor, " slot"]
    """The feature read; 0 where nothing is."""
    reader: SAE | None
    """An SAE of the rows that the slots read, by thresholds; None where no slot reads."""
    D: Float[Tensor, "slot d_model"]
    """What one unit of change writes."""
    scale: Float[Tensor, " slot"]
    shift: Float[Tensor, " slot"]
    low: Float[Tensor, " slot"]
    high: Float[Tensor, " slot"]
    rows: Bool[Tensor, "row slot"]
    """Which slots each list of edits uses."""
    lists: tuple[tuple[int, ...], ...]
    """The slots of each list of edits, in the list's order."""

    def to(self, device: torch.device) -> "Table":
        """The same table on another device."""
        moved = {name: getattr(self, name).to(device) for name in (
            "reads", "column", "D", "scale", "shift", "low", "high", "rows")}
        reader = None if self.reader is None else self.reader.to(device)
        return replace(self, **moved, reader=reader)


def rows_of(edits: Sequence[Any]) -> tuple[tuple[Any, ...], ...] | None:
    """The lists of edits, one a row, if that is what was given; None for one list for all."""
    nested = [isinstance(item, Sequence) for item in edits]
    if not any(nested):
        return None
    if not all(nested):
        raise EditError("Edits are one list for all rows, or one list a row; got a mixture.")
    return tuple(tuple(row) for row in edits)


def compile_plan(plan: Plan) -> Table:
    """The table of `plan`. Raises EditError for an edit that its SAE cannot carry out."""
    sae: SAE = plan.sae
    if sae.kind == "batchtopk":
        raise EditError("This BatchTopK SAE holds no thresholds: what a token reads hangs on the "
                        "batch that it is in. Measure them on data: "
                        "sternpost.sae.calibrate(sae, residuals), or sternpost run --sae.")
    per_row = rows_of(plan.edits)
    lists = (tuple(plan.edits),) if per_row is None else per_row
    slots: dict[Any, int] = {}  # equal edits of different rows share a slot
    edits: list[Edit] = []
    numbers: list[tuple[int, ...]] = []
    for given in lists:
        row = tuple(_plain(edit) for edit in given)
        for edit in row:
            check_edit(edit, sae, plan.mode)
        keys = [(_key(edit), row[:at].count(edit)) for at, edit in enumerate(row)]
        for key, edit in zip(keys, row, strict=True):
            if key not in slots:
                slots[key] = len(slots)
                edits.append(edit)
        numbers.append(tuple(slots[key] for key in keys))
    return _table(edits, sae, tuple(numbers), plan.mode)


def _plain(edit: Any) -> Any:
    """The edit with numpy's numbers as Python's."""
    if not isinstance(edit, Edit):
        return edit
    numbers = {name: value.item() for name in edit.__slots__
               if isinstance(value := getattr(edit, name), np.integer | np.floating)}
    return replace(edit, **numbers) if numbers else edit


def _key(edit: Edit) -> Any:
    return id(edit) if isinstance(edit, Add) else (type(edit), edit)


def _table(edits: Sequence[Edit], sae: SAE, lists: tuple[tuple[int, ...], ...],
           mode: Mode) -> Table:
    rows = torch.zeros(len(lists), len(edits), dtype=torch.bool)
    for number, slots in enumerate(lists):
        rows[number, list(slots)] = True
    numbers = torch.tensor([_numbers(edit, sae) for edit in edits]).reshape(len(edits), 4)
    features = tuple(_feature(edit) for edit in edits)
    directions = [_direction(edit, sae) for edit in edits]
    D = torch.stack(directions) if directions else torch.zeros(0, sae.d_model)
    scale, shift, low, high = numbers.T.contiguous()
    reads = torch.tensor([not isinstance(e, Add) for e in edits], dtype=torch.bool)
    column = torch.tensor([0 if f is None else sae.row_of(f) for f in features], dtype=torch.long)
    reader = _reader(sae, column.to(sae.device), mode) if bool(reads.any()) else None
    return Table(features, reads, column, reader, D.float(), scale, shift, low, high, rows,
                 lists).to(sae.device)


def _reader(sae: SAE, column: Tensor, mode: Mode) -> SAE:
    thresholds = torch.zeros_like(sae.b_enc) if sae.threshold is None or mode == "relu" \
        else sae.threshold
    return replace(sae, W_enc=sae.W_enc[column], W_dec=sae.W_dec[column], b_enc=sae.b_enc[column],
                   threshold=thresholds[column], kind="jumprelu", k=None, stats=None, ids=None)


def _numbers(edit: Edit, sae: SAE) -> tuple[float, float, float, float]:
    """scale, shift, low, high of one edit."""
    match edit:
        case Clamp(value=value):
            return 1.0, 0.0, value, value
        case Floor(value=value):
            return 1.0, 0.0, value, INF
        case Ceiling(value=value):
            return 1.0, 0.0, -INF, value
        case Scale(factor=factor):
            return factor, 0.0, -INF, INF
        case Ablate():
            return 1.0, 0.0, 0.0, 0.0
        case Add(value=value, unit=unit):
            norm = 1.0 if unit == "raw" else sae.residual_norm
            assert norm is not None
            return 1.0, value * norm, -INF, INF


def _feature(edit: Edit) -> int | None:
    if isinstance(edit, Add):
        return edit.feature_or_direction if isinstance(edit.feature_or_direction, int) else None
    return edit.feature


def _direction(edit: Edit, sae: SAE) -> Tensor:
    if not isinstance(edit, Add):
        return sae.W_dec[sae.row_of(edit.feature)].detach()
    given = edit.feature_or_direction
    direction = sae.W_dec[sae.row_of(given)] if isinstance(given, int) else given
    direction = direction.detach().to(sae.device, torch.float32)
    return direction / direction.norm()


def check_edit(edit: Any, sae: SAE, mode: Mode) -> None:
    """Raises EditError if `sae` cannot carry out `edit` in `mode`."""
    if not isinstance(edit, Edit):
        raise EditError(f"{edit!r} is no edit. Edits: Clamp, Floor, Ceiling, Scale, Ablate, Add, "
                        "e.g. sternpost.Clamp(feature=597, value=8.0).")
    for name in ("value", "factor"):
        value = getattr(edit, name, 0.0)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= LARGEST:
            raise EditError(f"{edit}: {name} must be a finite number (float32); got {value!r}.")
    feature = _feature(edit)
    if feature is None:
        assert isinstance(edit, Add)
        _check_direction(edit, sae)
    elif isinstance(feature, bool) or not isinstance(feature, int) \
            or sae.row_of(feature) is None:
        raise EditError(f"{edit}: feature {feature!r} is out of range; this SAE has features "
                        + (f"0 to {sae.d_sae - 1}." if sae.ids is None
                           else f"{', '.join(map(str, sae.ids))}."))
    if isinstance(edit, Add):
        if edit.unit == "residual_norm" and sae.residual_norm is None:
            raise EditError("Add in residual norms needs the median residual norm, which this SAE "
                            "does not store. Give the amount itself: Add(..., unit=\"raw\").")
    elif mode == "threshold" and sae.threshold is None:
        raise EditError("mode='threshold' needs a threshold per feature, which this SAE does not "
                        "have. Use mode='exact'.")


def _check_direction(edit: Add, sae: SAE) -> None:
    given = edit.feature_or_direction
    if not isinstance(given, Tensor):
        raise EditError(f"Add takes a feature (int) or a [d_model] tensor; got {given!r}.")
    if tuple(given.shape) != (sae.d_model,):
        raise EditError(f"Add: the direction has shape {tuple(given.shape)}; the residual stream "
                        f"asks for ({sae.d_model},).")
    norm = float(given.detach().float().norm())
    if not math.isfinite(norm) or norm == 0:
        raise EditError("Add: the direction must be finite and not zero.")
