"""Shards on disk: batches are a function of (seed, step), every token comes once an epoch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sternpost.activations import open_shards, shards, write_shards


def pieces(tokens, size=7):
    """Row i holds i and -i, in pieces as a model gives them."""
    rows = torch.stack([torch.arange(tokens), -torch.arange(tokens)], 1).float()
    return rows.split(size)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 10)


@pytest.fixture
def three(small, tmp_path):
    """23 tokens in three shards."""
    return write_shards(tmp_path / "activations", pieces(23))


def ids(batch):
    assert torch.equal(batch[:, 0], -batch[:, 1])  # rows stay whole
    return batch[:, 0].int().tolist()


@pytest.mark.parametrize("piece", [1, 7, 10, 23, 100])
@pytest.mark.parametrize(("tokens", "files"), [(23, 3), (20, 2), (10, 1), (3, 1), (31, 4)])
def test_what_is_written_is_what_was_given(piece, tokens, files, small, tmp_path):
    written = write_shards(tmp_path, pieces(tokens, piece))
    assert (written.tokens, len(written.files)) == (tokens, files)
    assert ids(written.sample(1000)) == list(range(tokens))


def test_every_token_once_an_epoch(three):
    walk = ids(three.batch(0, 23, seed=0))
    assert sorted(walk) == list(range(23))
    assert walk != sorted(walk)
    assert sorted(ids(three.batch(1, 23, seed=0))) == list(range(23))


@pytest.mark.parametrize("size", [1, 4, 9, 23, 50])
def test_batches_of_any_size_walk_epoch_by_epoch(size, three):
    steps = -(-69 // size)
    walk = [token for step in range(steps) for token in ids(three.batch(step, size, seed=3))]
    assert len(walk) == steps * size
    for start in (0, 23, 46):
        assert sorted(walk[start:start + 23]) == list(range(23))


@pytest.mark.parametrize("size", [4, 30])
def test_the_walk_does_not_depend_on_the_size_of_a_batch(size, three):
    """A batch goes on inside a shard; a batch over an epoch's end takes from both."""
    want = [token for step in range(60) for token in ids(three.batch(step, 1, seed=3))]
    got = [token for step in range(60 // size) for token in ids(three.batch(step, size, seed=3))]
    assert got == want


def test_batches_are_a_function_of_seed_and_step(three, tmp_path):
    forward = [ids(three.batch(step, 8, seed=5)) for step in range(9)]
    backward = [ids(three.batch(step, 8, seed=5)) for step in reversed(range(9))]
    assert backward[::-1] == forward
    assert [ids(three.batch(step, 8, seed=6)) for step in range(9)] != forward
    again = open_shards(tmp_path / "activations")  # as a resumed run opens them
    assert again == three
    assert [ids(again.batch(step, 8, seed=5)) for step in range(9)] == forward


def test_epochs_differ_in_the_order_of_shards_and_inside_them(three):
    epochs = [ids(three.batch(epoch, 23, seed=0)) for epoch in range(8)]
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert len({tuple(dict.fromkeys(token // 10 for token in epoch)) for epoch in epochs}) > 1
    inside = {tuple(token for token in epoch if token < 10) for epoch in epochs}
    assert len(inside) == 8


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 23), st.integers(0, 40), st.integers(0, 2**31))
def test_a_batch_has_its_size_and_no_token_more_often_than_epochs(size, step, seed):
    import tempfile
    from pathlib import Path
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(shards, "SHARD", 10)
        walk = ids(write_shards(Path(folder), pieces(23)).batch(step, size, seed))
    assert len(walk) == size
    assert max(walk.count(token) for token in walk) <= 2


def test_a_new_corpus_in_an_old_folder_is_not_mixed_up_with_it(small, tmp_path):
    write_shards(tmp_path, pieces(20)).batch(0, 20, seed=0)
    new = write_shards(tmp_path, [rows + torch.tensor([100.0, -100.0]) for rows in pieces(20)])
    assert min(ids(new.batch(0, 20, seed=0))) == 100


def test_half_precision_comes_back_as_float32(small, tmp_path):
    written = write_shards(tmp_path, [rows.bfloat16() for rows in pieces(23)])
    assert written.batch(0, 5, seed=0).dtype == written.sample(5).dtype == torch.float32


@pytest.mark.parametrize("want", [1, 2, 5, 9, 22, 23, 99])
def test_a_sample_is_spread_over_the_corpus(want, three):
    got = ids(three.sample(want))
    assert min(want, 23) / 3 < len(got) <= want
    assert got == sorted(set(got))
    if want >= 5:
        assert {token // 10 for token in got} == {0, 1, 2}


def test_shards_that_were_never_finished_do_not_count(small, tmp_path):
    assert open_shards(tmp_path) is None

    def dies():
        yield from pieces(23)[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path, dies())
    assert list(tmp_path.glob("shard-*"))
    assert open_shards(tmp_path) is None
    assert write_shards(tmp_path, pieces(23)).tokens == 23
    assert open_shards(tmp_path).files == ("shard-00000.safetensors", "shard-00001.safetensors",
                                           "shard-00002.safetensors")
