"""Output score and the change under a wrapper, against arithmetic by hand."""

import pytest
import torch
from scipy.stats import wilcoxon

from sternpost.features.delta import delta, mean_acts
from sternpost.features.output import output_score, promoted
from sternpost.sae import SAE
from sternpost.types import Hookpoint


def test_promoted_tokens_are_those_of_the_logit_lens():
    unembedding = torch.eye(40)[:, :8] + torch.arange(40)[:, None] * 1e-3
    found = promoted(torch.eye(8)[:2], unembedding)
    assert found.shape == (2, 20)
    assert (found[0][0], found[1][0]) == (0, 1)


def test_output_score_is_chance_times_how_far_up():
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0])
    chances = logits.softmax(-1)
    assert output_score(logits, torch.tensor([1, 0])) == pytest.approx(float(chances[1]))
    assert output_score(logits, torch.tensor([2, 0])) == pytest.approx(
        (1 - 2 / 4) * float(chances[2]))  # two tokens stand above token 2
    assert output_score(logits, torch.tensor([0])) == pytest.approx(0.25 * float(chances[0]))


def test_delta_is_wilcoxons_and_only_what_moves_scores():
    g = torch.Generator().manual_seed(0)
    plain, wrapped = (torch.rand(60, 30, generator=g) * (torch.rand(60, 30, generator=g) < 0.4)
                      for _ in range(2))
    plain[:, 4] += 0.5
    wrapped[:, 9] += 0.5
    found = delta(plain, wrapped, torch.full((30,), 2.0))
    assert found.score[4] == pytest.approx(float((plain - wrapped)[:, 4].mean()) / 2, rel=1e-5)
    assert found.score[9] < 0
    assert (found.score != 0).sum() <= 4
    alone = wilcoxon((plain - wrapped)[:, 4].double().numpy(), method="asymptotic").pvalue
    assert alone <= found.q[4] <= 30 * alone
    assert (delta(plain[:, :3], plain[:, :3], torch.ones(3)).q == 1).all()


def test_mean_activations_are_over_all_tokens():
    g = torch.Generator().manual_seed(1)
    sae = SAE(torch.randn(12, 5, generator=g), torch.randn(12, 5, generator=g), torch.zeros(12),
              torch.zeros(5), Hookpoint(0), k=3)
    h = torch.randn(7, 5, generator=g)
    assert torch.allclose(mean_acts(h, sae), sae.encode(h).dense().mean(0), atol=1e-6)
