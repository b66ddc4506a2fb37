"""A run that writes one file: whose it is, and what a resumed run need not do again.

    FILE              written last, whole; under `provenance.identity` it says which run it is
    FILE.unfinished/  run.json and stages (run_folder.py), until FILE is written
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.errors import OutputError
from sternpost.files import canonical_json, read_json, remove_folder, write_json
from sternpost.store.run_folder import RunFolder, check_writable, open_run_folder

WORK = ".unfinished"
"""Ending of the folder beside the file."""


@dataclass
class RunFile:
    """An open run that writes one file."""

    path: Path
    identity: dict[str, Any]
    folder: RunFolder

    @property
    def finished(self) -> bool:
        """Whether this very run has written its file."""
        return self.folder.finished

    def finish(self, body: dict[str, Any]) -> None:
        """Writes the file; what only an unfinished run needs is thrown away."""
        known = body.get("provenance", {})
        write_json(self.path, {**body, "provenance": {**known, "identity": self.identity}})
        remove_folder(self.folder.path)


def open_run_file(path: Path, identity: dict[str, Any], resume: bool, force: bool) -> RunFile:
    """The run that `identity` describes and that writes `path`. Raises OutputError where the file
    is another's, or the run is unfinished and `resume` is not asked for."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder; --out names a file. Type --out "
                          f"{path / 'levels.json'}")
    check_writable(path.parent)
    work = path.with_name(path.name + WORK)
    begun = work / "run.json"
    theirs = read_json(begun).get("identity") if begun.is_file() else None
    going_on = resume and not force and _same(theirs, identity)
    if path.exists() and not (force or going_on):  # else --force was given when it was begun
        _check_ours(path, identity)
        remove_folder(work)  # where Ctrl-C came after the file was written
        return RunFile(path, identity, RunFolder(work, finished=True))
    if theirs is not None and not (force or _same(theirs, identity)):
        raise OutputError(_other(work, theirs, identity))
    return RunFile(path, identity, open_run_folder(work, identity, resume, force))


def _check_ours(path: Path, identity: dict[str, Any]) -> None:
    """Raises OutputError unless this run wrote `path`."""
    try:
        theirs = read_json(path)["provenance"]["identity"]
    except (OutputError, KeyError, TypeError) as error:
        raise OutputError(f"{path} is there and is no file of this command. Give another with "
                          "--out, or type --force to replace it.") from error
    if not _same(theirs, identity):
        raise OutputError(_other(path, theirs, identity))


def _same(one: Any, other: Any) -> bool:
    return one is not None and canonical_json(one) == canonical_json(other)


def _other(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    differ = sorted(key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key))
    return (f"{path} is of another run: it differs in {', '.join(differ) or 'nothing known'}. Give "
            "another file with --out, or type --force to replace it.")
