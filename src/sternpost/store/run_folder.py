"""A run's folder: whose it is, what of it is done, and what a resumed run need not do again.

    DIR/run.json          which run this is: its settings and the hashes of what it reads
    DIR/stages/KEY.json   stages that are done, each written whole; gone when the run is
    DIR/results.json      written last: the run is finished
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.errors import EndpointError, OutputError, SternpostError
from sternpost.files import (
    canonical_json,
    make_folder,
    read_json,
    remove_folder,
    remove_unfinished,
    write_json,
    write_text,
)

OURS = ("run.json", "results.json", "samples.jsonl", "search.jsonl", "splits.json", "report.html",
        "diffmean.safetensors", "metrics.jsonl", "progress.json", "held-out.safetensors",
        "features.json", "trace.json", "trace.html", "features.jsonl", "descriptions.json",
        "calibration.json", "card.md")
FOLDERS = ("stages", "sae", "pack", "tensorboard", "layers.*")
FREE = ("prompts", "descriptions", "atlas")
"""A folder that only holds these is free: they have owners of their own."""


@dataclass
class RunFolder:
    """An open run folder."""

    path: Path
    finished: bool = False
    resumed: bool = False
    made: tuple[Path, ...] = ()
    """Folders that were not there before this run, the innermost first."""
    baseline: Path | None = None
    """Where the baseline's stages are kept instead, for runs that share it; they stay there."""

    @property
    def stages(self) -> Path:
        """Where unfinished stages keep what they have."""
        return self.path / "stages"

    def has(self, key: str) -> bool:
        """Whether `once(key, ...)` was made."""
        return self._file(key).is_file()

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, JSON; made once in a run's life, then read back."""
        file = self._file(key)
        if file.is_file():
            try:
                return read_json(file)["value"]
            except (OutputError, KeyError, TypeError) as error:
                raise OutputError(f"{file} is damaged, so the run cannot go on from it. Type rm "
                                  f"{file} to make that part anew, or --force to begin again."
                                  ) from error
        value = make()
        write_json(file, {"value": value})
        return value

    def _file(self, key: str) -> Path:
        shared = self.baseline is not None and "baseline" in key.split(".")
        return (self.baseline if shared and self.baseline else self.stages) / f"{key}.json"

    def close(self) -> None:
        """Throws away what only an unfinished run needs, and what a kill left half-written."""
        remove_folder(self.stages)
        remove_unfinished(self.path)

    def discard(self) -> None:
        """Takes back everything that this run wrote; other files stay."""
        _clear(self.path)
        for folder in self.made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def open_run_folder(path: Path, identity: dict[str, Any], resume: bool, force: bool,
                    last: str = "results.json") -> RunFolder:
    """The folder of the run that `identity` describes; `last` is the file that it writes last.
    Raises OutputError where it is another run's, or an unfinished one's and `resume` is not asked
    for."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; --out names a folder. Type --out {path}.run")
    known = read_json(path / "run.json") if (path / "run.json").is_file() else None
    same = known is not None and canonical_json(known.get("identity")) == canonical_json(identity)
    if same and not force:
        if (path / last).is_file():
            remove_folder(path / "stages")  # where Ctrl-C came after the last file was written
            return RunFolder(path, finished=True)
        if not resume:
            raise OutputError(f"{path} holds this run, unfinished. Type the same command with "
                              "--resume to go on, or with --force to begin again.")
        return RunFolder(path, resumed=True)
    if not force and path.is_dir() and any(e.name not in FREE for e in path.iterdir()):
        raise OutputError(_taken(path, known, identity))
    made = tuple(folder for folder in (path, *path.parents) if not folder.exists())
    folder = RunFolder(make_folder(path), made=made)
    _clear(path)
    try:
        write_json(path / "run.json", {"identity": identity})
    except BaseException:
        folder.discard()
        raise
    return folder


@contextmanager
def at_work(folder: RunFolder, keep: Callable[[], bool] = lambda: False) -> Iterator[RunFolder]:
    """`folder`, while a run works in it. Bad input that shows only now leaves nothing behind,
    unless `keep` says that there is something to go on from; what an interruption, a full disk or
    a silent service ends stays, for --resume."""
    try:
        yield folder
    except (OutputError, EndpointError):
        raise
    except SternpostError:
        if not (folder.finished or folder.resumed or keep()):
            folder.discard()
        raise


def _taken(path: Path, known: dict[str, Any] | None, identity: dict[str, Any]) -> str:
    if known is None:
        return (f"{path} is not empty and holds no run. Give another folder with --out, or type "
                "--force to write into it; files that are not ours stay.")
    theirs = known.get("identity") or {}
    differ = sorted(key for key in {*theirs, *identity} if theirs.get(key) != identity.get(key))
    return (f"{path} holds another run: it differs in {', '.join(differ) or 'nothing known'}. "
            "Give another folder with --out, or type --force to replace it.")


def _clear(path: Path) -> None:
    for name in OURS:
        (path / name).unlink(missing_ok=True)
    for name in FOLDERS:
        for folder in path.glob(name):
            remove_folder(folder)


def check_writable(path: Path) -> None:
    """Raises OutputError unless a file can be written where `path` is or would be."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise OutputError(f"{there} is a file; --out names a folder.")
    probe = there / ".sternpost-probe"
    try:
        write_text(probe, "")
    finally:
        probe.unlink(missing_ok=True)
