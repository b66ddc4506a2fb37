"""What benchmarks/generality.py finds in made-up runs, and that its GRU model is steered right."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from sternpost import Clamp, Plan, steer
from sternpost.engines.architectures import find_blocks
from sternpost.engines.sweep import Sweep, can_share
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.jobs.result import RunResult
from sternpost.stats import rate
from sternpost.store import rates_of
from sternpost.types import Message, Request, Sampling
from subjects import LAYER, VOCAB, D, close, make_sae, stream

sys.path.insert(0, str(Path(__file__).parents[1]))
bodies, generality = (import_module(f"benchmarks.{name}") for name in ("bodies", "generality"))

PAPER, OURS = list(generality.FINDINGS)[:4], list(generality.FINDINGS)[4]


def lines(condition: str, value: float | None = None, **hits: int) -> list[dict[str, Any]]:
    """40 prompts a kind, each a cluster, the first so many hit."""
    return [{"condition": condition, "value": value, "kind": kind, "prompt_sha256": f"{kind} {at}",
             "cluster": None, "harm_kind": None, "verdict": "compliance", "hit": at < hits[kind]}
            for kind in ("unsafe", "safe", "capability") for at in range(40)]


BASE = lines("baseline", unsafe=10, safe=2, capability=36)
CLAMP = lines("clamp", 8.0, unsafe=38, safe=30, capability=10)
OTHER = lines("clamp", 4.0, unsafe=0, safe=0, capability=0)
GATED = lines("gated_clamp", 8.0, unsafe=34, safe=2, capability=36)
RANDOM = lines("random_feature", 2.0, unsafe=10, safe=2, capability=30)


def run(*conditions: list[dict[str, Any]], gate: bool = True) -> Any:
    """A finished run of these lines; its reference is 8."""
    entries = [{"name": some[0]["condition"], "value": some[0]["value"], **rates_of(some)}
               for some in conditions]
    false_fire = rate([False] * 40)
    assert false_fire is not None
    auroc = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 80}
    return RunResult(Path(), {
        "conditions": entries, "reference": {"value": 8.0}, "feature": 5, "layer": 2,
        "sae": {"fvu": 0.1, "l0": 32.0, "dead_fraction": 0.0}, "timing": {"load": 60.0},
        "gate": {"auroc": auroc, "false_fire": false_fire.as_dict()} if gate else None}), \
        [line for some in conditions for line in some]


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*conditions: list[dict[str, Any]], gate: bool = True) -> dict[str, Any]:
        made, samples = run(*conditions, gate=gate)
        monkeypatch.setattr(RunResult, "samples", samples)
        return generality.summary("made up", made)
    return make


def holds(row: dict[str, Any]) -> list[bool | None]:
    return [row["findings"][claim]["holds"] for claim in generality.FINDINGS]


def test_a_row_has_each_conditions_rates_and_what_holds(row: Any) -> None:
    found = row(BASE, OTHER, CLAMP, RANDOM, GATED)
    assert found["n"] == {"unsafe": 40, "safe": 40, "capability": 40}
    assert found["median"] == found["reference"]["discrimination"]["points"] == pytest.approx(20)
    assert found["baseline"]["discrimination"]["points"] == pytest.approx(20)
    assert found["gated"]["discrimination"]["points"] == pytest.approx(80)
    assert found["change"]["reference"]["unsafe_refusal"]["points"] == pytest.approx(70)
    assert found["change"]["reference"]["capability"]["points"] == pytest.approx(-65)
    assert found["change"]["gated"]["capability"]["points"] == 0
    assert found["minutes"] == 1
    assert holds(found) == [True, True, True, False, True]
    assert found["findings"][PAPER[0]]["why"].startswith("reference: unsafe_refusal +70.0 points [")
    assert "reference 20 [" in generality.line_of(found)
    assert generality.line_of(found).endswith("yyyny")


def test_a_change_within_its_interval_is_no_finding(row: Any) -> None:
    slight = lines("clamp", 8.0, unsafe=11, safe=3, capability=35)
    found = row(BASE, slight, lines("gated_clamp", 8.0, unsafe=11, safe=2, capability=35))
    assert holds(found) == [False] * 5


def test_d_falls_where_safe_prompts_are_refused_more_than_unsafe_ones(row: Any) -> None:
    found = row(BASE, lines("clamp", 8.0, unsafe=12, safe=36, capability=36), GATED)
    assert holds(found)[3]


def test_a_gate_that_costs_capability_keeps_nothing(row: Any) -> None:
    costly = lines("gated_clamp", 8.0, unsafe=34, safe=2, capability=10)
    assert holds(row(BASE, CLAMP, costly))[4] is False


def test_without_a_gate_nothing_is_known_of_it(row: Any) -> None:
    found = row(BASE, CLAMP, gate=False)
    assert found["gate_auroc"] is None
    assert holds(found)[4] is None
    assert "was not measured" in found["findings"][OURS]["why"]


def test_where_a_finding_holds_fails_and_is_unknown(row: Any) -> None:
    rows = [{**row(BASE, CLAMP, GATED), "name": "one"},
            {"name": "two", "median": None, "why": "not run yet"}]
    found = generality.where(rows)
    assert found[PAPER[0]] == {"holds": ["one"], "fails": [], "unknown": ["two"]}
    assert found[PAPER[3]] == {"holds": [], "fails": ["one"], "unknown": ["two"]}
    assert generality.line_of(rows[1]).endswith("not run yet")


def test_every_so_many_th_prompt_of_each_split() -> None:
    rows = [{"split": split, "at": at} for split in ("search", "test", "gate_fit")
            for at in range(6)]
    kept = [(row["split"], row["at"]) for row in generality.thinned(rows, 1)]
    assert kept == [*(("search", at) for at in range(6)), ("test", 0), ("test", 2), ("test", 4),
                    ("gate_fit", 0), ("gate_fit", 3)]


def test_each_case_tells_what_its_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generality, "sae_of", str.upper)
    monkeypatch.setattr(bodies, "trained", lambda *given: {})
    told = {name: generality.told(name) for name in generality.CASES}
    assert told[generality.DEMO] == {"model": "dinghy", "layer": 2, "d_sae": 1024}
    assert told["64x"]["d_sae"] == 8192
    assert told["layer 7"] == {"model": "dinghy", "layer": 7}
    assert told["jumprelu"]["sae"] == "JUMPRELU"
    assert Path(told["gru"]["model"]).name == "gru"
    assert len(told) == 17


# ---- the GRU model -----------------------------------------------------------------------------

SAE_ = make_sae()
IDS = torch.randint(1, VOCAB, (3, 9), generator=torch.Generator().manual_seed(2))


def randomly(model: Any) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def gru() -> Any:
    return randomly(bodies.GRUForCausalLM(bodies.GRUConfig(
        vocab_size=VOCAB, hidden_size=D, pad_token_id=0, eos_token_id=None, bos_token_id=None)))


def test_the_blocks_of_a_gru_are_found(gru: Any) -> None:
    found = find_blocks(gru)
    assert found.path == "model.layers"
    assert list(found.blocks) == list(gru.model.layers)


def test_no_edit_changes_nothing_and_a_clamp_is_the_formula(gru: Any) -> None:
    logits, h = stream(gru, IDS)
    with steer(gru, SAE_, [], error="keep"):
        assert torch.equal(stream(gru, IDS)[0], logits)
    acts = SAE_.encode(h).dense()[..., 5:6]
    with steer(gru, SAE_, [Clamp(5, 8.0)]):
        close(stream(gru, IDS)[1], h + (8.0 - acts) * SAE_.W_dec[5])
    assert torch.equal(stream(gru, IDS)[0], logits)


@pytest.mark.parametrize("cut", [1, 6, 8, 10])
def test_a_row_is_what_it_is_alone_padded_holed_and_in_two_parts(gru: Any, cut: int) -> None:
    real = torch.tensor([[0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0],
                         [1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1],
                         [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]])
    ids = torch.zeros_like(real).masked_scatter(real.bool(), IDS)
    with torch.no_grad(), steer(gru, SAE_, [Clamp(5, 8.0)]):
        lone = torch.cat([gru(row[None]).logits for row in IDS])
    with torch.no_grad(), steer(gru, SAE_, [Clamp(5, 8.0)]):
        first = gru(ids[:, :cut], attention_mask=real[:, :cut])
        second = gru(ids[:, cut:], attention_mask=real, past_key_values=first.past_key_values)
    both = torch.cat([first.logits, second.logits], 1)
    close(both[real.bool()].reshape(lone.shape), lone)


def test_with_and_without_its_states_a_gru_replies_alike(gru: Any) -> None:
    how: dict[str, Any] = {"attention_mask": torch.ones_like(IDS), "max_new_tokens": 5,
                           "do_sample": False, "pad_token_id": 0}
    with steer(gru, SAE_, [Clamp(5, 8.0)], positions="last(1)+response"):
        kept = gru.generate(IDS, **how)
    with steer(gru, SAE_, [Clamp(5, 8.0)], positions="last(1)+response"):
        assert torch.equal(gru.generate(IDS, use_cache=False, **how), kept)
    assert not torch.equal(gru.generate(IDS, **how), kept)


def test_settings_side_by_side_reply_as_each_alone(tiny_models: dict[str, str]) -> None:
    from sternpost import load_model

    _, tokenizer = load_model(tiny_models["llama"])
    model = randomly(bodies.GRUForCausalLM(bodies.GRUConfig(
        vocab_size=len(tokenizer), hidden_size=D, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None)))
    engine = TransformersEngine(model, Template(tokenizer), 4)
    asked = [Request((Message("user", text),), text) for text in ("how do i bake a cake", "hi",
                                                                 "tell me a story", "why")]
    plans = [Plan(SAE_, edits, positions="tail+response")
             for edits in ((Clamp(5, 40.0),), (), (Clamp(9, -60.0),))]
    assert plans[0].sae.hookpoint.layer == LAYER
    assert can_share(engine, plans[0], asked)
    want = [[c.reply_ids for c in engine.generate(asked, plan, Sampling(6))] for plan in plans]
    got = Sweep(engine, plans, Sampling(6)).run(asked)
    assert [[c.reply_ids for c in mine] for mine in got] == want
    assert len({ids for mine in want for ids in mine}) > len(asked)
