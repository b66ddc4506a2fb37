"""Several blocks from one pass, and what splicing an SAE in costs, against plain hooks."""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import sternpost
from sternpost.activations import keep_for_training
from sternpost.engines.streams import recovered, streams
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.sae import SAE
from sternpost.types import Hookpoint, Message, Transcript

TEXTS = [Transcript(text="A line of plain text, longer than the other ones are."),
         Transcript(messages=(Message("user", "What?"), Message("assistant", "That."))),
         Transcript(text="Short.")]
AT = [Hookpoint(2), Hookpoint(0)]


@pytest.fixture(params=["llama", "gpt2", "phi3"])
def engine(request: pytest.FixtureRequest, tiny_models: dict[str, str]) -> TransformersEngine:
    model, tokenizer = sternpost.load_model(tiny_models[request.param])
    return TransformersEngine(model, Template(tokenizer), 2)


def test_each_block_is_what_a_pass_of_its_own_gives(engine: TransformersEngine) -> None:
    found = list(streams(engine, TEXTS, AT, longest=40))
    for number, at in enumerate(AT):
        for one, alone in zip(found, engine.residuals(TEXTS, at), strict=True):
            assert torch.equal(one.ids, alone.ids[:40])
            assert torch.allclose(one.values[number], alone.values[:40], atol=1e-5)
    assert [len(one.ids) for one in found] == [40, len(engine.ids(TEXTS[1])), 6]
    assert not any(block._forward_hooks for block in engine.blocks.blocks)


def test_a_token_is_trained_on_where_every_block_says_so(engine: TransformersEngine) -> None:
    engine.bos = engine.ids(TEXTS[2])[0]
    for one in streams(engine, TEXTS, AT, longest=100):
        each = [keep_for_training(one.ids, values, engine.bos) for values in one.values]
        assert torch.equal(one.keep, each[0] & each[1])
        assert not one.keep[one.ids == engine.bos].any()


def test_memory_that_runs_out_halves_the_batch(engine: TransformersEngine,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    want = [one.values[0] for one in streams(engine, TEXTS, AT, longest=40)]
    padded, calls = engine.padded, []

    def small(rows: Any, left: bool) -> Any:
        calls.append(len(rows))
        if len(rows) > 1:
            raise torch.OutOfMemoryError
        return padded(rows, left)

    monkeypatch.setattr(engine, "padded", small)
    for one, other in zip(streams(engine, TEXTS, AT, longest=40), want, strict=True):
        assert torch.allclose(one.values[0], other, atol=1e-5)
    assert calls == [2, 1, 1, 1]


def test_cross_entropy_recovered_is_what_hooks_by_hand_give(engine: TransformersEngine) -> None:
    g = torch.Generator().manual_seed(0)
    d = engine.d_model
    sae = SAE(torch.randn(40, d, generator=g), torch.randn(40, d, generator=g), torch.zeros(40),
              0.1 * torch.randn(d, generator=g), Hookpoint(1), k=4)
    engine.bos = engine.ids(TEXTS[0])[0]
    sums, tokens = [0.0, 0.0, 0.0], 0
    for text in TEXTS:
        ids = torch.tensor([engine.ids(text)])
        tokens += ids.shape[1] - 1
        for which, put in enumerate((lambda h: h, sae.reconstruct,
                                     lambda h: sae.b_dec.expand_as(h))):
            def splice(block: Any, args: Any, output: Any, put: Any = put, ids: Any = ids) -> Any:
                h = output[0] if isinstance(output, tuple) else output
                keep = keep_for_training(ids[0], h[0], engine.bos)
                new = torch.where(keep[:, None], put(h), h)
                return (new, *output[1:]) if isinstance(output, tuple) else new

            handle = engine.blocks.at(Hookpoint(1)).register_forward_hook(splice)
            with torch.no_grad():
                logits = engine.model(ids, use_cache=False).logits
            handle.remove()
            sums[which] += float(cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum"))
    found = recovered(engine, TEXTS, sae, longest=100)
    assert found.tokens == tokens
    assert [found.plain, found.spliced, found.mean] == pytest.approx(
        [total / tokens for total in sums], rel=1e-5)
