"""HOUSE.md's rules 1 and 2 on every architecture of the table; where its row says that the model
itself does not keep one of these, sternpost's error."""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from families import FAMILIES, FAST, family
from sternpost import Add, Clamp, Plan, Scale, steer
from sternpost.engines.architectures import ARCHITECTURES, find_blocks
from sternpost.errors import EditError
from subjects import LAYER, VOCAB, D, make_sae

SAE_ = make_sae(residual_norm=8.0)
G = torch.Generator().manual_seed(4)
IDS = torch.randint(1, VOCAB, (3, 12), generator=G)
EDITS = (Clamp(5, 9.0), Scale(8, 3.0), Add(torch.randn(D, generator=G), 0.7))
PLAN = Plan(SAE_, EDITS)
PER_ROW = ([EDITS[0]], [], [EDITS[1], EDITS[2]])
UNCHECKED = {"gemma3"}
"""Rows without a tiny model: gemma3 is gemma3_text behind an image encoder."""


@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=[] if name in FAST else pytest.mark.slow)
    for name in sorted(FAMILIES)])
def subject(request: pytest.FixtureRequest) -> "Subject":
    return Subject(request.param)


class Subject:
    """A model, and the outputs of all its blocks from the written one on."""

    def __init__(self, name: str) -> None:
        self.name, self.model = name, family(name)
        self.row = ARCHITECTURES[name]
        self.blocks = find_blocks(self.model).blocks

    def seen(self, plan: Plan | None, *calls: dict[str, Any], carry: bool = False) -> Tensor:
        """[block, row, seq, d]: what the blocks put out in these forwards, one after the other."""
        kept: list[list[Tensor]] = []

        def look(block: Any, args: Any, out: Any) -> None:
            kept[-1].append(out[0] if isinstance(out, tuple) else out)

        with torch.no_grad(), nullcontext() if plan is None else steer(self.model, plan):
            handles = [block.register_forward_hook(look) for block in self.blocks[LAYER:]]
            try:
                state = {self.row.state: DynamicCache(config=self.model.config)} if carry and \
                    self.row.state == "past_key_values" else {}
                for call in calls:
                    kept.append([])
                    out = self.model(use_cache=carry, **call, **state)
                    state = state or ({self.row.state: out[self.row.state]} if carry else {})
            finally:
                for handle in handles:
                    handle.remove()
        return torch.cat([torch.stack(part) for part in kept], 2)

    def kept(self, *pair: Any) -> None:
        """`pair` makes two streams of a plan: they agree, by the rule's own measure."""
        plain, steered = ([make(plan) for make in pair] for plan in (None, PLAN))
        assert off(*steered) <= max(1e-5, 2 * off(*plain))
        assert off(plain[0], steered[0]) > 1e-2  # the edits do something


def off(got: Tensor, want: Tensor) -> float:
    """max|dh| / max|h|"""
    return float((got - want).abs().max() / want.abs().max())


def padded(rows: Sequence[Tensor], left: bool) -> dict[str, Tensor]:
    longest = max(map(len, rows))
    ids, mask = torch.zeros(2, len(rows), longest, dtype=torch.long)
    ids += 7  # any token: that of a real model's padding is seldom zeros in the embedding
    for at, row in enumerate(rows):
        where = slice(longest - len(row), None) if left else slice(0, len(row))
        ids[at, where], mask[at, where] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def positions(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"position_ids": (given["attention_mask"].cumsum(-1) - 1).clamp(min=0)}


def test_every_row_of_the_table_has_a_model() -> None:
    assert set(FAMILIES) == set(ARCHITECTURES) - UNCHECKED


def test_the_edits_are_the_formula_at_the_block_and_reach_the_logits(subject: Subject) -> None:
    plain = subject.seen(None, {"input_ids": IDS})
    acts = SAE_.encode(plain[0]).dense()
    v = EDITS[2].feature_or_direction
    want = plain[0] + (9.0 - acts[..., 5:6]) * SAE_.W_dec[5] + 2 * acts[..., 8:9] * SAE_.W_dec[8] \
        + 0.7 * 8.0 * v / v.norm()
    assert off(subject.seen(PLAN, {"input_ids": IDS})[0], want) <= 1e-5
    with torch.no_grad():
        logits = subject.model(IDS).logits
        with steer(subject.model, PLAN):
            assert not torch.equal(subject.model(IDS).logits, logits)
        with steer(subject.model, Plan(SAE_)):
            assert torch.equal(subject.model(IDS).logits, logits)
        assert torch.equal(subject.model(IDS).logits, logits)


def test_a_row_does_not_depend_on_its_neighbours(subject: Subject) -> None:
    subject.kept(lambda plan: subject.seen(plan, {"input_ids": IDS}),
                 lambda plan: torch.cat([subject.seen(plan, {"input_ids": row[None]})
                                         for row in IDS], 1))


def test_every_row_carries_its_own_edits(subject: Subject) -> None:
    got = subject.seen(Plan(SAE_, PER_ROW), {"input_ids": IDS})
    alone = torch.cat([subject.seen(Plan(SAE_, tuple(edits)), {"input_ids": row[None]})
                       for edits, row in zip(PER_ROW, IDS, strict=True)], 1)
    plain = subject.seen(None, {"input_ids": IDS})
    lone = torch.cat([subject.seen(None, {"input_ids": row[None]}) for row in IDS], 1)
    assert off(got, alone) <= max(1e-5, 2 * off(plain, lone))


def test_padding_changes_nothing_or_is_refused(subject: Subject) -> None:
    rows = [IDS[0, :7], IDS[1]]
    left, right = padded(rows, True), padded(rows, False)
    if "position_ids" in inspect.signature(subject.model.forward).parameters:
        left |= positions(left)
    if subject.row.padding is not None:
        assert off(subject.seen(None, left)[:, :1, -7:],
                   subject.seen(None, right)[:, :1, :7]) > 1e-3  # or the row is out of date
        with pytest.raises(EditError, match="reads padding like text"):
            subject.seen(PLAN, left)
        return
    subject.kept(lambda plan: subject.seen(plan, left)[:, :1, -7:],
                 lambda plan: subject.seen(plan, right)[:, :1, :7])


def test_left_padding_without_position_ids(subject: Subject) -> None:
    rows = [IDS[0, :7], IDS[1]]
    left, right = padded(rows, True), padded(rows, False)
    if subject.row.padding is not None:
        return
    if subject.row.positions is not None:
        assert off(subject.seen(None, left)[:, :1, -7:],
                   subject.seen(None, right)[:, :1, :7]) > 1e-3
        with pytest.raises(EditError, match="Give position_ids="):
            subject.seen(PLAN, left)
        return
    subject.kept(lambda plan: subject.seen(plan, left)[:, :1, -7:],
                 lambda plan: subject.seen(plan, right)[:, :1, :7])


def test_chunks_change_nothing_or_are_refused(subject: Subject) -> None:
    parts = [{"input_ids": IDS[:, :6]}, {"input_ids": IDS[:, 6:]}]
    if subject.row.state == "past_key_values":
        parts[1]["attention_mask"] = torch.ones_like(IDS)
    if subject.row.chunks is not None:
        assert off(subject.seen(None, *parts, carry=True),
                   subject.seen(None, {"input_ids": IDS})) > 1e-3
        with pytest.raises(EditError, match="Read the prompt in one forward"):
            subject.seen(PLAN, *parts, carry=True)
        return
    if subject.row.batch is not None:
        parts = [{name: value[:1] for name, value in part.items()} for part in parts]
        subject.kept(lambda plan: subject.seen(plan, *parts, carry=True),
                     lambda plan: subject.seen(plan, {"input_ids": IDS[:1]}))
        return
    subject.kept(lambda plan: subject.seen(plan, *parts, carry=True),
                 lambda plan: subject.seen(plan, {"input_ids": IDS}))


def test_decoding_with_a_cache_is_decoding_without(subject: Subject) -> None:
    n = 1 if subject.row.batch is not None else 3
    given = {"attention_mask": torch.ones_like(IDS[:n]), "max_new_tokens": 5, "do_sample": False}
    with torch.no_grad(), steer(subject.model, Plan(SAE_, EDITS, positions="response")) as run:
        cached, plain = (subject.model.generate(IDS[:n], use_cache=use, **given)
                         for use in (True, False))
    assert torch.equal(cached, plain)
    assert [proof.positions for proof in run.calls[0]] == [(12, 13, 14, 15)] * n
    for row in range(n):
        for with_cache, without in zip(run.calls[0][row].before, run.calls[1][row].before,
                                       strict=True):  # one number an edit
            assert with_cache == pytest.approx(without, rel=1e-3, abs=1e-4)
    with torch.no_grad():
        assert not torch.equal(subject.model.generate(IDS[:n], **given), cached)


def test_rows_that_the_model_mixes_are_refused(subject: Subject) -> None:
    if subject.row.batch is None:
        return
    with torch.no_grad():
        options = {"max_new_tokens": 3, "do_sample": False}
        alone = [subject.model.generate(row[None], **options)[0] for row in IDS]
        assert not torch.equal(subject.model.generate(IDS, **options), torch.stack(alone))
        with steer(subject.model, PLAN), pytest.raises(EditError, match="mixes rows"):
            subject.model.generate(IDS, **options)


def test_generate_does_not_depend_on_left_padding_or_refuses_it(subject: Subject) -> None:
    given = padded([IDS[0, :7], IDS[1]], True)
    options = {"max_new_tokens": 4, "do_sample": False}
    with torch.no_grad(), steer(subject.model, PLAN):
        if subject.row.padding is not None:
            with pytest.raises(EditError, match="reads padding like text"):
                subject.model.generate(**given, **options)
            return
        both = subject.model.generate(**given, **options)[0, -4:]
        assert torch.equal(both, subject.model.generate(IDS[:1, :7], **options)[0, -4:])
