"""`steer(..., at="path.of.a.module")`: a plain PyTorch GRU language model, a T5 decoder, an MLP."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from sternpost import Clamp, Plan, Scale, steer
from sternpost.errors import EditError, HookpointError, PositionsError
from sternpost.types import Hookpoint
from subjects import VOCAB, D, llama, make_sae

SAE_ = make_sae()
IDS = torch.randint(1, VOCAB, (3, 7), generator=torch.Generator().manual_seed(2))
EDIT = Clamp(5, 6.0)


class Gru(nn.Module):
    """A language model without a config, a cache or a `generate`."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCAB, D), nn.Linear(D, VOCAB)
        self.rnn = nn.GRU(D, D, num_layers=2, batch_first=batch_first)
        self.first = batch_first

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) if self.first else self.embed(ids).transpose(0, 1)
        h = self.rnn(x)[0]
        return self.head(h if self.first else h.transpose(0, 1))


@pytest.fixture(params=[True, False])
def gru(request: pytest.FixtureRequest) -> Gru:
    torch.manual_seed(0)
    return Gru(request.param).eval()


def clamped(h: Tensor) -> Tensor:
    return h + (6.0 - SAE_.encode(h).dense()[..., 5:6]) * SAE_.W_dec[5]


@torch.no_grad()
def test_a_gru_is_steered_by_the_formula_row_by_row(gru: Gru) -> None:
    x = gru.embed(IDS)
    h = gru.rnn(x)[0] if gru.first else gru.rnn(x.transpose(0, 1))[0].transpose(0, 1)
    want = gru.head(torch.stack([clamped(h[0]), h[1], clamped(h[2])]))
    with steer(gru, SAE_, [[EDIT], [], [EDIT]], at="rnn") as run:
        got = gru(IDS)
    assert torch.allclose(got, want, atol=1e-5)
    assert not torch.allclose(got[0], gru(IDS)[0], atol=1e-2)
    assert [proof.positions for proof in run.proof] == [tuple(range(7)), (), tuple(range(7))]
    assert run.proof[0].after == (6.0,)
    assert run.proof[0].hookpoint == Hookpoint(0, "rnn")
    with steer(gru, SAE_, [], at="rnn"):
        assert torch.equal(gru(IDS), gru(IDS))
    assert not gru.rnn._forward_hooks


@torch.no_grad()
def test_a_mask_chooses_tokens(gru: Gru) -> None:
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[1, 2:4] = True
    with steer(gru, SAE_, [EDIT], at="rnn", positions=mask) as run:
        got = gru(IDS)
    changed = (got - gru(IDS)).abs().amax(-1) > 1e-3
    assert torch.equal(changed, mask)
    assert run.proof[1].positions == (2, 3)


def test_what_cannot_be_told_at_a_module_is_refused(gru: Gru) -> None:
    with pytest.raises(PositionsError, match="nothing tells where a prompt ends"):
        steer(gru, SAE_, [EDIT], at="rnn", positions="response")
    with pytest.raises(HookpointError, match=r"puts out \(3, 7, 64\)"), \
            steer(gru, SAE_, [EDIT], at="head"):
        gru(IDS)
    with pytest.raises(HookpointError, match="names no place"):
        steer(gru, SAE_, [EDIT], at="nowhere")
    with pytest.raises(EditError, match="A plan brings its own"):
        steer(gru, Plan(SAE_, (EDIT,)), at="rnn")


def a_t5() -> Any:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(
        vocab_size=VOCAB, d_model=D, d_kv=8, d_ff=64, num_layers=3, num_heads=4,
        decoder_start_token_id=0, initializer_factor=3.0, eos_token_id=None)).eval()


@torch.no_grad()
def test_a_t5_decoder_block_is_steered_with_and_without_a_cache() -> None:
    t5 = a_t5()
    kept: list[Tensor] = []
    fed = torch.randint(1, VOCAB, (3, 5))
    handle = t5.decoder.block[1].register_forward_hook(lambda b, a, out: kept.append(out[0]))
    plain = t5(input_ids=IDS, decoder_input_ids=fed).logits
    with steer(t5, SAE_, [EDIT], at="decoder.block.1"):
        steered = t5(input_ids=IDS, decoder_input_ids=fed).logits
    handle.remove()
    assert torch.allclose(kept[1], clamped(kept[0]), atol=1e-4)
    assert not torch.allclose(plain, steered, atol=1e-2)
    options = {"max_new_tokens": 6, "do_sample": False}
    with steer(t5, SAE_, [EDIT], at="decoder.block.1") as run:
        cached, whole = (t5.generate(IDS, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, whole)
    assert not torch.equal(cached, t5.generate(IDS, **options))
    assert [proof.positions for proof in run.calls[0]] == [tuple(range(6))] * 3
    assert run.calls[0][2].before[0] == pytest.approx(run.calls[1][2].before[0], abs=1e-4)


@torch.no_grad()
def test_a_module_inside_a_block_and_a_block_by_its_path() -> None:
    torch.manual_seed(0)
    model = llama().eval()
    kept: list[Tensor] = []
    handle = model.model.layers[2].mlp.register_forward_hook(lambda m, a, out: kept.append(out))
    model(IDS)
    with steer(model, SAE_, [EDIT, Scale(8, 2.0)], at="model.layers.2.mlp") as run:
        model(IDS)
    handle.remove()
    acts = SAE_.encode(kept[0]).dense()
    want = clamped(kept[0]) + acts[..., 8:9] * SAE_.W_dec[8]
    assert torch.allclose(kept[1], want, atol=1e-4)
    assert str(run.proof[0].hookpoint) == "model.layers.2.mlp"
    with steer(model, SAE_, [EDIT], at="model.layers.2") as run:
        model(IDS)
    assert run.proof[0].hookpoint == Hookpoint(2)
