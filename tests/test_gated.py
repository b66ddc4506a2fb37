"""Gated steering: a closed gate adds exactly zero, an open one what the same plan adds without it,
and what the gate reads is the unedited stream at t_inst, whatever the padding, cache or chunks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sternpost import Clamp, Plan, Positions, steer
from sternpost.errors import EditError, PolicyError, PositionsError
from sternpost.gates import ResidualGate
from sternpost.policy import Doses, linear, step, until
from sternpost.types import Hookpoint
from subjects import LAYER, MODELS, VOCAB, close, longrope, make_sae, stream

TAIL = (61, 62)
SAE_ = make_sae()
EDITS = (Clamp(5, 6.0), Clamp(9, 4.0))
GENERATOR = torch.Generator().manual_seed(4)
PROMPTS = torch.cat([torch.randint(1, VOCAB - 4, (4, 7), generator=GENERATOR),
                     torch.tensor([TAIL] * 4)], 1)
T_INST = 6
W = torch.randn(32, generator=GENERATOR)


@pytest.fixture(scope="module", params=[*sorted(MODELS), "longrope"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    make = longrope if request.param == "longrope" else MODELS[request.param]
    return make().eval()


def gate(model: Any, layer: int = LAYER, opens: int | None = None) -> ResidualGate:
    """A gate that fires on the `opens` riskiest of PROMPTS."""
    _, h = stream(model, PROMPTS, layer=layer)
    scale = 1 / h[:, T_INST].norm(dim=-1).mean()
    raw = ResidualGate(Hookpoint(layer), W * scale, 0.0)
    if opens is None:
        return raw
    risks = raw.risk(h[:, T_INST]).sort().values
    middle = {0: 1.0, 4: 0.0}.get(opens) if opens in (0, 4) else float(
        risks[3 - opens] + risks[4 - opens]) / 2
    assert middle is not None
    return replace(raw, threshold=middle)


def plan(gate: Any, **changes: Any) -> Plan:
    return Plan(SAE_, **{"edits": EDITS, "mode": "threshold", "gate": gate, "tail": TAIL,
                         **changes})


def generate(model: Any, what: Plan, ids: Tensor = PROMPTS, **options: Any) -> tuple[Any, Any]:
    how: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "output_logits": True,
                           "return_dict_in_generate": True, **options}
    with torch.no_grad(), steer(model, what) as run:
        out = model.generate(ids, **how)
    return out, run.proof


def test_a_closed_gate_adds_exactly_zero(model: Any) -> None:
    shut, proofs = generate(model, plan(gate(model, opens=0)))
    empty, _ = generate(model, Plan(SAE_, (), positions="tail+response", tail=TAIL))
    for a, b in zip(shut.logits, empty.logits, strict=True):
        assert torch.equal(a, b)
    assert [p.fired for p in proofs] == [False] * 4
    assert [p.positions for p in proofs] == [()] * 4


def test_an_open_gate_writes_what_the_plan_writes_without_it(model: Any) -> None:
    opened, proofs = generate(model, plan(gate(model, opens=4)))
    bare, plain = generate(model, plan(None, positions="tail+response"))
    for a, b in zip(opened.logits, bare.logits, strict=True):
        assert torch.equal(a, b)
    assert [p.positions for p in proofs] == [p.positions for p in plain]
    assert proofs[0].positions[:3] == (7, 8, 9)
    assert all(p.fired for p in proofs)


@pytest.mark.parametrize("layer", [0, LAYER])
def test_the_risk_is_read_from_the_unedited_stream_at_t_inst(model: Any, layer: int) -> None:
    probe = gate(model, layer, opens=2)
    _, proofs = generate(model, plan(probe))
    _, h = stream(model, PROMPTS, layer=layer)
    want = probe.risk(h[:, T_INST])
    got = torch.tensor([p.risk for p in proofs], dtype=torch.float64)
    assert torch.allclose(got, want, atol=1e-6)
    assert [p.fired for p in proofs] == (want > probe.threshold).tolist()
    assert sum(p.fired for p in proofs) == 2


def test_a_row_does_not_depend_on_its_neighbours_or_on_padding(model: Any) -> None:
    probe = gate(model, opens=2)
    together, proofs = generate(model, plan(probe))
    padded = torch.cat([torch.zeros(4, 3, dtype=torch.long), PROMPTS], 1)
    mask = (torch.arange(12) >= 3).long().expand(4, 12)
    left, moved = generate(model, plan(probe), padded, attention_mask=mask)
    for row in range(4):
        alone, (proof,) = generate(model, plan(probe), PROMPTS[row:row + 1])
        assert proof.fired == proofs[row].fired == moved[row].fired
        assert proof.positions == proofs[row].positions == moved[row].positions
        for a, b, c in zip(alone.logits, together.logits, left.logits, strict=True):
            close(b[row], a[0])
            if not hasattr(model.config, "n_positions"):  # GPT-2 itself minds left padding
                close(c[row], a[0], 1e-4)


def test_neither_cache_nor_chunks_change_the_decision(model: Any) -> None:
    probe = gate(model, opens=2)
    want, proofs = generate(model, plan(probe))
    ways: list[dict[str, Any]] = [{"use_cache": False}]
    if getattr(model.config, "original_max_position_embeddings", None) != 16:
        ways.append({"prefill_chunk_size": 3})
    for way in ways:
        got, other = generate(model, plan(probe), **way)
        assert [p.fired for p in other] == [p.fired for p in proofs]
        assert [p.positions for p in other] == [p.positions for p in proofs]
        for a, b in zip(got.logits, want.logits, strict=True):
            close(a, b, 1e-4)


def test_a_decision_stands_when_the_prompt_is_read_again() -> None:
    torch.manual_seed(0)
    model = longrope().eval()
    probe = gate(model, opens=2)
    _, proofs = generate(model, plan(probe), max_new_tokens=20)
    _, h = stream(model, PROMPTS)
    assert [p.fired for p in proofs] == (probe.risk(h[:, T_INST]) > probe.threshold).tolist()


def test_beams_share_their_rows_decision(model: Any) -> None:
    _, proofs = generate(model, plan(gate(model, opens=2)), num_beams=3, output_logits=False)
    _, greedy = generate(model, plan(gate(model, opens=2)))
    assert [p.fired for p in proofs] == [p.fired for p in greedy]


def test_a_plain_forward_is_gated_where_the_prompts_end_is_known(model: Any) -> None:
    probe = gate(model, opens=2)
    more = torch.cat([PROMPTS, torch.full((4, 3), 7)], 1)
    where = Positions("tail+response", prompt_length=9)
    with torch.no_grad(), steer(model, plan(probe, positions=where)) as run:
        got = model(more).logits
    with torch.no_grad(), steer(model, plan(None, positions=where)):
        bare = model(more).logits
    with torch.no_grad(), steer(model, SAE_):
        empty = model(more).logits
    for row, proof in enumerate(run.proof):
        assert torch.equal(got[row], (bare if proof.fired else empty)[row])
    with torch.no_grad(), steer(model, plan(probe)), pytest.raises(PositionsError, match="prompt"):
        model(more)


def test_a_closed_gate_leaves_h_itself_where_the_error_is_dropped(model: Any) -> None:
    shut, _ = generate(model, plan(gate(model, opens=0), mode="exact", error="drop"))
    empty, _ = generate(model, Plan(SAE_))
    for a, b in zip(shut.logits, empty.logits, strict=True):
        assert torch.equal(a, b)


def test_a_prompt_that_does_not_end_with_the_tail_is_refused(model: Any) -> None:
    with pytest.raises(PositionsError, match=r"end with the tokens \[61, 62\]"):
        generate(model, plan(gate(model, opens=2)), PROMPTS[:, :8])


def test_a_gate_that_would_decide_too_late_is_refused() -> None:
    probe = ResidualGate(Hookpoint(LAYER + 1), W, 0.0)
    with pytest.raises(EditError, match="above the written block is read at t_inst"):
        plan(probe, positions="t_inst+response")
    for where in ("all", "prompt", "last(2)", "tail+all"):
        with pytest.raises(EditError, match="there or later"):
            plan(ResidualGate(Hookpoint(0), W, 0.0), positions=where)


def test_a_plan_is_asked_once_whether_it_fits(model: Any) -> None:
    asked = []
    with steer(model, plan(gate(model, opens=2), check=asked.append)):
        assert asked == [model]


def test_the_packs_hash_stands_in_the_proof(model: Any) -> None:
    _, proofs = generate(model, plan(gate(model, opens=2), pack="ab" * 32))
    assert {p.pack for p in proofs} == {"ab" * 32}


# ---- doses ---------------------------------------------------------------------------------------


def test_a_policy_of_steps_is_the_gate(model: Any) -> None:
    probe = gate(model, opens=2)
    with_gate, want = generate(model, plan(probe))
    policy = Doses((step(probe.threshold),) * len(EDITS))
    with_doses, got = generate(model, plan(replace(probe, threshold=1.0), policy=policy))
    for a, b in zip(with_gate.logits, with_doses.logits, strict=True):
        assert torch.equal(a, b)
    assert [p.fired for p in got] == [p.fired for p in want]


def test_each_row_gets_its_own_dose_and_a_dose_of_0_its_very_bits(model: Any) -> None:
    probe = gate(model)
    _, h = stream(model, PROMPTS)
    risks = probe.risk(h[:, T_INST])
    order = risks.argsort()
    low, high = risks[order[1]], risks[order[-1]]
    policy = Doses((linear(float(low), float(high)), until(float(low), -1.0)))
    dosed, proofs = generate(model, plan(probe, policy=policy))
    empty, _ = generate(model, Plan(SAE_, (), positions="tail+response", tail=TAIL))
    doses = policy.doses(risks[:, None], ())
    for row, proof in enumerate(proofs):
        dose = doses[row]
        assert proof.fired == bool(dose.any())
        for slot, edit in enumerate(EDITS):
            if proof.fired:
                # what one token reads and is given; means over tokens are linear in the dose
                target = torch.lerp(torch.tensor(proof.before[slot]), torch.tensor(edit.value),
                                    dose[slot])
                assert proof.after[slot] == pytest.approx(float(target), abs=1e-4)
        if not proof.fired:
            for a, b in zip(dosed.logits, empty.logits, strict=True):
                assert torch.equal(a[row], b[row])
    assert {p.fired for p in proofs} == {True}  # the lowest two are turned round, the others raised


def test_a_policy_without_a_gate_or_with_another_number_of_doses_is_refused(model: Any) -> None:
    policy = Doses((step(.5),))
    with pytest.raises(EditError, match="no gate"):
        plan(None, policy=policy)
    with pytest.raises(PolicyError, match="1 for 2 edits"):
        generate(model, plan(gate(model), policy=policy))
    with pytest.raises(PolicyError, match="as many"):
        generate(model, plan(gate(model), edits=((Clamp(1, 1.0),), ()) * 2, policy=policy))
