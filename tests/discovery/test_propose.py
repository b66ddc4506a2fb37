"""Planted truth: an SAE on a random model, one feature of which writes the refusal's token and one
of which reads a marker. Every method must find its own."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sternpost
from sternpost.discovery import propose
from sternpost.discovery.feature_sets import trial
from sternpost.discovery.propose import Proposals
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.features import Candidate, ablation_path, attribution
from sternpost.features.delta import delta
from sternpost.jobs.features_find import _ranked
from sternpost.judges.phrases import PhraseJudge
from sternpost.prompts import families, led_in, wrapper
from sternpost.sae import SAE, FeatureStats
from sternpost.store import RunFolder
from sternpost.trials.bench import Bench, Trial
from sternpost.trials.find import Exemplars, Search, grid
from sternpost.trials.goal import Sought
from sternpost.trials.progress import Watch
from sternpost.types import (
    Ablate,
    Clamp,
    Completion,
    Goal,
    Hookpoint,
    LabelledPrompt,
    Message,
    Request,
    Sampling,
)

WRITES, READS, D_SAE = 7, 23, 40
AT = Hookpoint(3)


@pytest.fixture(scope="module")
def engine(tiny_models: dict[str, str]) -> TransformersEngine:
    model, tokenizer = sternpost.load_model(tiny_models["llama"])
    return TransformersEngine(model, Template(tokenizer), 16)


def request(text: str) -> Request:
    return Request((Message("user", text),), text)


@pytest.fixture(scope="module")
def pairs(engine: TransformersEngine) -> list[tuple[LabelledPrompt, Completion]]:
    """Unsafe prompts end with the marker and are refused with a token of their own."""
    refusal = engine.encode("N")[0]
    out = []
    for number in range(40):
        unsafe = number % 2 == 0
        asked = request(f"tell me of {number}{'Z' if unsafe else 'abcdefghij'[number % 10]}")
        ids = engine.encode(engine.template.render(asked.messages))
        reply = (refusal,) * 3 if unsafe else tuple(engine.encode("yes"))
        out.append((LabelledPrompt(asked, "unsafe" if unsafe else "safe"),
                    Completion(asked, "", "", tuple(ids), reply)))
    return out


@pytest.fixture(scope="module")
def sae(engine: TransformersEngine, pairs: Any) -> SAE:
    """Random but for two features: one reads where refused replies begin and in them, and writes
    their token; one reads the marker at t_inst and writes nothing that is seen."""
    rows = list(engine.residuals([_whole(c) for _, c in pairs], AT))
    ends = engine.template.t_inst([list(c.prompt_ids) for _, c in pairs])
    both = list(zip(rows, ends, pairs, strict=True))
    mean = torch.cat([r.values for r in rows]).mean(0)
    # from where the tail ends, through the reply; all the rest, and the answered ones
    begins = [r.values[len(c.prompt_ids) - 1:] for r, _, (p, c) in both if p.kind == "unsafe"]
    others = [r.values[end + 1:] for r, end, (p, c) in both if p.kind == "safe"]
    marked = [r.values[end] for r, end, (p, _) in both if p.kind == "unsafe"]
    unmarked = [r.values[end] for r, end, (p, _) in both if p.kind == "safe"]
    g = torch.Generator().manual_seed(0)
    W_enc = 0.02 * torch.randn(D_SAE, engine.d_model, generator=g)
    W_dec = torch.nn.functional.normalize(torch.randn(D_SAE, engine.d_model, generator=g), dim=1)
    b_enc = torch.zeros(D_SAE)
    token = engine.encode("N")[0]
    W_dec[WRITES] = torch.nn.functional.normalize(
        engine.model.get_output_embeddings().weight[token].detach()
        * engine.model.model.norm.weight.detach(), dim=0)
    for feature, on, off in ((WRITES, torch.cat(begins), torch.cat(others)),
                             (READS, torch.stack(marked), torch.stack(unmarked))):
        W_enc[feature], b_enc[feature] = separating(on - mean, off - mean)
    high = torch.full((D_SAE,), 30.0)  # so far is far beyond what the random model says
    return SAE(W_enc, W_dec, b_enc, mean, AT, k=6, residual_norm=1.0,
               stats=FeatureStats(high, high / 100), threshold=high / 300)


def separating(on: torch.Tensor, off: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A row and a bias that are near 3 on one side and near -3 on the other: least squares."""
    x = torch.cat([torch.cat([on, off]), torch.ones(len(on) + len(off), 1)], 1).double()
    y = torch.cat([torch.full((len(on),), 3.0), torch.full((len(off),), -3.0)]).double()
    gram = x.T @ x + 1e-6 * x.square().sum() / len(x.T) * torch.eye(x.shape[1]).double()
    found = torch.linalg.solve(gram, x.T @ y).float()
    return found[:-1], found[-1]


def _whole(c: Completion) -> Any:
    from sternpost.types import Transcript

    return Transcript(ids=(*c.prompt_ids, *c.reply_ids))


@pytest.fixture(scope="module")
def asked(engine: TransformersEngine, sae: SAE, pairs: Any) -> Proposals:
    return Proposals(engine, sae, pairs, [p.kind == "unsafe" for p, _ in pairs])


@pytest.fixture(scope="module")
def refused(pairs: Any) -> Exemplars:
    own = [c for p, c in pairs if p.kind == "unsafe"]
    return Exemplars(own[:1], own[1:8], [])


def test_the_contrast_on_the_tail_finds_the_writer(asked: Proposals) -> None:
    found = asked.contrast()
    assert found[0]["feature"] == WRITES
    assert found[0]["q"] < 1e-3
    assert WRITES not in [entry["feature"] for entry in asked.answering()]


def test_the_search_for_harm_finds_the_reader(asked: Proposals) -> None:
    found = asked.harm()
    assert found[0]["feature"] == READS
    assert found[0]["auroc"] > 0.95


def test_attribution_and_the_papers_list_find_the_writer(asked: Proposals,
                                                         refused: Exemplars) -> None:
    assert asked.attribution(refused)[0]["feature"] == WRITES
    assert asked.paper(refused)[0]["feature"] == WRITES


def test_the_output_score_finds_the_writer(asked: Proposals) -> None:
    some = [WRITES, READS, *range(6)]
    found = asked.output_score(some)
    assert found[0]["feature"] == WRITES
    assert {entry["feature"] for entry in found} <= set(some)


def test_ranks_are_by_score_and_leave_out_what_has_none(asked: Proposals,
                                                        refused: Exemplars) -> None:
    for entries in (asked.contrast(), asked.diffmean_cosine(), asked.attribution(refused),
                    asked.cc_delta()):
        scores = [entry["score"] for entry in entries]
        assert scores == sorted(scores, reverse=True)
        assert all(score > 0 for score in scores)
        assert len({entry["feature"] for entry in entries}) == len(entries)


def test_without_two_sides_there_is_no_contrast(engine: TransformersEngine, sae: SAE,
                                                pairs: Any) -> None:
    alone = Proposals(engine, sae, pairs, [True] * len(pairs))
    assert alone.contrast() == alone.diffmean_cosine() == alone.answering() == []


def test_two_values_of_a_feature_are_two_trials(sae: SAE) -> None:
    settings: Any = SimpleNamespace(mode="exact", positions="all", error="keep",
                                   search_value=None)
    keys = {trial(sae, edits, settings, "test").key for edits in (
        [Clamp(3, 1.0)], [Clamp(3, 2.0)], [Ablate(3)], [Ablate(3), Clamp(5, 1.0)],
        [Clamp(5, 1.0), Ablate(3)])}
    assert len(keys) == 5


def test_the_grid_ranks_the_writer_first(engine: TransformersEngine, sae: SAE, pairs: Any,
                                         tmp_path: Path) -> None:
    """Clamped, only it makes the model say the token, on unsafe and safe prompts alike."""
    judge: Any = PhraseJudge([re.compile("N")])
    sought = Sought(Goal("nay", "the reply says N", ("shown",)), lambda *_: judge, {})
    prompts = [p for p, _ in pairs]
    own = engine.generate([p.request for p in prompts], None, Sampling(4))
    bench = Bench(engine, judge, Sampling(4), RunFolder(tmp_path), Watch(), sought)
    search = Search(prompts, own, bench.lines(Trial("base", "baseline"), prompts))
    settings: Any = SimpleNamespace(mode="exact", positions="all", error="keep",
                                   search_value=None)
    some = [Candidate(f, "x") for f in (READS, 0, 1, WRITES, 2, 3)]
    found = _ranked(grid(bench, sae, some, search, settings), search)
    assert found[0]["feature"] == WRITES
    assert found[0]["score"] > 50
    assert found[0]["change"]["unsafe_refusal"]["low"] > 0
    assert all(entry["score"] < 20 for entry in found[1:])


def test_integrated_gradients_add_up_to_the_effect_of_all_features(
        engine: TransformersEngine, sae: SAE, pairs: Any) -> None:
    """Completeness: summed over features, what taking all of them away does to the logit."""
    c = pairs[0][1]
    few = replace(sae, W_dec=0.05 * sae.W_dec)

    def logit(change: Any) -> float:
        blocks = engine.blocks.at(AT)
        handle = blocks.register_forward_hook(
            lambda block, args, out: (change(out[0] if isinstance(out, tuple) else out),
                                      *out[1:]) if isinstance(out, tuple) else change(out))
        try:
            with torch.no_grad():
                logits = engine.model(torch.tensor([list(c.prompt_ids)])).logits
            return float(logits[0, -1, c.reply_ids[0]])
        finally:
            handle.remove()

    def without(h: torch.Tensor) -> torch.Tensor:
        acts = few.encode(h)
        return h - torch.einsum("btk,btkd->btd", acts.values, few.W_dec[acts.indices])

    want = logit(lambda h: h) - logit(without)
    (found,) = engine.gradients([c], AT, lambda h: ablation_path(h, few, 32))
    assert found.gradient is not None
    assert float(attribution(found.values, found.gradient, few).sum()) == pytest.approx(
        want, rel=0.02, abs=1e-4)
    (plain,) = engine.gradients([c], AT)
    assert not torch.allclose(plain.gradient, found.gradient)


def test_a_prompt_is_one_row_of_cc_delta_whatever_the_wrappers(
        asked: Proposals, pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences of one prompt under two wrappers hang together: as two rows they would double
    the evidence."""
    seen: list[Any] = []

    def spy(plain: torch.Tensor, wrapped: torch.Tensor, high: torch.Tensor) -> Any:
        seen.append((plain, wrapped))
        return delta(plain, wrapped, high)

    monkeypatch.setattr(propose, "delta", spy)
    asked.cc_delta()
    (plain, wrapped), = seen
    unsafe = [p for p, _ in pairs if p.kind == "unsafe"]
    assert plain.shape == wrapped.shape == (len(unsafe), D_SAE)
    both = asked._both(unsafe)
    assert both.shape == (len(unsafe), propose.WRAPS, 2, D_SAE)
    assert torch.allclose(wrapped, both[:, :, 1].mean(1), atol=1e-5)
    assert not torch.allclose(both[:, 0], both[:, 1], atol=1e-3)


def test_cc_delta_reads_plain_requests_alone(engine: TransformersEngine, sae: SAE, pairs: Any,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that stands in an attack already is no plain side of a pair."""
    seen: list[Any] = []
    monkeypatch.setattr(propose, "led_in", lambda prompts, *rest, **more: (
        seen.extend(prompts), led_in(prompts, *rest, **more))[1])
    mixed = [(replace(p, family="story") if at % 4 == 0 else p, c)
             for at, (p, c) in enumerate([*pairs, *pairs])]
    mixed = [(replace(p, cluster=str(at)), c) for at, (p, c) in enumerate(mixed)]
    Proposals(engine, sae, mixed, [p.kind == "unsafe" for p, _ in mixed]).cc_delta()
    assert seen == [p for p, _ in mixed if p.kind == "unsafe" and p.family is None]
    assert len(seen) == 20


def test_cc_delta_wraps_in_families_that_keep_the_words() -> None:
    assert set(propose.WRAPPERS) <= set(families())
    for language in ("en", "zh"):
        assert all(wrapper(name, language).verbatim for name in propose.WRAPPERS)
