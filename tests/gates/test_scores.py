"""A row's risk is its own: the same bits in a batch as alone."""

import numpy as np
import pytest
import torch

from sternpost.errors import GateError
from sternpost.gates.scores import dot, dots, lengths, sigmoid
from streams import D, every_gate, rows

GATES = every_gate()


@pytest.mark.parametrize("name", GATES)
def test_a_batch_of_64_decides_as_64_runs(name: str) -> None:
    """The threshold is set to a row's own risk, where one bit decides."""
    gate, h = GATES[name], rows(64, 3).h
    together = gate.risks(h)
    assert together.dtype == torch.float64
    assert together.shape == (64, 1 + len(gate.categories))
    assert torch.equal(together[:, 0], gate.risk(h))
    assert bool(((together >= 0) & (together <= 1)).all())
    assert len(together[:, 0].unique()) > 10
    for at in range(64):
        assert torch.equal(gate.risks(h[at:at + 1])[0], together[at])
    for beside in (h[5:], h.flip(0)[:59].flip(0), h.T.contiguous().T[5:]):
        assert torch.equal(gate.risks(beside), together[5:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_score_is_the_same_alone_where_a_matrix_product_is_not(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    h, w = torch.randn(64, 384).to(dtype), torch.randn(384)
    found = dot(h, w)
    alone = torch.cat([dot(row[None], w) for row in h])
    assert torch.equal(found, alone)
    by_hand = [sum(float(a) * float(b) for a, b in zip(row, w, strict=True)) for row in h]
    assert torch.allclose(found, torch.tensor(by_hand, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    h, W = torch.randn(70, 33), torch.randn(5, 33)
    found = dots(h, W)
    assert torch.allclose(found, h.double() @ W.double().T)
    monkeypatch.setattr("sternpost.gates.scores.BLOCK", 200)
    assert torch.equal(dots(h, W), found)
    assert torch.equal(dots(h, W[2:3])[:, 0], found[:, 2])
    assert dots(h[:0], W).shape == (0, 5)


def test_lengths_and_sigmoid_are_what_they_say() -> None:
    torch.manual_seed(0)
    h = torch.randn(300, 33)
    assert torch.allclose(lengths(h), h.double().norm(dim=1))
    assert torch.equal(lengths(h)[299:], lengths(h[299:]))
    score = torch.linspace(-40, 40, 63, dtype=torch.float64)
    assert np.allclose(sigmoid(score), 1 / (1 + np.exp(-score.numpy())))
    assert torch.equal(sigmoid(score), torch.cat([sigmoid(one[None]) for one in score]))


@pytest.mark.parametrize("name", GATES)
@pytest.mark.usefixtures("unchecked")
def test_streams_of_another_width_are_refused(name: str) -> None:
    for width in (1, D + 1):
        with pytest.raises(GateError, match=f"rows of {D} numbers; got {width}"):
            GATES[name].risk(torch.randn(3, width))


@pytest.mark.parametrize("name", GATES)
def test_a_gate_keeps_no_graph_and_changes_no_stream(name: str) -> None:
    h = rows(8, 3).h.requires_grad_()
    before = h.detach().clone()
    assert not GATES[name].risk(h).requires_grad
    assert torch.equal(h, before)
