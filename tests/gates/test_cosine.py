"""The cosine gate against its formula."""

import numpy as np
import pytest
import torch

from sternpost.errors import GateError
from sternpost.gates import fit_cosine
from sternpost.gates.cosine import cosines
from streams import HERE, D, rows


def turned(n: int, seed: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Streams of any length around a common mean; harm turns them towards one direction."""
    generator = torch.Generator().manual_seed(seed)
    y = np.arange(n) % 4 < 2
    x = torch.randn(n, D, generator=generator)
    x[:, 3] += torch.tensor(3.0 * y)
    x *= torch.rand(n, 1, generator=generator) + 0.5
    return x + 2.0, y, np.array([f"c{at // 2}" for at in range(n)])


@pytest.mark.parametrize("centred", [True, False])
def test_it_is_the_cosine_with_the_difference_in_means(centred: bool) -> None:
    h, y, clusters = turned(400, 0)
    gate = fit_cosine(h, y, clusters, HERE, centred=centred)
    want = h[y].mean(0) - h[~y].mean(0)
    assert torch.allclose(gate.direction, want / want.norm(), atol=1e-5)
    assert torch.allclose(gate.mean, h[~y].mean(0) if centred else torch.zeros(D), atol=1e-5)
    new, other, _ = turned(400, 1)
    cos = torch.cosine_similarity((new - gate.mean).double(), gate.direction.double()[None])
    assert torch.allclose(gate.risk(new), (gate.s * cos + gate.t).sigmoid(), atol=1e-6)
    risk = gate.risk(new).numpy()
    assert risk[other].mean() > 0.8 > 0.2 > risk[~other].mean()


def test_length_says_nothing() -> None:
    gate = fit_cosine(*turned(400, 0), HERE)
    away = turned(50, 2)[0] - gate.mean
    assert torch.allclose(gate.risk(gate.mean + away), gate.risk(gate.mean + 7 * away), atol=1e-5)
    assert cosines(gate.mean[None], gate.direction, gate.mean).tolist() == [0.0]


def test_its_risks_are_no_surer_than_it_is_right() -> None:
    """Where nothing tells harm, the mean's own noise must not look like a finding."""
    sure = []
    for seed in range(10):
        h = torch.randn(60, 200, generator=torch.Generator().manual_seed(seed))
        try:
            risk = fit_cosine(h, *rows(60, 0)[1:], HERE).risk(h)
        except GateError:
            continue
        sure.append(float((risk - 0.5).abs().mean()))
    assert len(sure) < 9
    assert all(at < 0.4 for at in sure)


def test_a_stream_that_tells_nothing_is_refused() -> None:
    with pytest.raises(GateError, match="no higher on harmful prompts"):
        fit_cosine(torch.ones(400, D), *rows(400, 0)[1:], HERE)
