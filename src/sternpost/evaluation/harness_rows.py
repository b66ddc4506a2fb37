"""Rows that lm-eval scores: where each one's prompt ends, steered side by side, and whether what
a plan writes can reach what is scored.

    token p is written -> the logits at p and later may move -> the scores of token p + 1 and later
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sternpost.engines.halves import until
from sternpost.engines.steering import Run, Steering
from sternpost.errors import EditError
from sternpost.types import Add, Gate, Hookpoint, Plan, Positions, Proof

if TYPE_CHECKING:
    from sternpost.engines.transformers import TransformersEngine

MOVED = 1e-5
"""A scored logit has moved if it did by more than this, relative to the row's largest."""
Scored = Callable[[Sequence["Row"], Plan | None], tuple[list[Tensor], list[Proof]]]
"""Rows and a plan -> the scored logits of each row, and its proof."""


class Row(NamedTuple):
    """What the model is given for a request: context and continuation without its last token."""

    ids: tuple[int, ...]
    prompt: int
    """How many of them are the prompt."""
    scored: int
    """The logits at how many of the last ones are scored."""
    cut: bool
    """Whether it was too long, and lost its beginning."""

    @property
    def key(self) -> tuple[tuple[int, ...], int]:
        """Rows with the same key are steered alike."""
        return self.ids, self.prompt

    def own(self, proof: Proof) -> Proof:
        """`proof` without padding, which a module that is no block cannot tell."""
        kept = tuple(at for at in proof.positions if at < len(self.ids))
        return replace(proof, positions=kept)


def unpadded(ids: Sequence[int]) -> tuple[int, ...]:
    """`ids` without the zeros at the end, with which lm-eval pads on the right."""
    end = len(ids)
    while end and ids[end - 1] == 0:
        end -= 1
    return tuple(ids[:end])


def apart(rows: Sequence[Row]) -> list[list[int]]:
    """The rows in as few lists as it takes, so that in each what the model is given tells a row.

    lm-eval computes requests with the same tokens once, wherever their prompts end; and a row that
    ends with token 0 looks like a shorter one that was padded.
    """
    layers: list[tuple[dict[tuple[int, ...], Any], list[int]]] = []
    for at, row in enumerate(rows):
        name = unpadded(row.ids)
        free = next((layer for layer in layers if layer[0].get(name, row.key) == row.key), None)
        if free is None:
            layers.append(free := ({}, []))
        free[0][name] = row.key
        free[1].append(at)
    return [places for _, places in layers]


@contextmanager
def steered(engine: "TransformersEngine", plan: Plan, rows: Sequence[Row],
            ids: Tensor) -> Iterator[Run]:
    """Inside, a plain forward of `ids` [row, column], right-padded, is steered by `plan`.

    The steering is told which tokens are padding; the model is not, as in plain lm-eval, where
    tokens on the right change nothing. So both run the same kernels.
    """
    where = plan.where
    assert isinstance(where, Positions)
    lengths = torch.tensor([len(row.ids) for row in rows], device=ids.device)
    mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
    if plan.reads_above:
        plan = replace(plan, gate=_told(engine, plan, rows, ids))
    block = plan.sae.hookpoint.module is None
    if block:
        plan = replace(plan, positions=Positions(where.names, tuple(r.prompt for r in rows)))

    def give(model: Any, args: Any, kwargs: Any) -> Any:
        return args, {**kwargs, "attention_mask": mask}

    def take(trunk: Any, args: Any, kwargs: Any) -> Any:
        return args, {**kwargs, "attention_mask": None} if "attention_mask" in kwargs else kwargs

    with ExitStack() as undo:
        if block:
            undo.callback(engine.model.register_forward_pre_hook(give, with_kwargs=True).remove)
        run = undo.enter_context(Steering(engine.model, plan, engine.template))
        if block:  # the last in line: the steering has seen the mask by then
            trunk = engine.blocks.trunk
            undo.callback(trunk.register_forward_pre_hook(take, with_kwargs=True).remove)
        yield run


@dataclass(frozen=True)
class _Told:
    """A gate that has read every row already, in order."""

    gate: Gate
    hookpoint: Hookpoint
    read: Tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.gate, name)

    def risk(self, h: Tensor) -> Tensor:
        """P(harm) of each row."""
        return self.read[:, 0]

    def risks(self, h: Tensor) -> Tensor:
        """[row, 1 + categories]"""
        return self.read


def _told(engine: "TransformersEngine", plan: Plan, rows: Sequence[Row], ids: Tensor) -> _Told:
    """What the gate above the written block reads: edits after t_inst do not change it there."""
    where = engine.template.t_inst([row.ids[:row.prompt] for row in rows])
    with torch.no_grad():
        stream, _ = until(engine.blocks, plan.gate.hookpoint, input_ids=ids, use_cache=False)
    h = stream[torch.arange(len(rows)), torch.tensor(where)]
    many = len(getattr(plan.gate, "categories", ())) > 0
    read = plan.gate.risks(h) if many else plan.gate.risk(h)[:, None]
    return _Told(plan.gate, plan.sae.hookpoint, read)


# ---- the assertion that edited positions reach the scored logits --------------------------------

class Subject(NamedTuple):
    """A task whose reach is asked for."""

    task: str
    generates: bool
    """A reply that ends at once may be out of reach; a continuation may not."""


class Reach(NamedTuple):
    """Whether a plan's edits move what is scored, the gate forced open, on a few rows."""

    moved: int
    """Rows of which a scored logit moved."""
    n: int
    """Rows tried."""
    pushed: bool = False
    """None moved (a Floor may lawfully change nothing there), but another edit at the same tokens
    moves them."""


def reach(subject: Subject, plan: Plan, rows: Sequence[Row], scored: Scored) -> Reach | None:
    """What moves when the edits are written with the gate forced open; None for a plan that writes
    nothing. Raises EditError where a row has no edited token at or before the scored ones, or where
    no scored logit moves."""
    if not writes(plan):
        return None
    plain, _ = scored(rows, None)
    for forced in (_open(plan), _pushed(plan)):
        logits, proofs = scored(rows, forced)
        _check(subject, plan, proofs)
        moved = sum(bool((a - b).abs().max() > MOVED * a.abs().max())
                    for a, b in zip(plain, logits, strict=True))
        if moved:
            return Reach(moved, len(rows)) if forced.edits == plan.edits else \
                Reach(0, len(rows), True)
    raise EditError(
        f"Task {subject.task}: edits at {plan.sae.hookpoint}, positions {str(plan.where)!r}, move "
        f"no scored logit of {len(rows)} rows, the gate forced open: its score would be the "
        "baseline's whatever they are. Write tokens up to those whose logits are scored, e.g. "
        "positions='tail+response', or a lower block.")


def check_reached(plan: Plan, proofs: Mapping[Subject, Sequence[Proof]]) -> None:
    """Raises EditError where rows of a task that were to be written have no edited token."""
    for subject, of in proofs.items():
        due = [proof for proof in of if plan.gate is None or proof.fired]
        if writes(plan) and due:
            _check(subject, plan, due)


def writes(plan: Plan) -> bool:
    """Whether it writes anything."""
    return bool(plan.edits) or plan.error == "drop"


def _open(plan: Plan) -> Plan:
    """The same edits at the same tokens, on every row."""
    return Plan(plan.sae, plan.edits, plan.mode, plan.where, plan.error, tail=plan.tail,
                cap=plan.cap)


def _pushed(plan: Plan) -> Plan:
    """An edit that surely does something, at the same tokens."""
    direction = torch.randn(plan.sae.d_model, generator=torch.Generator().manual_seed(0))
    size = plan.sae.residual_norm or 10.0
    return Plan(plan.sae, (Add(direction, float(size), "raw"),), positions=plan.where,
                tail=plan.tail)


def _check(subject: Subject, plan: Plan, proofs: Sequence[Proof]) -> None:
    missed = sum(not proof.positions for proof in proofs)
    if missed == 0 or (subject.generates and missed < len(proofs)):
        return
    why = ("The first token after the prompt is scored by the logits of the prompt's last token, "
           "which 'response' does not write; a continuation of one token, such as a letter of "
           "MMLU, has no other." if "response" in str(plan.where) else
           "They write none of these rows' tokens.")
    raise EditError(
        f"Task {subject.task}: {missed} of {len(proofs)} rows have no edited token at or before "
        f"those whose logits are scored (positions {str(plan.where)!r}). {why} Such a score cannot "
        "move; use positions='tail+response'.")
