"""A decay: a gate reads where every user message ends, and a row's risk is the highest of the faded
ones, whatever the padding, cache, chunks and neighbours."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from sternpost import Clamp, FakeEngine, Plan, Positions, load_model, steer
from sternpost.activations import turns_before
from sternpost.engines.templates import PLAIN, Template
from sternpost.errors import EditError, PositionsError, TemplateError
from sternpost.gates import CategoryGate, ResidualGate, rolled, rolling
from sternpost.policy import Doses, step
from sternpost.types import Hookpoint, Message, Request, Sampling
from subjects import LAYER, MODELS, VOCAB, close, longrope, make_sae, stream

TAIL, DECAY = (61, 62), 0.8
SAE_ = make_sae()
EDITS = (Clamp(5, 6.0), Clamp(9, 4.0))
G = torch.Generator().manual_seed(4)
PROMPTS = torch.randint(1, VOCAB - 4, (5, 16), generator=G)
PROMPTS[:, -2:] = torch.tensor(TAIL)
ENDS = [[3, 9, 13], [13], [5, 13], [0, 13], [4, 8, 13]]
for _row, _ends in zip(PROMPTS, ENDS, strict=True):
    for _end in _ends:
        _row[_end + 1:_end + 3] = torch.tensor(TAIL)
W, V = torch.randn(32, generator=G), torch.randn(32, generator=G)


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


@pytest.fixture(scope="module")
def one() -> Any:
    torch.manual_seed(0)
    return MODELS["llama"]().eval()


def gate(layer: int = LAYER, w: Tensor = W) -> ResidualGate:
    return ResidualGate(Hookpoint(layer), w / 6, 0.0, 0.6)


def plan(decay: float = DECAY, **changes: Any) -> Plan:
    return Plan(SAE_, **{"edits": EDITS, "mode": "threshold", "gate": gate(), "tail": TAIL,
                         "decay": decay, **changes})


def generate(model: Any, what: Plan, ids: Tensor = PROMPTS, **options: Any) -> tuple[Any, Any]:
    how: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "output_logits": True,
                           "return_dict_in_generate": True, **options}
    with torch.no_grad(), steer(model, what) as run:
        out = model.generate(ids, **how)
    return out, run.proof


def wanted(model: Any, row: int, probe: ResidualGate, decay: float = DECAY) -> float:
    _, h = stream(model, PROMPTS[row:row + 1], layer=probe.hookpoint.layer)
    return rolling(probe.risk(h[0, ENDS[row]]).tolist(), decay)


@pytest.mark.parametrize("layer", [0, LAYER])
def test_the_risk_is_the_highest_of_the_faded_ones(model: Any, layer: int) -> None:
    probe = gate(layer)
    want = [wanted(model, row, probe) for row in range(5)]
    threshold = sum(sorted(want)[1:3]) / 2
    out, proofs = generate(model, plan(gate=replace(probe, threshold=threshold)))
    assert [p.risk for p in proofs] == pytest.approx(want, abs=1e-6)
    assert [p.fired for p in proofs] == [risk > threshold for risk in want]
    assert {p.fired for p in proofs} == {True, False}
    last = [wanted(model, row, probe, 0.0) for row in range(5)]
    assert want != pytest.approx(last)  # an earlier turn weighs on some row
    assert [p.positions for p in proofs] == [(14, 15, 16, 17) if p.fired else () for p in proofs]
    assert out.sequences.shape == (5, 19)


def test_without_a_decay_it_is_what_it_was(model: Any) -> None:
    got, proofs = generate(model, plan(0.0))
    want, plain = generate(model, Plan(SAE_, EDITS, "threshold", gate=gate(), tail=TAIL))
    for a, b in zip(got.logits, want.logits, strict=True):
        assert torch.equal(a, b)
    assert [p.risk for p in proofs] == [p.risk for p in plain]
    assert [p.risk for p in proofs] == pytest.approx(
        [wanted(model, row, gate(), 0.0) for row in range(5)], abs=1e-6)


def test_where_one_message_was_said_a_decay_changes_nothing(one: Any) -> None:
    got, (proof,) = generate(one, plan(), PROMPTS[1:2])
    want, (plain,) = generate(one, plan(0.0), PROMPTS[1:2])
    for a, b in zip(got.logits, want.logits, strict=True):
        assert torch.equal(a, b)
    assert (proof.risk, proof.fired, proof.positions) == (plain.risk, plain.fired, plain.positions)


def test_a_row_does_not_depend_on_its_neighbours_or_on_padding(model: Any) -> None:
    together, proofs = generate(model, plan())
    padded = torch.cat([torch.zeros(5, 3, dtype=torch.long), PROMPTS], 1)
    mask = (torch.arange(19) >= 3).long().expand(5, 19)
    left, moved = generate(model, plan(), padded, attention_mask=mask)
    for row in range(5):
        alone, (proof,) = generate(model, plan(), PROMPTS[row:row + 1])
        assert proof.risk == pytest.approx(proofs[row].risk, abs=1e-6)
        assert (proof.fired, proof.positions) == (proofs[row].fired, proofs[row].positions)
        for a, b in zip(alone.logits, together.logits, strict=True):
            close(b[row], a[0])
        if not hasattr(model.config, "n_positions"):  # GPT-2 itself minds left padding
            assert moved[row].risk == pytest.approx(proof.risk, abs=1e-5)
            for a, c in zip(alone.logits, left.logits, strict=True):
                close(c[row], a[0], 1e-4)


def test_neither_cache_nor_chunks_nor_beams_change_it(model: Any) -> None:
    _, proofs = generate(model, plan())
    for way in ({"use_cache": False}, {"prefill_chunk_size": 3}, {"prefill_chunk_size": 5},
                {"num_beams": 2, "output_logits": False}):
        _, other = generate(model, plan(), **way)
        assert [p.risk for p in other] == pytest.approx([p.risk for p in proofs], abs=1e-6)
        assert [p.fired for p in other] == [p.fired for p in proofs]


def test_a_plain_forward_reads_every_turn(one: Any) -> None:
    _, proofs = generate(one, plan())
    ids = torch.cat([PROMPTS, PROMPTS[:, :4]], 1)
    where = Positions("tail+response", prompt_length=16)
    with torch.no_grad(), steer(one, plan(positions=where)) as run:
        one(ids)
    assert [p.risk for p in run.proof] == pytest.approx([p.risk for p in proofs], abs=1e-6)


def test_what_was_read_stands_when_the_prompt_is_read_again() -> None:
    torch.manual_seed(0)
    model = longrope().eval()
    _, short = generate(model, plan(), PROMPTS[:, 3:], max_new_tokens=2)
    _, long = generate(model, plan(), PROMPTS[:, 3:], max_new_tokens=9)
    assert [p.risk for p in short] == [p.risk for p in long]


def test_a_gate_above_the_written_block_reads_every_turn(one: Any) -> None:
    probe = gate(LAYER + 1)
    _, proofs = generate(one, plan(gate=probe))
    assert [p.risk for p in proofs] == pytest.approx(
        [wanted(one, row, probe) for row in range(5)], abs=1e-5)


def test_a_turn_that_lies_in_a_cache_is_not_passed_over(one: Any) -> None:
    cache = DynamicCache(config=one.config)
    with torch.no_grad():
        one(PROMPTS[:1, :6], past_key_values=cache)
        with pytest.raises(PositionsError, match="the end of every user message, for its decay"):
            generate(one, plan(), PROMPTS[:1], past_key_values=cache)
    cache = DynamicCache(config=one.config)
    with torch.no_grad():
        one(PROMPTS[:1, :6], past_key_values=cache)
    _, (proof,) = generate(one, plan(0.0), PROMPTS[:1], past_key_values=cache)
    assert proof.risk == pytest.approx(wanted(one, 0, gate(), 0.0), abs=1e-6)


def test_each_category_rolls_by_itself(one: Any) -> None:
    probe = CategoryGate(gate(), (gate(w=V), gate(w=-W)), ("fraud", "theft"), threshold=2.0)
    doses = Doses((step(0.0, 1.0, "fraud"), step(-1.0, 0.5, "theft")))
    seen: list[Tensor] = []

    class Kept:
        def doses(self, risks: Tensor, categories: Any) -> Tensor:
            seen.append(risks)
            return doses.doses(risks, categories)

    generate(one, plan(gate=probe, policy=Kept()))
    for row in range(5):
        for column, member in enumerate((gate(), gate(w=V), gate(w=-W))):
            assert float(seen[-1][row, column]) == pytest.approx(wanted(one, row, member),
                                                                 abs=1e-6)


def test_rolled_is_rolling_row_by_row() -> None:
    inf = float("inf")
    risks = torch.tensor([[.9, .2, .3], [-inf, .8, .1], [-inf, -inf, .4]], dtype=torch.float64)
    want = [rolling([r for r in row if r >= 0], 0.5) for row in risks.tolist()]
    assert rolled(risks[:, :, None], 0.5)[:, 0].tolist() == pytest.approx(want)
    assert rolled(risks[:, :, None], 1e-200)[:, 0].tolist() == pytest.approx([.3, .1, .4])
    risks[0, 0] = float("nan")
    assert rolled(risks[:, :, None], 0.5)[:, 0].isnan().tolist() == [True, False, False]


@pytest.mark.parametrize("decay", [-0.1, 1.1, True, "0.9", float("nan")])
def test_what_is_no_decay_is_refused(decay: Any) -> None:
    with pytest.raises(EditError, match="from 0 to 1"):
        plan(decay)
    with pytest.raises(EditError, match="this plan has none"):
        plan(0.5, gate=None)


def test_an_engine_that_knows_no_turns_says_so() -> None:
    engine = FakeEngine(refuses=lambda word: False)
    probe = ResidualGate(Hookpoint(0), torch.ones(16), 0.0)
    with pytest.raises(EditError, match="knows no decay"):
        engine.generate([Request(TALK, "")], Plan(
            engine.planted_sae(), (Clamp(0, 1.0),), "threshold", gate=probe, decay=0.5),
            Sampling(4))


# ---- where messages end --------------------------------------------------------------------------

TALK = (Message("user", "how do i bake a cake"), Message("assistant", " With flour. assistant"),
        Message("user", "why so"), Message("assistant", "Because."), Message("user", "and \u4f60?"))


@pytest.mark.parametrize("name", ["phi3", "gpt2"])
@pytest.mark.parametrize("system", [None, "be kind"])
def test_the_template_finds_every_message(tiny_models: dict[str, str], name: str,
                                          system: str | None) -> None:
    _, tokenizer = load_model(tiny_models[name])
    template = Template(tokenizer, system)
    for n in (1, 3, 5):
        ids = tokenizer(template.render(TALK[:n]), add_special_tokens=False)["input_ids"]
        (ends,) = template.turns([ids])
        assert [template.decode(ids[:end + 1]).endswith(TALK[2 * at].content)
                for at, end in enumerate(ends)] == [True] * (n // 2 + 1)
        assert ends[-1] == template.t_inst([ids])[0]
        tail = ids[ends[-1] + 1:]
        assert turns_before(ids, tail) == ends or name == "gpt2"


def test_a_tail_that_thinks_ends_earlier_messages_too(tiny_models: dict[str, str]) -> None:
    """Some templates open the reply with what they leave out of earlier ones."""
    _, tokenizer = load_model(tiny_models["gpt2"])
    tokenizer.chat_template = PLAIN.replace("Assistant:'", "Assistant: <think></think>'")
    template = Template(tokenizer)
    ids = tokenizer(template.render(TALK), add_special_tokens=False)["input_ids"]
    (ends,) = template.turns([ids])
    assert [template.decode(ids[:end + 1]).endswith(TALK[2 * at].content)
            for at, end in enumerate(ends)] == [True] * 3


def test_a_template_without_replies_is_refused(tiny_models: dict[str, str]) -> None:
    _, tokenizer = load_model(tiny_models["gpt2"])
    tokenizer.chat_template = "{{ messages[-1].content }}\nA:"
    template = Template(tokenizer)
    ids = tokenizer(template.render(TALK[:1]), add_special_tokens=False)["input_ids"]
    with pytest.raises(TemplateError, match="does not tell"):
        template.turns([ids])
