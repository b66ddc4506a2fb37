"""A training that was interrupted ends bit for bit where an undisturbed one does."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sternpost.sae.settings import TrainSettings
from sternpost.sae.train import Trainer, moments_of, train
from sternpost.types import Hookpoint

DATA = torch.randn(640, 8, generator=torch.Generator().manual_seed(2)) * 3 + 1
STEPS, EVERY = 24, 5
MOMENTS = moments_of(DATA)


def fresh(**settings):
    how = {"d_sae": 24, "k": 2, "steps": STEPS, "batch": 32, "lr": 1e-2, "dead_after": 3}
    return Trainer(TrainSettings(**how | settings), *MOMENTS)


def batch(step):
    return DATA[torch.randperm(640, generator=torch.Generator().manual_seed(step))[:32]]


def run(trainer, folder, stop=STEPS):
    """Trains until `stop` steps are done in all, then drops the trainer as a kill would."""
    seen = []
    if trainer.step < stop:
        for progress in train(trainer, batch, folder, EVERY):
            seen.append(progress)
            if progress.step % 4 == 0:
                trainer.history.append((progress.step * 32, progress.fvu))
            if progress.step == stop < STEPS:
                break
    return seen


def whole(trainer):
    state = {"W_enc": trainer.W_enc, "W_dec": trainer.W_dec, "b_enc": trainer.b_enc,
             "idle": trainer.idle, "mean": trainer.mean}
    for index, moments in trainer.optimizer.state_dict()["state"].items():
        state |= {f"{index}.{key}": value for key, value in moments.items()}
    return state


def assert_same(one, other):
    a, b = whole(one), whole(other)
    assert a.keys() == b.keys()
    assert {"0.exp_avg", "2.exp_avg_sq", "1.step"} <= a.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert (one.step, one.scale, one.history) == (other.step, other.scale, other.history)


@pytest.mark.parametrize("stops", [(10,), (12,), (3,), (1, 2, 13, 23), (5, 10, 15, 20), (24,)])
def test_resume_is_exact(stops, tmp_path):
    straight = fresh()
    progress = run(straight, None)
    for stop in stops:  # each time a new process: only the folder is left of the one before
        run(fresh(), tmp_path, stop)
    last = fresh()
    tail = run(last, tmp_path)
    assert_same(last, straight)
    assert tail == progress[len(progress) - len(tail):]
    assert torch.equal(last.sae(Hookpoint(1)).b_enc, straight.sae(Hookpoint(1)).b_enc)


def test_it_continues_from_the_last_checkpoint_and_repeats_only_the_rest(tmp_path):
    run(fresh(), tmp_path, 13)
    assert [progress.step for progress in run(fresh(), tmp_path)] == list(range(11, STEPS + 1))
    assert run(fresh(), tmp_path) == []  # done


def test_an_extended_history_is_part_of_the_checkpoint_of_its_step(tmp_path):
    run(fresh(), tmp_path, 24)
    again = fresh()
    assert again.load(tmp_path)
    assert [tokens for tokens, _ in again.history] == [4 * 32 * at for at in range(1, 7)]


@pytest.mark.parametrize("other", [{"seed": 1}, {"k": 3}, {"lr": 1e-3}, {"steps": 25},
                                   {"d_sae": 32}, {"aux_weight": 0.0}, {"batch": 16}])
def test_checkpoints_of_other_settings_are_not_used(other, tmp_path):
    run(fresh(), tmp_path, 10)
    trainer = fresh(**other)
    start = trainer.W_enc.detach().clone()
    assert trainer.load(tmp_path) is False
    assert trainer.step == 0
    assert torch.equal(trainer.W_enc, start)


def test_without_a_folder_nothing_is_written_and_nothing_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(fresh(), None)
    assert list(tmp_path.iterdir()) == []
    assert fresh().load(tmp_path / "none") is False


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_checkpoint_is_whole_or_not_there(where, tmp_path, monkeypatch):
    run(fresh(), tmp_path, 8)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if where == "fsync" else (Path, "replace")), killed)
        with pytest.raises(KeyboardInterrupt):
            run(fresh(), tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    straight, last = fresh(), fresh()
    run(straight, None)
    run(last, tmp_path)
    assert_same(last, straight)


def test_what_died_while_writing_does_not_disturb(tmp_path):
    run(fresh(), tmp_path, 8)
    (tmp_path / ".checkpoint.safetensors.abc.tmp").write_bytes(b"half")
    trainer = fresh()
    assert trainer.load(tmp_path)
    assert trainer.step == 5


def test_the_checkpoint_is_safetensors_with_its_settings(tmp_path):
    run(fresh(), tmp_path, 6)
    with safe_open(tmp_path / "checkpoint.safetensors", framework="pt") as opened:
        assert opened.metadata()["step"] == "5"
        assert '"d_sae":24' in opened.metadata()["settings"]
