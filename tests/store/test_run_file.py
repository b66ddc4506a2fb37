"""A run that writes one file: whose the file is, and what an interrupted one keeps."""

import json
from pathlib import Path

import pytest

from sternpost.errors import OutputError
from sternpost.store import RunFile, open_run_file

ME, OTHER = {"seed": 0, "pack": "a"}, {"seed": 1, "pack": "a"}


def opened(path: Path, who: dict[str, object] = ME, resume: bool = False,
           force: bool = False) -> RunFile:
    return open_run_file(path / "levels.json", who, resume, force)


def seen(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def test_a_finished_run_leaves_its_file_and_no_more(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.folder.once("stage", lambda: 1)
    assert seen(tmp_path) == ["levels.json.unfinished"]
    run.finish({"levels": {}, "provenance": {"pack": "a"}})
    assert seen(tmp_path) == ["levels.json"]
    body = json.loads((tmp_path / "levels.json").read_text())
    assert body == {"schema_version": 1, "levels": {},
                    "provenance": {"pack": "a", "identity": ME}}


@pytest.mark.parametrize("resume", [False, True])
def test_the_same_run_finished_is_only_read(tmp_path: Path, resume: bool) -> None:
    opened(tmp_path).finish({})
    assert opened(tmp_path, resume=resume).finished
    assert seen(tmp_path) == ["levels.json"]


@pytest.mark.parametrize("resume", [False, True])
def test_another_runs_file_is_refused_by_name_unless_forced(tmp_path: Path, resume: bool) -> None:
    opened(tmp_path).finish({"first": 1})
    with pytest.raises(OutputError, match=r"levels\.json is of another run: it differs in seed"):
        opened(tmp_path, OTHER, resume)
    run = opened(tmp_path, OTHER, force=True)
    assert not run.finished
    assert "first" in json.loads((tmp_path / "levels.json").read_text())  # until there is another
    run.finish({"second": 1})
    assert "second" in json.loads((tmp_path / "levels.json").read_text())


def test_an_unfinished_run_asks_for_resume_and_goes_on(tmp_path: Path) -> None:
    opened(tmp_path).folder.once("stage", lambda: 7)
    with pytest.raises(OutputError, match=r"unfinished.*--resume"):
        opened(tmp_path)
    with pytest.raises(OutputError, match=r"unfinished is of another run: it differs in seed"):
        opened(tmp_path, OTHER, resume=True)
    assert opened(tmp_path, resume=True).folder.once("stage", lambda: 8) == 7
    assert opened(tmp_path, force=True).folder.once("stage", lambda: 9) == 9


def test_one_that_was_begun_with_force_goes_on_without(tmp_path: Path) -> None:
    opened(tmp_path).finish({})
    opened(tmp_path, OTHER, force=True).folder.once("stage", lambda: 7)
    assert opened(tmp_path, OTHER, resume=True).folder.once("stage", lambda: 8) == 7


@pytest.mark.parametrize("text", ["no JSON", "{}", '{"provenance": 3}', "[1]"])
def test_a_strangers_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "levels.json").write_text(text)
    with pytest.raises(OutputError, match="is no file of this command"):
        opened(tmp_path)
    assert seen(tmp_path) == ["levels.json"]


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is a folder; --out names a file\. Type --out .*levels"):
        open_run_file(tmp_path, ME, resume=False, force=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file is a file"):
        open_run_file(tmp_path / "file" / "levels.json", ME, resume=False, force=True)
    assert seen(tmp_path) == ["file"]
