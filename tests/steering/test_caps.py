"""Caps: against plain arithmetic, token by token, through the pure function and through `steer`."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sternpost import Add, Clamp, MahalanobisCap, NormCap, Plan, steer
from sternpost.errors import EditError
from sternpost.steering import mahalanobis_cap
from subjects import VOCAB, D, close, llama, make_sae, stream

SAE_ = make_sae()
EDITS = (Clamp(5, 40.0), Add(torch.randn(D, generator=torch.Generator().manual_seed(3)), 2.0))
IDS = torch.randint(1, VOCAB, (3, 9), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return llama().eval()


def steered(model: Any, cap: Any) -> tuple[Tensor, Tensor, list[Any]]:
    _, h = stream(model, IDS)
    with steer(model, Plan(SAE_, EDITS, cap=cap)) as run:
        return h, stream(model, IDS)[1], run.proof


def test_the_norm_cap_shortens_and_never_turns(model: Any) -> None:
    h, free, _ = steered(model, None)
    _, capped, proofs = steered(model, NormCap(3.0))
    for x, long, short in zip(h.reshape(-1, D), free.reshape(-1, D), capped.reshape(-1, D),
                              strict=True):
        change = long - x
        close(short - x, change * min(1.0, 3.0 * 2.5 / float(change.norm())), 1e-4)
    assert float((free - h).norm(dim=-1).min()) > 3.0 * 2.5  # so that it has something to cap
    assert proofs[0].before[0] < proofs[0].after[0] < 40.0  # what was written, not what was asked
    _, loose, same = steered(model, NormCap(1e6))
    assert torch.equal(loose, free)
    assert same[0].after[0] == pytest.approx(40.0)
    assert torch.equal(steered(model, NormCap(0))[1], h)


def test_the_mahalanobis_cap_keeps_tokens_among_the_data(model: Any) -> None:
    data = torch.cat([stream(model, torch.randint(1, VOCAB, (16, 30)))[1].reshape(-1, D)] * 2)
    cap = mahalanobis_cap(data, share=0.9)
    inverse = torch.linalg.inv(torch.cov(data.double().T) + torch.eye(D) * 1e-3 * torch.cov(
        data.double().T).diagonal().mean())
    mean = data.double().mean(0)

    def distance(x: Tensor) -> Tensor:
        off = x.reshape(-1, D).double() - mean
        return ((off @ inverse) * off).sum(-1).sqrt()

    assert (distance(data) <= cap.limit).double().mean() == pytest.approx(0.9, abs=0.01)
    h, free, _ = steered(model, None)
    _, capped, _ = steered(model, cap)
    assert (distance(free) > cap.limit).double().mean() > 0.9
    allowed = distance(h).clamp(min=cap.limit)
    assert bool((distance(capped) <= allowed * 1.001).all())
    inside = (distance(h) < cap.limit) & (distance(free) > cap.limit)
    assert inside.any()
    assert torch.allclose(distance(capped)[inside], allowed[inside], rtol=1e-3)  # as far as it may
    turned = torch.cosine_similarity(capped - h, free - h, dim=-1)
    moved = (capped - h).norm(dim=-1) > 1e-3
    assert bool((turned[moved] > 0.999).all())


def test_bad_caps_are_refused(model: Any) -> None:
    with pytest.raises(EditError, match="limit is a number from 0 up; got -1"):
        NormCap(-1)
    with pytest.raises(EditError, match="limit is a number from 0 up; got nan"):
        MahalanobisCap(float("nan"), torch.zeros(2), torch.eye(2))
    with pytest.raises(EditError, match="needs at least 64 tokens; got 10"):
        mahalanobis_cap(torch.randn(10, D))
    plan = Plan(make_sae(residual_norm=None), (Clamp(5, 4.0),), cap=NormCap(1.0))
    with pytest.raises(EditError, match="in residual norms"), steer(model, plan):
        model(IDS)
