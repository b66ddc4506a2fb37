"""Several plans at several hookpoints; and a model that runs without its blocks."""

from dataclasses import replace
from types import MethodType
from typing import Any

import pytest
import torch

from sternpost import Clamp, Plan, Scale, steer
from sternpost.errors import EditError, HookpointError
from sternpost.types import Hookpoint
from subjects import VOCAB, D, close, llama, make_sae, stream

IDS = torch.randint(1, VOCAB, (3, 9), generator=torch.Generator().manual_seed(2))
LOW = make_sae(hookpoint=Hookpoint(0))
HIGH = make_sae(hookpoint=Hookpoint(2), W_enc=torch.randn(96, D) * 0.5)
PLANS = [Plan(LOW, (Clamp(5, 4.0),)), Plan(HIGH, (Scale(8, 3.0), Clamp(9, 2.0)),
                                           positions="response")]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return llama().eval()


def test_plans_at_two_blocks_are_both_written(model: Any) -> None:
    everywhere = [PLANS[0], replace(PLANS[1], positions="all")]
    with steer(model, everywhere) as (low, high):
        got = stream(model, IDS, layer=2)[1]
        lower = stream(model, IDS, layer=0)[1]
    plain = stream(model, IDS, layer=0)[1]
    close(lower, plain + (4.0 - LOW.encode(plain).dense()[..., 5:6]) * LOW.W_dec[5])
    with steer(model, everywhere[0]):
        between = stream(model, IDS, layer=2)[1]  # what the upper plan reads
    acts = HIGH.encode(between).dense()
    close(got, between + 2 * acts[..., 8:9] * HIGH.W_dec[8]
          + (2.0 - acts[..., 9:10]) * HIGH.W_dec[9])
    assert low.proof[0].hookpoint == Hookpoint(0)
    assert high.proof[0].after[1] == pytest.approx(2.0)


def test_they_run_in_generate_with_their_own_positions(model: Any) -> None:
    options = {"max_new_tokens": 5, "do_sample": False}
    with torch.no_grad(), steer(model, PLANS) as (low, high):
        got = model.generate(IDS, **options)
    assert low.proof[1].positions == tuple(range(13))
    assert high.proof[1].positions == (9, 10, 11, 12)
    with torch.no_grad(), steer(model, PLANS[0]), steer(model, PLANS[1]):
        assert torch.equal(model.generate(IDS, **options), got)
    assert not any(module._forward_hooks for module in model.modules())
    assert "generate" not in vars(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plans_at_one_place_read_the_same_stream_and_are_written_together(dtype: Any) -> None:
    """Two SAEs at one block against the sum of what each makes of the unedited stream."""
    torch.manual_seed(0)
    model = llama().eval().to(dtype)
    other = make_sae(hookpoint=Hookpoint(0), W_enc=torch.randn(96, D) * 0.5,
                     W_dec=torch.randn(96, D))
    plans = [Plan(LOW, (Clamp(5, 4.0),), positions="last(4)"), Plan(other, (Scale(8, 3.0),)),
             Plan(other, (), positions="last(2)")]
    plain = stream(model, IDS, layer=0)[1].float()
    first = (4.0 - LOW.encode(plain.to(dtype)).dense()[..., 5:6].float()) * LOW.W_dec[5]
    first[:, :-4] = 0
    second = 2 * other.encode(plain.to(dtype)).dense()[..., 8:9].float() * other.W_dec[8]
    with steer(model, plans) as runs:
        got = stream(model, IDS, layer=0)[1]
    close(got.float(), (plain + first + second).to(dtype).float(),
          1e-5 if dtype == torch.float32 else 2 ** -8)
    assert [run.proof[0].positions for run in runs] == [(5, 6, 7, 8), tuple(range(9)), ()]
    with steer(model, plans[::-1]):
        close(stream(model, IDS, layer=0)[1].float(), got.float(), 1e-6)
    with steer(model, plans[2:]) as _:
        assert torch.equal(stream(model, IDS, layer=0)[1].float(), plain)
    assert not any(module._forward_hooks for module in model.modules())


def test_of_two_plans_at_one_place_only_one_may_drop_and_none_is_refused(model: Any) -> None:
    drop = replace(PLANS[0], error="drop")
    with pytest.raises(EditError, match=r"Two plans at layers\.0 with error='drop'"):
        steer(model, [drop, drop])
    plain = stream(model, IDS, layer=0)[1]
    with steer(model, [drop, PLANS[0]]):
        got = stream(model, IDS, layer=0)[1]
    change = (4.0 - LOW.encode(plain).dense()[..., 5:6]) * LOW.W_dec[5]
    close(got, LOW.decode(LOW.encode(plain)) + 2 * change)
    with pytest.raises(EditError, match="steers nothing"):
        steer(model, [])
    with pytest.raises(EditError, match="A plan brings its own"):
        steer(model, PLANS, mode="relu")


def test_a_model_that_does_not_call_its_blocks_is_not_steered_silently() -> None:
    torch.manual_seed(0)
    model = llama().eval()
    trunk = model.model

    def skipping(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        h = self.embed_tokens(input_ids)
        for block in self.layers:  # straight to forward: no hook runs
            h = block.forward(h, position_embeddings=self.rotary_emb(
                h, torch.arange(h.shape[1])[None]))
        return type("Out", (), {"last_hidden_state": h})()

    trunk.forward = MethodType(skipping, trunk)
    with torch.no_grad(), steer(model, PLANS[0]), \
            pytest.raises(HookpointError, match=r"layers\.0 was not written"):
        trunk(IDS)
