"""Edits with SAEs that normalise each token: a unit of activation is another step for each."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sternpost import Ablate, Add, Clamp, Plan, Scale
from sternpost.errors import EditError
from sternpost.sae import SAE
from sternpost.steering import compile_plan, write
from sternpost.types import Hookpoint

D, M = 6, 20


def sae_of(per_token: Any, **more: Any) -> SAE:
    torch.manual_seed(0)
    own = {"kind": "topk", "k": 3, "threshold": torch.full((M,), 0.1)} | more
    return SAE(torch.randn(M, D), torch.randn(M, D), torch.randn(M), torch.randn(D), Hookpoint(1),
               per_token=per_token, **own)


def scale_of(h: Tensor, per_token: str) -> Tensor:
    return h.std(-1, keepdim=True) if per_token == "layer_norm" else h.norm(
        dim=-1, keepdim=True) / D ** 0.5


@pytest.mark.parametrize("mode", ["exact", "threshold"])
@pytest.mark.parametrize("error", ["keep", "drop"])
@pytest.mark.parametrize("per_token", ["layer_norm", "constant_norm_rescale"])
def test_a_clamp_is_the_splice_of_the_clamped_activation(per_token: str, error: Any,
                                                         mode: Any) -> None:
    if error == "drop" and mode == "threshold":
        pytest.skip("drop needs exact")
    sae, h = sae_of(per_token), torch.randn(7, D) * 4 + 1
    plan = Plan(sae, (Clamp(5, 2.5), Scale(8, 0.5)), mode=mode, error=error)
    table = compile_plan(plan)
    every = torch.ones(len(h), dtype=torch.bool)
    got = write(h, every[:, None].expand(-1, 2), every, table, sae, plan.how)
    acts = sae.encode(h).dense() if mode == "exact" else sae.pre(h) * (sae.pre(h) > 0.1)
    edited = acts.clone()
    edited[:, 5], edited[:, 8] = 2.5, acts[:, 8] * 0.5
    step = (edited - acts) @ sae.W_dec * scale_of(h, per_token)
    want = (h if error == "keep" else sae.reconstruct(h)) + step
    assert torch.allclose(got.h, want, atol=1e-4)
    assert torch.allclose(got.before, acts[:, [5, 8]], atol=1e-5)


def test_a_direction_that_is_added_is_in_the_streams_own_units() -> None:
    sae, h = sae_of("layer_norm"), torch.randn(7, D) * 4
    plan = Plan(sae, (Add(5, 3.0, unit="raw"), Ablate(6)))
    every = torch.ones(len(h), dtype=torch.bool)
    on = torch.stack([every, ~every], 1)
    got = write(h, on, every, compile_plan(plan), sae, plan.how)
    assert torch.allclose(got.h, h + 3 * sae.W_dec[5] / sae.W_dec[5].norm(), atol=1e-5)


def test_batchtopk_without_thresholds_reads_no_token_alone() -> None:
    sae = sae_of(None, kind="batchtopk", threshold=None)
    for edits, error in (((Clamp(5, 2.5),), "keep"), ((), "drop")):
        with pytest.raises(EditError, match="calibrate"):
            compile_plan(Plan(sae, edits, error=error))
