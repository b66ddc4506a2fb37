"""Ctrl-C at any moment, and a disk that is full at any moment: what was finished is kept, nothing
is half-written, and --resume ends as a run that was never interrupted."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sternpost import files

FIRST = (".sternpost-probe", "run.json")
"""Before these are written there is no run."""
TRAINED = ("--d-sae", "32", "--k", "4", "--tokens", "102400")


@pytest.fixture
def straight(fake_cli: Any, fake: Any, comparable: Any) -> Callable[..., dict[str, Any]]:
    """What an uninterrupted run of the same words gives."""
    def run(*more: str) -> dict[str, Any]:
        out = fake.out.with_name("straight")
        assert fake_cli(*words(fake, out, *more)).code == 0
        return comparable(out)

    return run


def words(fake: Any, out: Path, *more: str) -> list[str]:
    base = fake.words(*more, out=out)
    if "--d-sae" in more:
        at = base.index("--sae")
        del base[at:at + 2]
    return base


def until_done(call: Callable[[], Any], code: int, folder: Path, whole: Any) -> int:
    """Calls until it ends with 0, expecting `code` before; gives the number of failures."""
    for failures in range(200):
        said = call()
        if said.code == 0:
            return failures
        assert said.code == code, said.err
        assert "Traceback" not in said.err
        assert not (folder / "results.json").exists()
        whole(folder)
    raise AssertionError("it never ended")


@pytest.mark.slow
def test_at_every_call_of_the_engine(fake_cli: Any, fake: Any, straight: Any, whole: Any,
                                     comparable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    want, generate, left = straight(), fake.engine.generate, 0

    def at_most(*args: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return generate(*args)

    def once() -> Any:
        nonlocal left
        left = 3
        return fake_cli(*fake.words("--resume"))

    monkeypatch.setattr(fake.engine, "generate", at_most)
    assert until_done(once, 130, fake.out, whole) >= 10
    assert comparable(fake.out) == want


@pytest.mark.parametrize("method", ["residuals", "gradients", "nll"])
def test_while_looking_inside_the_model(fake_cli: Any, fake: Any, whole: Any, method: str,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Iterator[Any]:
        raise KeyboardInterrupt

    short = fake.words("--resume")
    at = short.index("--feature")
    del short[at:at + 2]  # gradients are for the search
    with monkeypatch.context() as m:
        m.setattr(fake.engine, method, stop)
        said = fake_cli(*short)
        assert said.code == 130
        assert "Interrupted" in said.err
        assert "Traceback" not in said.err
    assert not (fake.out / "results.json").exists()
    whole(fake.out)


@pytest.mark.slow
def test_in_the_middle_of_every_file(fake_cli: Any, fake: Any, straight: Any, whole: Any,
                                     comparable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    want, write, seen = straight(*TRAINED), files._write, set()

    def half(path: Path, put: Callable[[Any], Any]) -> None:
        def put_half(file: Any) -> None:
            file.write(b"{ half")
            raise KeyboardInterrupt

        if path.name in FIRST or path in seen:
            return write(path, put)
        seen.add(path)
        return write(path, put_half)

    monkeypatch.setattr(files, "_write", half)
    failures = until_done(lambda: fake_cli(*words(fake, fake.out, "--resume", *TRAINED)), 130,
                          fake.out, whole)
    assert failures == len(seen)
    names = {path.name for path in seen}
    assert names > {"results.json", "samples.jsonl", "search.jsonl", "splits.json", "report.html",
                    "sae.safetensors", "checkpoint.safetensors", "shards.json", "own-search.json"}
    assert comparable(fake.out) == want


def test_at_the_first_file_nothing_stays(fake_cli: Any, fake: Any,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    write = files._write

    def stop(path: Path, put: Callable[[Any], Any]) -> None:
        if path.name == "run.json":
            raise KeyboardInterrupt
        write(path, put)

    monkeypatch.setattr(files, "_write", stop)
    assert fake_cli(*fake.words(out=fake.out / "deep")).code == 130
    assert not fake.out.exists()


@pytest.mark.slow
def test_in_the_middle_of_training(fake_cli: Any, fake: Any, straight: Any, whole: Any,
                                   comparable: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sternpost.sae.train import Trainer

    want, update = straight(*TRAINED), Trainer.update
    steps: list[int] = []

    def stop(self: Trainer, x: Any) -> Any:
        steps.append(self.step)
        if len(steps) in (1, 77):  # at the start, and 25 steps after the checkpoint
            raise KeyboardInterrupt
        return update(self, x)

    monkeypatch.setattr(Trainer, "update", stop)
    assert until_done(lambda: fake_cli(*words(fake, fake.out, "--resume", *TRAINED)), 130,
                      fake.out, whole) == 2
    assert steps == [0, *range(76), *range(50, 100)]
    assert comparable(fake.out) == want


def test_while_tidying_up_the_run_is_finished(fake_cli: Any, fake: Any,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    from sternpost.store import RunFolder

    def stop(self: RunFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(RunFolder, "close", stop)
        assert fake_cli(*fake.words()).code == 130
    said = fake_cli(*fake.words())
    assert said.code == 0
    assert "Clamping feature 0" in said.out
    assert not (fake.out / "stages").exists()


def test_debug_lets_ctrl_c_through(fake_cli: Any, fake: Any,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    import click

    monkeypatch.setattr(fake.engine, "generate", stop)
    with pytest.raises((KeyboardInterrupt, click.Abort)):
        fake_cli(*fake.words("--debug"))


# ---- a full disk ------------------------------------------------------------------------------

FULL_AT = ("own-search.json", "sae.safetensors", "cfg.json", "test-baseline.json",
           "samples.jsonl", "report.html", "results.json")


@pytest.mark.slow
def test_a_disk_that_is_full_at_one_file_after_another(fake_cli: Any, fake: Any, straight: Any,
                                                       whole: Any, comparable: Any,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    want, write, sync, seen = straight(), files._write, os.fsync, set()
    full = False

    def once_each(path: Path, put: Callable[[Any], Any]) -> None:
        nonlocal full
        full = path.name in FULL_AT and path.name not in seen
        seen.add(path.name)
        write(path, put)

    def no_room(handle: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(files, "_write", once_each)
    monkeypatch.setattr(files.os, "fsync", no_room)
    failures = until_done(lambda: fake_cli(*fake.words("--resume")), 2, fake.out, whole)
    assert failures == len(FULL_AT)
    assert comparable(fake.out) == want


def test_a_disk_that_is_full_from_the_start_leaves_nothing(
        fake_cli: Any, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_room)
    before = sorted(fake.out.parent.rglob("*"))
    said = fake_cli(*fake.words())
    assert said.code == 2
    assert "No space left on device" in said.err
    assert "--out" in said.err
    assert sorted(fake.out.parent.rglob("*")) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 kB, as root can mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small tmpfs can only be mounted by root (run the tests as root)")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full(fake_cli: Any, fake: Any, small_disk: Path, whole: Any,
                                    straight: Any, comparable: Any) -> None:
    want, out = straight(), small_disk / "run"
    said = fake_cli(*fake.words(out=out))
    assert said.code == 2
    assert "No space left on device" in said.err
    assert "Traceback" not in said.err
    assert whole(out)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    said = fake_cli(*fake.words("--resume", out=out))
    assert said.code == 0, said.err
    assert comparable(out) == want
