"""Files as the rest of the house needs them: written whole or not at all.

The only code that opens a file for writing. A file is written beside its place under a temporary
name, flushed to disk, and renamed over it; an error or Ctrl-C leaves the old file as it was.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sternpost.errors import OutputError, SchemaError

SCHEMA_VERSION = 1


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys and no spaces: equal values, equal text. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False,
                      allow_nan=False)


def sha256_text(text: str) -> str:
    """Hex sha256 of the UTF-8 of `text`."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: str | Path) -> Path:
    """The folder `path`, made if it was not there. Raises OutputError where that is impossible."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return Path(path)


def remove_folder(path: str | Path) -> None:
    """`path` and all in it gone; nothing happens where there is none."""
    shutil.rmtree(path, ignore_errors=True)


def remove_unfinished(folder: str | Path) -> None:
    """The temporary files gone that a killed process left in `folder` and below."""
    for file in Path(folder).rglob(".*.tmp"):
        file.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """`data` at `path`, whole or not at all."""
    _write(Path(path), lambda file: file.write(data))


def write_text(path: str | Path, text: str) -> None:
    """`text` as UTF-8 at `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """`value` with `schema_version` on top as indented JSON at `path`."""
    body = {"schema_version": SCHEMA_VERSION, **value}
    write_text(path, json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line at `path`, whole or not at all."""
    def write(file: Any) -> None:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False)
            file.write(line.encode("utf-8", errors="backslashreplace") + b"\n")

    _write(Path(path), write)


def append_jsonl(path: str | Path, row: Mapping[str, Any]) -> None:
    """One more JSON object at the end of `path`."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    make_folder(Path(path).parent)
    try:
        with Path(path).open("ab", buffering=0) as file:
            file.write(line.encode())  # one call: a reader sees all of the line or none
    except OSError as error:
        raise _cannot_write(path, error) from error


def write_tensors(path: str | Path, tensors: Mapping[str, Any],
                  metadata: dict[str, str] | None = None) -> None:
    """Named tensors as safetensors at `path`, whole or not at all."""
    from safetensors.torch import save  # heavy: only where tensors are at hand anyway

    body: dict[str, Any] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        one = tensor.detach().cpu().contiguous()
        place = one.untyped_storage().data_ptr()
        body[name] = one.clone() if place in places else one  # tied weights are written twice
        places.add(place)
    write_bytes(path, save(body, metadata))


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Named tensors from a safetensors file. Raises OutputError where it is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file  # heavy, as above

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path} is no readable safetensors file: {error}.") from error


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object at `path`. A `schema_version` newer than ours is refused."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} is not readable JSON: {error}.") from error
    version = value.get("schema_version", SCHEMA_VERSION) if isinstance(value, dict) else None
    if not isinstance(version, int):
        raise SchemaError(f"{path}: expected a JSON object with an integer schema_version.")
    if version > SCHEMA_VERSION:
        raise SchemaError(f"{path} has schema_version {version}; this sternpost knows up to "
                          f"{SCHEMA_VERSION}. Type: pip install --upgrade sternpost")
    return value


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The JSON objects of a file with one a line."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} is not readable as JSON lines: {error}.") from error


def _write(path: Path, write: Callable[[Any], Any]) -> None:
    make_folder(path.parent)
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        _discard(temporary)
        raise _cannot_write(path, error) from error
    except BaseException:  # also Ctrl-C: nothing half-written stays behind
        _discard(temporary)
        raise


def _discard(temporary: str) -> None:
    if temporary:
        Path(temporary).unlink(missing_ok=True)


def _cannot_write(path: str | Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"Cannot write {path}: {reason}. What was there before is unchanged. "
                       "Give a folder that can be written and has room (--out DIR).")
