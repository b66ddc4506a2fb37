"""Gathering in one pass against naive loops over everything at once."""

import torch

from sternpost.features.gather import BEFORE, HELD_OUT, STEPS, Gathered, Read
from sternpost.sae import SAE, FeatureStats
from sternpost.types import Hookpoint

D, D_SAE, TEXTS = 10, 30, 60


def subject() -> tuple[SAE, list[tuple[torch.Tensor, Read]]]:
    g = torch.Generator().manual_seed(0)
    W = torch.randn(D_SAE, D, generator=g)
    sae = SAE(W, W, torch.zeros(D_SAE), torch.zeros(D), Hookpoint(0), k=3,
              stats=FeatureStats(torch.full((D_SAE,), 8.0), torch.full((D_SAE,), .1)))
    texts = []
    for number in range(TEXTS):
        n = int(torch.randint(1, 30, (), generator=g))
        ids, parts = (torch.randint(0, most, (n,), generator=g) for most in (500, 3))
        read = Read(ids, parts, number, (number % 3,), number % 2 == 0)
        texts.append((torch.randn(n, D, generator=g), read))
    return sae, texts


def gathered() -> tuple[Gathered, list[torch.Tensor], list[Read]]:
    sae, texts = subject()
    out = Gathered(sae, groups=3)
    for h, read in texts:
        out.add(h, read)
    return out, [sae.encode(h).dense() for h, _ in texts], [read for _, read in texts]


def test_counts_are_those_of_dense_activations() -> None:
    found, dense, reads = gathered()
    every = torch.cat(dense)
    parts = torch.cat([read.parts for read in reads])
    assert found.tokens == len(every)
    assert torch.equal(found.active, (every > 0).sum(0))
    assert torch.allclose(found.total, every.double().sum(0), atol=1e-4)
    assert torch.allclose(found.largest, every.amax(0))
    benign = torch.cat([acts for acts, read in zip(dense, reads, strict=True) if read.benign])
    assert found.benign == len(benign)
    assert torch.equal(found.active_benign, (benign > 0).sum(0))
    for f in range(D_SAE):
        values = every[:, f][every[:, f] > 0]
        steps = (values / 8.0 * 16).long().clamp(0, STEPS - 1)
        assert torch.equal(found.histogram[f].long(), torch.bincount(steps, minlength=STEPS))
        for part in range(3):
            assert torch.isclose(found.by_part[f, part],
                                 every[parts == part, f].double().sum(), atol=1e-4)


def test_groups_count_prompts_where_a_feature_is_strongly_active() -> None:
    found, dense, reads = gathered()
    best = torch.stack([acts.amax(0) for acts in dense]) >= 4.0
    for group in range(3):
        mine = torch.tensor([group in read.groups for read in reads])
        assert torch.equal(found.in_group[:, group].long(), best[mine].sum(0))
        assert found.group_size[group] == mine.sum()


def test_the_strongest_windows_are_the_strongest_of_the_texts_not_held_out() -> None:
    found, dense, reads = gathered()
    for f in range(D_SAE):
        want = sorted((float(acts[:, f].max()) for acts, read in zip(dense, reads, strict=True)
                       if read.source % HELD_OUT != HELD_OUT - 1 and acts[:, f].max() > 0),
                      reverse=True)[:8]
        got = sorted(found.strongest.value[f][found.strongest.source[f] >= 0].tolist(),
                     reverse=True)
        assert torch.allclose(torch.tensor(got), torch.tensor(want))


def test_a_window_holds_its_text_around_the_token() -> None:
    found, dense, reads = gathered()
    for kept in (found.strongest, found.drawn, found.held):
        for f in range(D_SAE):
            for slot in torch.nonzero(kept.source[f] >= 0).flatten().tolist():
                source = int(kept.source[f, slot])
                held = source % HELD_OUT == HELD_OUT - 1
                assert held == (kept is found.held)
                window, acts = kept.ids[f, slot], kept.acts[f, slot]
                real = window >= 0
                start = int(torch.nonzero(real).flatten()[0])
                ids = reads[source].ids.tolist()
                first = next(at for at in range(len(ids)) if ids[at:at + int(real.sum())]
                             == window[real].tolist()
                             and torch.allclose(dense[source][at:at + int(real.sum()), f],
                                                acts[real]))
                assert float(dense[source][first + BEFORE - start, f]) == float(
                    kept.value[f, slot]) > 0


def test_no_text_stands_twice_for_a_feature() -> None:
    found, _, _ = gathered()
    for kept in (found.strongest, found.drawn, found.held):
        for row in kept.source:
            real = row[row >= 0].tolist()
            assert len(real) == len(set(real))


def test_quiet_windows_know_what_is_active_in_them() -> None:
    found, dense, reads = gathered()
    seen = 0
    for slot in torch.nonzero(found.quiet_source >= 0).flatten().tolist():
        source = int(found.quiet_source[slot])
        window = found.quiet_ids[slot]
        real = window[window >= 0].tolist()
        ids = reads[source].ids.tolist()
        starts = [at for at in range(len(ids)) if ids[at:at + len(real)] == real]
        on = [(dense[source][at:at + len(real)] > 0).any(0) for at in starts]
        assert any(torch.equal(one, found.quiet_on[slot]) for one in on)
        seen += 1
    assert seen == sum(read.source % HELD_OUT == HELD_OUT - 1 for read in reads)


def test_coactive_is_the_overlap_of_tokens() -> None:
    found, dense, _ = gathered()
    on = torch.cat(dense) > 0
    near = found.coactive(4)
    for f in range(D_SAE):
        if on[:, f].sum() < 5:
            assert near[f] == []
            continue
        overlap = {other: float((on[:, f] & on[:, other]).sum() / (on[:, f] | on[:, other]).sum())
                   for other in range(D_SAE) if other != f and on[:, other].sum() >= 5}
        want = sorted(overlap.values(), reverse=True)[:4]
        got = [share for _, share in near[f]]
        assert torch.allclose(torch.tensor(got), torch.tensor([w for w in want if w > 0][:4]))
        assert all(abs(overlap[other] - share) < 1e-6 for other, share in near[f])


def test_drawn_windows_are_an_even_draw() -> None:
    """Early and late texts are kept alike."""
    sae, _ = subject()
    found = Gathered(sae)
    g = torch.Generator().manual_seed(5)
    for number in range(400):
        h = torch.randn(6, D, generator=g)
        found.add(h, Read(torch.arange(6), torch.zeros(6, dtype=torch.long), number))
    mean = float(found.drawn.source[found.drawn.source >= 0].float().mean())
    assert 160 < mean < 240
