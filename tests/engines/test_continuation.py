"""A continuation gate: what a loop over the reply's tokens says, whatever the padding, cache,
chunks and neighbours; shut it adds exactly zero."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from families import family
from sternpost import Clamp, Plan, Positions, steer
from sternpost.engines.architectures import find_blocks
from sternpost.errors import EditError, GateError
from sternpost.gates import Continuation, Hysteresis, ResidualGate
from sternpost.policy import Doses, linear
from sternpost.types import Hookpoint
from subjects import (
    LAYER,
    MODELS,
    VOCAB,
    close,
    longrope,
    loses_its_prompt,
    make_sae,
    stream,
)

TAIL, LENGTH, NEW = (61, 62), 9, 11
SAE_ = make_sae()
EDITS = (Clamp(5, 6.0), Clamp(9, 4.0))
G = torch.Generator().manual_seed(4)
PROMPTS = torch.cat([torch.randint(1, VOCAB - 4, (4, 7), generator=G), torch.tensor([TAIL] * 4)], 1)
W, V = torch.randn(32, generator=G), torch.randn(32, generator=G)


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


@pytest.fixture(scope="module")
def one() -> Any:
    torch.manual_seed(0)
    return MODELS["llama"]().eval()


def gate(threshold: float) -> ResidualGate:
    """A gate of the prompt: 1.0 never fires, -1.0 always."""
    return ResidualGate(Hookpoint(LAYER), V / 20, 0.0, threshold)


def following(model: Any, layer: int = LAYER, on: int = 2, off: int = 3) -> Continuation:
    """One that is over its threshold at about half of the tokens."""
    ids = torch.randint(1, VOCAB - 4, (4, 20), generator=torch.Generator().manual_seed(1))
    _, h = stream(model, ids, layer=layer)
    raw = ResidualGate(Hookpoint(layer), W / h.norm(dim=-1).mean(), 0.0)
    return Continuation(replace(raw, threshold=float(raw.risk(h.reshape(-1, 32)).median())), on,
                        off)


def plan(more: Continuation | None = None, threshold: float = 1.0, **changes: Any) -> Plan:
    return Plan(SAE_, **{"edits": EDITS, "mode": "threshold", "gate": gate(threshold),
                         "tail": TAIL, "continuation": more, **changes})


def generate(model: Any, what: Plan, ids: Tensor = PROMPTS, **options: Any) -> tuple[Any, Any]:
    how: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "output_logits": True,
                           "return_dict_in_generate": True, **options}
    with torch.no_grad(), steer(model, what) as run:
        out = model.generate(ids, **how)
    return out, run.proof


def loop(over: list[bool], on: int, off: int) -> list[bool]:
    """Whether the gate is open at each token."""
    is_open, streak, states = False, 0, []
    for token in over:
        streak = streak + 1 if token != is_open else 0
        if streak == (off if is_open else on):
            is_open, streak = not is_open, 0
        states.append(is_open)
    return states


def wanted(model: Any, more: Continuation, row: Tensor, length: int = LENGTH) -> list[int]:
    """The response tokens of one sequence at which it is open; its last token was never fed."""
    _, h = stream(model, row[None], layer=more.gate.hookpoint.layer)
    over = (more.gate.risk(h[0, length:]) > more.gate.threshold).tolist()
    return [length + at for at, state in enumerate(loop(over, more.on, more.off)) if state]


def tokens(model: Any, more: Continuation, threshold: float = 1.0) -> Tensor:
    out, _ = generate(model, plan(more, threshold))
    return out.sequences


@pytest.mark.parametrize(("layer", "on", "off"), [(0, 2, 2), (LAYER, 1, 1), (LAYER, 2, 3),
                                                  (LAYER, 3, 1)])
def test_it_is_open_where_a_loop_says_so(model: Any, layer: int, on: int, off: int) -> None:
    more = following(model, layer, on, off)
    out, proofs = generate(model, plan(more))
    seen = set()
    for ids, proof in zip(out.sequences, proofs, strict=True):
        where = wanted(model, more, ids[:-1])
        assert list(proof.positions) == where
        assert proof.continued == len(where)
        assert proof.fired is False
        _, h = stream(model, ids[None, :-1], layer=layer)
        assert proof.reply_risk == pytest.approx(float(more.gate.risk(h[0, LENGTH:]).max()),
                                                 abs=1e-5)
        seen |= set(where)
    assert seen  # it opened somewhere
    assert any(len(p.positions) < NEW - 1 for p in proofs)  # and was shut somewhere


@pytest.mark.parametrize("threshold", [1.0, -1.0])
@pytest.mark.parametrize("changes", [{}, {"positions": "tail"}, {
    "policy": Doses((linear(0.0, 1.0), linear(0.2, 2.0)))}, {"mode": "exact", "error": "drop"},
    {"edits": tuple((Clamp(feature, 5.0),) for feature in (3, 5, 7, 9))}])
def test_shut_it_adds_exactly_zero(one: Any, threshold: float, changes: dict[str, Any]) -> None:
    more = following(one)
    shut = replace(more, gate=replace(more.gate, threshold=1.0))
    got, proofs = generate(one, plan(shut, threshold, **changes))
    want, plain = generate(one, plan(None, threshold, **changes))
    for a, b in zip(got.logits, want.logits, strict=True):
        assert torch.equal(a, b)
    for mine, theirs in zip(proofs, plain, strict=True):
        assert mine.reply_risk is not None
        assert replace(mine, reply_risk=None, before=(), after=()) == replace(
            theirs, before=(), after=())


def test_always_open_it_writes_every_token_of_the_reply(one: Any) -> None:
    more = following(one, on=1)
    wide = replace(more, gate=replace(more.gate, threshold=-1.0))
    got, proofs = generate(one, plan(wide, positions="tail"))
    bare, plain = generate(one, plan(None, gate=None, positions="response"))
    for a, b in zip(got.logits, bare.logits, strict=True):
        assert torch.equal(a, b)
    assert [p.positions for p in proofs] == [p.positions for p in plain]
    assert [p.after for p in proofs] == [p.after for p in plain]
    assert [p.continued for p in proofs] == [NEW - 1] * 4


def test_a_dose_of_the_policy_becomes_whole(one: Any) -> None:
    """A reply whose row's policy asks for little or nothing is written like one without a policy;
    the tail is not."""
    wide = replace(following(one, on=1), gate=replace(following(one).gate, threshold=-1.0))
    none, little = Doses((linear(2.0, 3.0),) * 2), Doses((linear(-1.0, 4.0),) * 2)
    where = Positions("response", prompt_length=LENGTH)
    ids = tokens(one, following(one))
    with torch.no_grad(), steer(one, plan(wide, positions=where)):
        want = one(ids).logits
    for policy in (none, little):
        with torch.no_grad(), steer(one, plan(wide, positions=where, policy=policy)) as run:
            close(one(ids).logits, want)
        assert [p.continued for p in run.proof] == [0 if policy is little else NEW] * 4
    dosed, _ = generate(one, plan(wide, policy=none))
    whole, _ = generate(one, plan(wide))
    for a, b in zip(dosed.logits, whole.logits, strict=True):
        close(a, b)


def test_where_the_prompts_gate_fired_nothing_is_written_twice(one: Any) -> None:
    more = following(one, on=1)
    both, proofs = generate(one, plan(more, -1.0))
    one, plain = generate(one, plan(None, -1.0))
    for a, b in zip(both.logits, one.logits, strict=True):
        assert torch.equal(a, b)
    assert [p.positions for p in proofs] == [p.positions for p in plain]
    assert [p.continued for p in proofs] == [0] * 4
    assert all(p.fired for p in proofs)


def test_a_plan_of_the_tail_is_followed_in_the_reply(one: Any) -> None:
    more = following(one)
    out, proofs = generate(one, plan(more, -1.0, positions="tail"))
    for ids, proof in zip(out.sequences, proofs, strict=True):
        assert list(proof.positions) == [7, 8, *wanted(one, more, ids[:-1])]
        assert proof.continued == len(proof.positions) - 2


def test_a_row_does_not_depend_on_its_neighbours_or_on_padding(model: Any) -> None:
    what = plan(following(model))
    together, proofs = generate(model, what)
    padded = torch.cat([torch.zeros(4, 3, dtype=torch.long), PROMPTS], 1)
    mask = (torch.arange(12) >= 3).long().expand(4, 12)
    left, moved = generate(model, what, padded, attention_mask=mask)
    assert any(p.positions for p in proofs)
    for row in range(4):
        alone, (proof,) = generate(model, what, PROMPTS[row:row + 1])
        assert proof.positions == proofs[row].positions
        for a, b in zip(alone.logits, together.logits, strict=True):
            close(b[row], a[0])
        if not hasattr(model.config, "n_positions"):  # GPT-2 itself minds left padding
            assert moved[row].positions == proof.positions
            for a, c in zip(alone.logits, left.logits, strict=True):
                close(c[row], a[0], 1e-4)


def test_prompts_of_many_lengths_are_told_apart(one: Any) -> None:
    what = plan(following(one))
    longer = torch.randint(1, VOCAB - 4, (1, 12), generator=G)
    pair = torch.cat([longer, torch.cat([torch.zeros(1, 3, dtype=torch.long), PROMPTS[:1]], 1)])
    pair[0, -2:] = torch.tensor(TAIL)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, :3] = 0
    _, proofs = generate(one, what, pair, attention_mask=mask)
    for row, ids in enumerate((pair[:1], PROMPTS[:1])):
        _, (alone,) = generate(one, what, ids)
        if row == 0 or not hasattr(one.config, "n_positions"):
            assert proofs[row].positions == alone.positions


def test_neither_cache_nor_chunks_change_it(model: Any) -> None:
    what = plan(following(model))
    want, proofs = generate(model, what)
    for way in ({"use_cache": False}, {"prefill_chunk_size": 2}):
        got, other = generate(model, what, **way)
        assert [p.positions for p in other] == [p.positions for p in proofs]
        assert [p.continued for p in other] == [p.continued for p in proofs]
        for a, b in zip(got.logits, want.logits, strict=True):
            close(a, b, 1e-4)


@pytest.mark.parametrize("threshold", [1.0, -1.0])
def test_teacher_forced_it_decides_as_token_by_token(model: Any, threshold: float) -> None:
    what = plan(following(model), threshold)
    out, proofs = generate(model, what)
    where = Positions("tail+response", prompt_length=LENGTH)
    ids = out.sequences[:, :-1]
    with torch.no_grad(), steer(model, replace(what, positions=where)) as run:
        logits = model(ids).logits
    assert [p.positions for p in run.proof] == [p.positions for p in proofs]
    assert [p.continued for p in run.proof] == [p.continued for p in proofs]
    for at, step in enumerate(out.logits):
        close(logits[:, LENGTH - 1 + at], step, 1e-4)


def test_rows_of_many_lengths_are_teacher_forced_side_by_side(one: Any) -> None:
    more, full = following(one), tokens(one, following(one))
    short = torch.cat([full[1, 3:], torch.zeros(3, dtype=torch.long)])  # its prompt is 3 shorter
    ids, mask = torch.stack([full[0], short]), torch.ones(2, full.shape[1], dtype=torch.long)
    mask[1, -3:] = 0
    where = Positions("response", prompt_length=(LENGTH, LENGTH - 3))
    with torch.no_grad(), steer(one, plan(more, positions=where)) as run:
        one(ids, attention_mask=mask)
    assert list(run.proof[0].positions) == wanted(one, more, ids[0])
    assert list(run.proof[1].positions) == wanted(one, more, short[:-3], LENGTH - 3)


def test_a_row_that_has_ended_stays_as_it_is(one: Any) -> None:
    what = plan(following(one, on=1))
    whole, proofs = generate(one, what)
    end = int(whole.sequences[0, LENGTH + 5])
    reply = whole.sequences[0, LENGTH:].tolist()
    ended, after = generate(one, what, eos_token_id=end, pad_token_id=0)
    last = LENGTH + reply.index(end)
    assert after[0].positions == tuple(p for p in proofs[0].positions if p < last)
    assert after[0].continued == len(after[0].positions)
    alone, (proof,) = generate(one, what, PROMPTS[:1], eos_token_id=end, pad_token_id=0)
    assert proof.reply_risk == pytest.approx(after[0].reply_risk)
    assert torch.equal(alone.sequences[0], ended.sequences[0, :alone.sequences.shape[1]])


def test_what_was_decided_stands_when_the_prompt_is_read_again() -> None:
    torch.manual_seed(0)
    model = longrope().eval()
    if loses_its_prompt(model, PROMPTS[:1], 12):
        pytest.skip("this transformers loses Phi-3's prompt by itself when it drops the cache")
    what = plan(following(model, on=1, off=1))
    _, short = generate(model, what, max_new_tokens=7)  # up to 16 tokens: read once
    _, long = generate(model, what, max_new_tokens=12)
    assert any(p.positions for p in short)
    for a, b in zip(short, long, strict=True):
        assert a.positions == tuple(p for p in b.positions if p < LENGTH + 6)


def test_several_sequences_a_row_are_followed_one_by_one(one: Any) -> None:
    torch.manual_seed(3)
    what, kept = plan(following(one)), []
    with torch.no_grad(), steer(one, what) as run:
        handle = one.register_forward_pre_hook(lambda *_: kept.append(None))
        out = one.generate(PROMPTS[:2], max_new_tokens=NEW, do_sample=True, temperature=2.0,
                             num_return_sequences=2)
        handle.remove()
    for row, proof in enumerate(run.proof):
        assert list(proof.positions) == wanted(one, what.continuation, out[2 * row, :-1])
    assert kept


def test_two_plans_at_one_place_follow_the_same_stream(one: Any) -> None:
    more = following(one)
    first, second = plan(more), plan(more, edits=(Clamp(30, 3.0),))
    with torch.no_grad(), steer(one, [first, second]) as runs:
        out = one.generate(PROMPTS, max_new_tokens=NEW, do_sample=False)
    for row in range(4):
        where = wanted(one, more, out[row, :-1])
        assert [list(run.proof[row].positions) for run in runs] == [where, where]


class _Nothing(ResidualGate):
    """A gate whose risk is no number."""

    def risk(self, h: Tensor) -> Tensor:
        return torch.full((len(h),), float("nan"), dtype=torch.float64)


def test_what_cannot_be_followed_is_refused(one: Any) -> None:
    more = following(one)
    with pytest.raises(EditError, match=r"has none: it writes every row"):
        plan(more, gate=None)
    above = Continuation(ResidualGate(Hookpoint(LAYER + 1), W, 0.0))
    with pytest.raises(EditError, match=r"written block or below: layers\.1; .* layers\.2"):
        plan(above)
    with pytest.raises(GateError, match="1 token or more"):
        Continuation(more.gate, 0)
    with pytest.raises(EditError, match="beams change places"):
        generate(one, plan(more), num_beams=2)
    with pytest.raises(GateError, match="no number"):
        generate(one, plan(Continuation(_Nothing(Hookpoint(LAYER), W, 0.0))))
    hooks = sum(len(m._forward_hooks) for m in one.modules())
    assert hooks == 0


@pytest.mark.parametrize("name", ["gemma2", "mamba"])
def test_other_architectures_are_followed_too(name: str) -> None:
    other = family(name)
    kept: list[Tensor] = []

    def look(block: Any, args: Any, out: Any) -> None:
        kept.append(out[0] if isinstance(out, tuple) else out)

    def read(ids: Tensor) -> Tensor:
        handle = find_blocks(other).blocks[LAYER].register_forward_hook(look)
        with torch.no_grad():
            other(ids)
        handle.remove()
        return kept.pop()

    h = read(PROMPTS)
    raw = ResidualGate(Hookpoint(LAYER), W / h.norm(dim=-1).mean(), 0.0)
    more = Continuation(replace(raw, threshold=float(raw.risk(h.flatten(0, 1)).median())), 1, 2)
    out, proofs = generate(other, plan(more))
    for ids, proof in zip(out.sequences, proofs, strict=True):
        over = raw.risk(read(ids[None, :-1])[0, LENGTH:]) > more.gate.threshold
        states = loop(over.tolist(), 1, 2)
        assert list(proof.positions) == [LENGTH + at for at, state in enumerate(states) if state]
    assert any(p.positions for p in proofs)


def test_it_opens_and_shuts_as_its_rule() -> None:
    assert Continuation(gate(0.5), 3, 5).rule == Hysteresis(3, 5)
