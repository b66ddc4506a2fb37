"""The one formula by which the residual stream is changed. No model, no hook, no state.

    h' = h + sum over slots of  M * (clip(s*a + t, lo, hi) - a) * D

a, the activation a slot reads, comes from the unedited h; M says which slots a token uses, and with
a dose other than 1 how much of their change (-1: the change turned round). With `error="drop"` h'
is also moved onto the SAE's reconstruction: + x_hat(h) - h. A cap makes the whole change of a token
shorter (caps.py).

Covered: every edit, several features at once (all read h, then are written together), per token.
Not covered: edits that depend on what another edit wrote.
Overall: at the numeric precision of float32; the result has h's type.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sternpost.sae import SAE
from sternpost.sae.jumprelu import activate
from sternpost.steering.caps import kept_share
from sternpost.steering.compile import Table
from sternpost.types import How, Mode

On = Bool[Tensor, "token slot"] | Float[Tensor, "token slot"]
"""Which slots a token uses, or their doses."""


class Change(NamedTuple):
    """What a table's slots read in the unedited stream, and how they would move it, float32."""

    by: Float[Tensor, "token d_model"]
    touched: Bool[Tensor, " token"]
    """Tokens that are written; the others keep their very bits."""
    before: Float[Tensor, "token slot"]
    after: Float[Tensor, "token slot"]


class Written(NamedTuple):
    """The changed stream, and what each slot read and wrote."""

    h: Float[Tensor, "token d_model"]
    before: Float[Tensor, "token slot"]
    after: Float[Tensor, "token slot"]


def read(h: Float[Tensor, "token d_model"], sae: SAE, table: Table,
         mode: Mode) -> Float[Tensor, "token slot"]:
    """Activations that the slots read from the unedited stream `h`."""
    if table.reader is None:
        return h.new_zeros(h.shape[0], len(table.features), dtype=torch.float32)
    if mode == "exact" and sae.kind == "topk":
        acts = sae.encode(h).dense()[:, table.column]
    else:
        assert table.reader.threshold is not None
        acts = activate(table.reader.pre(h), table.reader.threshold)
    return acts.float() * table.reads


def change(h: Float[Tensor, "token d_model"], on: On,
           edited: Bool[Tensor, " token"], table: Table, sae: SAE, how: How) -> Change:
    """What the edits that are `on` make of the stream `h`, which stays as it is."""
    return changed(h, read(h, sae, table, how.mode), (on, edited), table, (sae, how))


def changed(h: Float[Tensor, "token d_model"], before: Float[Tensor, "token slot"],
            where: tuple[On, Bool[Tensor, " token"]], table: Table,
            what: tuple[SAE, How]) -> Change:
    """The same, of a stream whose slots were read already; `where`: edits on or their doses, and
    tokens edited."""
    (on, edited), (sae, (_, error, cap)) = where, what
    target = (table.scale * before + table.shift).clamp(table.low, table.high)
    if on.dtype != torch.bool:
        target, on = torch.lerp(before, target, on.float()), on != 0
    more = torch.where(on, target - before, 0.0)
    if sae.per_token is not None:
        more = torch.where(table.reads, more * sae.unit(h), more)
    by = more @ table.D
    if error == "drop":
        by = by + (sae.reconstruct(h).float() - h.float())
        touched = edited
    else:
        touched = on.any(-1)
    if cap is not None:
        share = kept_share(cap, h, by, sae)
        by, target = share * by, before + share * (target - before)
    return Change(by, touched, before, torch.where(on, target, before))


def moved(h: Float[Tensor, "token d_model"],
          changes: Sequence[Change]) -> Float[Tensor, "token d_model"]:
    """The stream after changes that were all read from it, rounded once to its own type."""
    by, touched = changes[0].by, changes[0].touched
    if len(changes) > 1:
        by = torch.stack([c.by.where(c.touched[:, None], 0.0) for c in changes]).sum(0)
        touched = torch.stack([c.touched for c in changes]).any(0)
    return torch.where(touched[:, None], (h.float() + by).to(h.dtype), h)


def write(h: Float[Tensor, "token d_model"], on: On,
          edited: Bool[Tensor, " token"], table: Table, sae: SAE,
          how: How) -> Written:
    """The stream after the edits that are `on`. Tokens not `edited` keep their very bits."""
    done = change(h, on, edited, table, sae, how)
    return Written(moved(h, [done]), done.before, done.after)
