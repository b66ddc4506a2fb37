"""Files are written whole or not at all."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sternpost import files
from sternpost.errors import OutputError, SchemaError


def full(handle: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"),
                                     KeyboardInterrupt(), RuntimeError("a bug")])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, failure: BaseException,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise failure

    files.write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(files.os, "fsync", fail)
    want = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(want):
        files.write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_rows_that_fail_half_way_leave_nothing(tmp_path: Path) -> None:
    def rows() -> Any:
        yield {"a": 1}
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        files.write_jsonl(tmp_path / "rows.jsonl", rows())
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_jsonl(tmp_path / "rows.jsonl", [{"a": 1}, {"a": float("nan")}])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.json: No space left on device.*--out"):
        files.write_json(tmp_path / "a.json", {})


def test_a_place_under_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "a.txt", tmp_path / "file" / "deep" / "a.txt"):
        with pytest.raises(OutputError, match="Cannot write"):
            files.write_text(path, "x")
    assert (tmp_path / "file").read_text() == "mine"


def test_everything_is_flushed_before_it_is_renamed(tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (order.append("sync"), sync(fd)))
    monkeypatch.setattr(Path, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    files.write_bytes(tmp_path / "a", b"x")
    assert order == ["sync", "rename"]


def test_json_comes_back_with_its_version_on_top(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": [1, "ä"], "a": None})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "schema_version": 1,\n')
    assert "ä" in text
    assert files.read_json(tmp_path / "a.json") == {"schema_version": 1, "b": [1, "ä"], "a": None}


@pytest.mark.parametrize(("text", "error", "says"), [
    ('{"schema_version": 2}', SchemaError, "knows up to 1"), ("[1]", SchemaError, "JSON object"),
    ('{"schema_version": "1"}', SchemaError, "integer"), ("{", OutputError, "not readable JSON")])
def test_json_that_cannot_be_read(tmp_path: Path, text: str, error: type, says: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(error, match=says):
        files.read_json(tmp_path / "a.json")


def test_lines_with_odd_characters_come_back(tmp_path: Path) -> None:
    rows = [{"a": "line\u2028separator\x85and\x0bmore"}, {"a": "tab\t\"quote\"\n"}, {}]
    files.write_jsonl(tmp_path / "a.jsonl", rows)
    assert files.read_jsonl(tmp_path / "a.jsonl") == rows
    (tmp_path / "a.jsonl").write_text("{}\n{half")
    with pytest.raises(OutputError, match="JSON lines"):
        files.read_jsonl(tmp_path / "a.jsonl")


def test_half_a_surrogate_is_no_crash(tmp_path: Path) -> None:
    files.write_jsonl(tmp_path / "a.jsonl", [{"a": "\ud83d"}])
    files.write_text(tmp_path / "a.txt", "\ud83d")
    assert len(files.read_jsonl(tmp_path / "a.jsonl")) == 1
    assert len(files.sha256_text("\ud83d")) == 64


def test_tied_tensors_are_both_written(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    rows = torch.arange(6.0).reshape(2, 3)
    files.write_tensors(tmp_path / "a.safetensors", {"a": rows, "b": rows, "c": rows[1:]})
    back = load_file(tmp_path / "a.safetensors")
    assert torch.equal(back["a"], back["b"])
    assert torch.equal(back["c"], rows[1:])


def test_canonical_json_is_equal_for_equal_values() -> None:
    assert files.canonical_json({"b": 1, "a": ["ä"]}) == files.canonical_json({"a": ["ä"], "b": 1})
    assert files.canonical_json({"b": 1, "a": 2}) == '{"a":2,"b":1}'
    with pytest.raises(ValueError, match="JSON compliant"):
        files.canonical_json(float("inf"))


def test_nobody_else_opens_a_file_for_writing() -> None:
    import re

    writes = re.compile(r"\.write_(?:text|bytes)\(|open\([^)]*[\"'][wax]b?[\"']|\bjson\.dump\(|"
                        r"save_file\(|torch\.save\(|np\.save")
    root = Path(files.__file__).parent
    for path in root.rglob("*.py"):
        if path != Path(files.__file__):
            assert not writes.search(path.read_text(encoding="utf-8")), path
