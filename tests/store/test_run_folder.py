"""Whose folder it is, what of it is done, and what is taken back."""

from pathlib import Path

import pytest

from sternpost.errors import OutputError
from sternpost.files import write_json
from sternpost.store import check_writable, open_run_folder

ME, OTHER = {"seed": 0, "model": "m"}, {"seed": 1, "model": "m"}


def begun(path: Path) -> Path:
    open_run_folder(path, ME, resume=False, force=False)
    return path


def finished(path: Path) -> Path:
    write_json(begun(path) / "results.json", {})
    return path


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "a" / "b", ME, resume=False, force=False)
    assert (folder.finished, folder.resumed) == (False, False)
    assert (folder.path / "run.json").is_file()


@pytest.mark.parametrize("resume", [False, True])
def test_the_same_run_finished_is_only_read(tmp_path: Path, resume: bool) -> None:
    assert open_run_folder(finished(tmp_path / "a"), ME, resume, force=False).finished


def test_the_same_run_unfinished_asks_for_resume(tmp_path: Path) -> None:
    path = begun(tmp_path / "a")
    with pytest.raises(OutputError, match=r"unfinished.*--resume.*--force"):
        open_run_folder(path, ME, resume=False, force=False)
    assert open_run_folder(path, ME, resume=True, force=False).resumed


@pytest.mark.parametrize("make", [begun, finished])
@pytest.mark.parametrize("resume", [False, True])
def test_another_run_is_refused_by_name(tmp_path: Path, make: object, resume: bool) -> None:
    path = make(tmp_path / "a")
    with pytest.raises(OutputError, match="another run: it differs in seed"):
        open_run_folder(path, OTHER, resume, force=False)


def test_force_begins_again_and_keeps_strangers(tmp_path: Path) -> None:
    path = finished(tmp_path / "a")
    for name in ("sae", "stages", "notes"):
        (path / name).mkdir()
        (path / name / "file").write_text("x")
    folder = open_run_folder(path, ME, resume=True, force=True)
    assert (folder.finished, folder.resumed) == (False, False)
    assert sorted(p.name for p in path.iterdir()) == ["notes", "run.json"]


def test_a_file_and_a_full_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        open_run_folder(tmp_path / "file", ME, resume=False, force=True)
    with pytest.raises(OutputError, match="holds no run"):
        open_run_folder(tmp_path, ME, resume=True, force=False)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("there", ["", "a", "a/b", "a/b/c"])
def test_discarding_takes_back_what_was_made_and_no_more(tmp_path: Path, there: str) -> None:
    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    folder = open_run_folder(tmp_path / "a" / "b" / "c", ME, resume=False, force=False)
    folder.once("one", lambda: 1)
    folder.discard()
    assert sorted(tmp_path.rglob("*")) == before


def test_discarding_keeps_strangers(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "a" / "b", ME, resume=False, force=False)
    (folder.path / "mine.txt").write_text("mine")
    folder.discard()
    assert [p.name for p in folder.path.iterdir()] == ["mine.txt"]


def test_a_stage_is_made_once(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "a", ME, resume=False, force=False)
    calls: list[int] = []

    def make() -> dict[str, object]:
        calls.append(1)
        return {"x": [1, 2.5, None, "ä"]}

    first = folder.once("key-1.5", make)
    again = open_run_folder(tmp_path / "a", ME, resume=True, force=False).once("key-1.5", make)
    assert first == again
    assert len(calls) == 1
    folder.close()
    assert not folder.stages.exists()


def test_a_stage_that_fails_is_not_remembered(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "a", ME, resume=False, force=False)
    with pytest.raises(ZeroDivisionError):
        folder.once("key", lambda: 1 / 0)
    assert folder.once("key", lambda: 2) == 2


def test_writability_is_tried_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "not" / "yet" / "there")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(OutputError, match="file is a file"):
            check_writable(path)
    with pytest.raises(OutputError, match="Cannot write"):
        check_writable(Path("/proc/sternpost/run"))
