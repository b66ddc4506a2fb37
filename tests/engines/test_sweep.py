"""Many settings at once against one `generate` a setting."""

from typing import Any

import pytest
import torch

from sternpost import Ablate, Add, Clamp, Plan, Scale
from sternpost.engines import sweep as sweep_module
from sternpost.engines.shared import Forwards
from sternpost.engines.sweep import Sweep, can_share
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.gates import Continuation, ResidualGate
from sternpost.types import Completion, Hookpoint, Message, Request, Sampling
from subjects import make_sae

TEXTS = ("how do i bake a cake", "hi", "tell me a story about the old lighthouse", "why", "and you")
EDITS: list[tuple[Any, ...]] = [(Clamp(5, 40.0),), (), (Clamp(5, 90.0), Add(7, 3.0)), (Ablate(3),),
                                (Clamp(9, -60.0),)]
SAE_ = make_sae()


def requests() -> list[Request]:
    return [Request((Message("user", text),), text) for text in TEXTS]


@pytest.fixture(scope="module", params=[
    "phi3", *(pytest.param(name, marks=pytest.mark.slow) for name in ("llama", "gpt2"))])
def engine(request: pytest.FixtureRequest, tiny_models: dict[str, str]) -> TransformersEngine:
    from sternpost import load_model

    model, tokenizer = load_model(tiny_models[request.param])
    torch.manual_seed(1)
    for parameter in model.parameters():  # far from ties, and from one token for ever
        torch.nn.init.normal_(parameter, std=0.3)
    return TransformersEngine(model, Template(tokenizer), 4)


def naive(engine: TransformersEngine, plans: list[Plan], n: int) -> list[list[Completion]]:
    return [engine.generate(requests(), plan, Sampling(n)) for plan in plans]


def same(got: list[list[Completion]], want: list[list[Completion]]) -> None:
    for mine, theirs in zip(got, want, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert (a.request, a.prompt_ids, a.reply_ids, a.reply, a.answer, a.messages) == (
                b.request, b.prompt_ids, b.reply_ids, b.reply, b.answer, b.messages)
            assert a.proof is not None
            assert b.proof is not None
            assert (a.proof.positions, a.proof.features, a.proof.fired) == (
                b.proof.positions, b.proof.features, b.proof.fired)
            assert a.proof.before == pytest.approx(b.proof.before, rel=1e-3, abs=1e-4, nan_ok=True)
            assert a.proof.after == pytest.approx(b.proof.after, rel=1e-3, abs=1e-4, nan_ok=True)
            if a.proof.risk is not None:
                assert a.proof.risk == pytest.approx(b.proof.risk, rel=1e-4)


@pytest.mark.parametrize(("positions", "error"), [
    ("all", "keep"), ("all", "drop"), ("tail+response", "keep"), ("tail+response", "drop"),
    ("response", "keep"), ("prompt", "keep"), ("last(2)", "keep"), ("t_inst", "keep")])
def test_every_setting_replies_as_it_does_alone(engine: TransformersEngine, positions: str,
                                                error: Any) -> None:
    plans = [Plan(SAE_, edits, positions=positions, error=error) for edits in EDITS]
    assert can_share(engine, plans[0], requests())
    want = naive(engine, plans, 7)
    if positions in ("all", "tail+response"):  # else the edits hardly show on a random model
        assert len({c.reply_ids for mine in want for c in mine}) > len(TEXTS)
    same(Sweep(engine, plans, Sampling(7)).run(requests()), want)


@pytest.mark.parametrize("mode", ["threshold", "relu"])
def test_modes(engine: TransformersEngine, mode: Any) -> None:
    plans = [Plan(SAE_, edits, mode=mode, positions="tail+response") for edits in EDITS]
    same(Sweep(engine, plans, Sampling(6)).run(requests()), naive(engine, plans, 6))


def test_a_gate_opens_for_some_prompts(engine: TransformersEngine) -> None:
    torch.manual_seed(3)
    gate = ResidualGate(Hookpoint(0), torch.randn(32), 0.0, 0.5)
    plans = [Plan(SAE_, edits, mode="threshold", gate=gate) for edits in EDITS]
    want = naive(engine, plans, 6)
    assert {c.proof.fired for c in want[0] if c.proof} == {True, False}
    same(Sweep(engine, plans, Sampling(6)).run(requests()), want)


def test_a_row_ends_when_its_verdict_is_decided(engine: TransformersEngine) -> None:
    plans = [Plan(SAE_, edits) for edits in EDITS]
    short = Sweep(engine, plans, Sampling(9), lambda text: len(text) >= 3).run(requests())
    for mine, theirs in zip(short, naive(engine, plans, 9), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert b.reply_ids[:len(a.reply_ids)] == a.reply_ids
            assert len(a.reply) >= 3 or a.reply_ids == b.reply_ids


def test_a_setting_that_changes_nothing_is_read_in_one_forward(
        engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, step = [], Forwards.step

    def counted(self: Forwards, rows: Any, live: Any) -> None:
        steps.append(len(live))
        step(self, rows, live)

    monkeypatch.setattr(Forwards, "step", counted)
    plans = [Plan(SAE_, (Scale(feature, 1.0),), positions="tail+response") for feature in range(4)]
    got = Sweep(engine, plans, Sampling(6)).run(requests())
    drafted = len(steps)
    monkeypatch.setattr(sweep_module, "DRAFTED", 99)
    same(got, Sweep(engine, plans, Sampling(6)).run(requests()))
    assert drafted <= 2 * 6  # those of the drafts: five prompts, four at a time
    assert len(steps) - drafted >= 2 * drafted


def test_drafts_are_cut_to_what_fits_and_to_nothing(engine: TransformersEngine,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [Plan(SAE_, edits) for edits in EDITS]
    want = naive(engine, plans, 7)
    vocabulary = engine.model.get_output_embeddings().weight.shape[0]
    for room in (0, 4):
        monkeypatch.setattr(sweep_module, "LOGITS", room * vocabulary * engine.batch_size)
        same(Sweep(engine, plans, Sampling(7)).run(requests()), want)


def test_memory_that_nothing_was_written_to_is_never_read(
        engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    new_empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *shape, **how: new_empty(
        self, *shape, **how).fill_(float("nan")) if self.is_floating_point() else new_empty(
        self, *shape, **how))
    plans = [Plan(SAE_, edits, positions="tail+response") for edits in EDITS]
    same(Sweep(engine, plans, Sampling(7)).run(requests()), naive(engine, plans, 7))


def test_nothing_stays_behind(engine: TransformersEngine) -> None:
    model = engine.model
    before = [set(vars(module)) for module in model.modules()]
    hooks = sum(len(m._forward_hooks) for m in model.modules())

    def fail(text: str) -> bool:
        raise KeyError(text)

    with pytest.raises(KeyError):
        Sweep(engine, [Plan(SAE_, EDITS[0])], Sampling(4), fail).run(requests())
    assert [set(vars(module)) for module in model.modules()] == before
    assert sum(len(m._forward_hooks) for m in model.modules()) == hooks


def test_scripts_and_nothing_at_all_go_through_generate(engine: TransformersEngine) -> None:
    script = Request((Message("user", "hi"), Message("user", "why")), "script")
    plans = [Plan(SAE_, edits) for edits in EDITS[:2]]
    assert not can_share(engine, plans[0], [script])
    asked = [script, requests()[0]]
    same(engine.sweep(asked, plans, Sampling(4)),
         [engine.generate(asked, plan, Sampling(4)) for plan in plans])
    assert engine.sweep([], plans, Sampling(4)) == [[], []]


def test_what_reads_turns_or_replies_goes_through_generate(engine: TransformersEngine) -> None:
    torch.manual_seed(3)
    gate = ResidualGate(Hookpoint(0), torch.randn(32), 0.0, 0.5)
    talk = Request((Message("user", "why"), Message("assistant", "so"), Message("user", "hi")), "")
    asked = [*requests(), talk]
    how: dict[str, Any]
    for how in ({"decay": 0.9}, {"continuation": Continuation(gate, 1, 1)},
                {"decay": 0.5, "continuation": Continuation(gate, 2, 1)}):
        plans = [Plan(SAE_, edits, "threshold", gate=gate, **how) for edits in EDITS]
        assert not can_share(engine, plans[0], asked)
        got = engine.sweep(asked, plans, Sampling(6))
        want = [engine.generate(asked, plan, Sampling(6)) for plan in plans]
        same(got, want)
        for mine, theirs in zip(got, want, strict=True):
            assert [c.proof and c.proof.continued for c in mine] == [
                c.proof and c.proof.continued for c in theirs]
            assert [c.proof and c.proof.risk for c in mine] == pytest.approx(
                [c.proof and c.proof.risk for c in theirs], rel=1e-4)
    assert any(c.proof and c.proof.continued for mine in got for c in mine)


def test_plans_that_differ_in_what_they_read_are_not_taken_for_one(
        engine: TransformersEngine) -> None:
    torch.manual_seed(3)
    gate = ResidualGate(Hookpoint(0), torch.randn(32), 0.0, 2.0)
    wide = Continuation(ResidualGate(Hookpoint(0), torch.randn(32), 0.0, -1.0), 1, 1)
    plans = [Plan(SAE_, EDITS[0], "threshold", gate=gate),
             Plan(SAE_, EDITS[0], "threshold", gate=gate, continuation=wide)]
    shut, opened = engine.sweep(requests(), plans, Sampling(4))
    assert {c.proof and c.proof.continued for c in shut} == {0}
    assert any(c.proof and c.proof.continued for c in opened)


def test_out_of_memory_halves_the_batch_and_goes_on(engine: TransformersEngine,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    plans, run, sizes = [Plan(SAE_, edits) for edits in EDITS], Sweep.run, []

    def fail_once(self: Sweep, asked: list[Request]) -> list[list[Completion]]:
        sizes.append(engine.batch_size)
        if len(sizes) == 1:
            raise torch.OutOfMemoryError
        return run(self, asked)

    monkeypatch.setattr(Sweep, "run", fail_once)
    monkeypatch.setattr(engine, "batch_size", 4)
    same(engine.sweep(requests(), plans, Sampling(4)), naive(engine, plans, 4))
    assert sizes == [4, 2]
