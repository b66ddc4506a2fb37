"""Tables in: the columns and rows of a CSV, JSON, JSONL or Parquet file, or of a Hub data set."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.errors import MissingExtra, PromptFileError
from sternpost.files import sha256_file, sha256_text

_HUB = re.compile(r"hf:(?P<name>[^:]+?)(?::(?P<config>[^/\[\]]+))?/(?P<split>[^/]+)")
_KNOWN = "a .csv, .jsonl, .json or .parquet file, or hf:org/name[:config]/split"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    where: str
    """For messages, e.g. "row 3 (line 4)"; a header is no row."""
    cells: Mapping[str, Any]
    """Column to value; without the empty ones."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a prompt file holds, not yet understood."""

    path: str
    sha256: str
    """Of the file's bytes; of a Hub data set its rows as JSON."""
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: str) -> Table:
    """The table at `path`. Raises PromptFileError, with what to type instead."""
    if path.startswith("hf:"):
        return _hub(path)
    readers = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet, ".json": _json}
    suffix = Path(path).suffix.lower()
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "does not exist"
        raise PromptFileError(f"Prompt file {path} {what}. Give {_KNOWN}.")
    if suffix not in readers:
        raise PromptFileError(f"Prompt file {path}: the extension {suffix or '(none)'} is not "
                              f"known. Give {_KNOWN}.")
    try:
        table = readers[suffix](path, sha256_file(path))
    except OSError as error:
        raise PromptFileError(f"Prompt file {path} cannot be read: {error}.") from error
    return _not_empty(table)


def _not_empty(table: Table) -> Table:
    if not table.rows:
        raise PromptFileError(f"Prompt file {table.path} has no rows, only the columns "
                              f"{', '.join(table.columns) or '(none)'}. Give at least one prompt.")
    return table


def _text(path: str) -> str:
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptFileError(
            f"Prompt file {path} is not UTF-8: byte {error.start} (line {line}) is "
            f"0x{data[error.start]:02x}. Save it as UTF-8, e.g.: iconv -f {_guess(data)} -t UTF-8 "
            f"{path} > NEW{Path(path).suffix}") from error
    if not text.strip():
        raise PromptFileError(f"Prompt file {path} is empty. Give {_KNOWN}, with at least one "
                              "prompt.")
    return text


def _guess(data: bytes) -> str:
    return "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "LATIN1"


def _csv(path: str, sha256: str) -> Table:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows: list[Row] = []
    columns: tuple[str, ...] = ()
    try:
        for cells in filter(None, reader):  # a blank line is no row
            if not columns:
                columns = _header(path, cells)
                continue
            where = f"row {len(rows) + 1} (line {reader.line_num})"
            if len(cells) > len(columns):
                raise PromptFileError(
                    f"{path}, {where}: {len(cells)} cells under {len(columns)} columns. Put "
                    'quotes around a cell that holds a comma: "a, b".')
            missing = ("nan", "NaN")  # as pandas may write them
            rows.append(_row(where, {c: v for c, v in zip(columns, cells, strict=False)
                                     if v not in missing}))
    except csv.Error as error:
        raise PromptFileError(
            f"{path}, line {reader.line_num}: broken CSV ({error}). Close every quote and write a "
            'quote inside a quoted cell twice (""); very long cells belong in JSONL or Parquet.'
        ) from error
    return Table(path, sha256, columns, tuple(rows))


def _header(path: str, cells: list[str]) -> tuple[str, ...]:
    columns = tuple(cell.strip() for cell in cells)
    if twice := sorted({c for c in columns if c and columns.count(c) > 1}):
        raise PromptFileError(f"{path}: the header names {', '.join(twice)} more than once. Give "
                              "each column its own name.")
    return columns


def _jsonl(path: str, sha256: str) -> Table:
    rows: list[Row] = []
    columns: dict[str, None] = {}  # a set that keeps its order
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        cells = json_object(f"{path}, line {number}", line)
        columns |= dict.fromkeys(cells)
        rows.append(_row(f"row {len(rows) + 1} (line {number})", cells))
    return Table(path, sha256, tuple(columns), tuple(rows))


def _json(path: str, sha256: str) -> Table:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise PromptFileError(f"{path}: broken JSON ({error}). It is one list of objects: "
                              '[{"prompt": "..."}]') from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise PromptFileError(f"{path} is no list of objects. Write [{{\"prompt\": \"...\"}}], or "
                              "one object a line in a .jsonl file.")
    columns = dict.fromkeys(name for row in found for name in row)
    return Table(path, sha256, tuple(columns), _numbered(found))


def json_object(where: str, line: str) -> dict[str, Any]:
    """The object in a line of JSON. Raises PromptFileError."""
    try:
        cells = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptFileError(f"{where}: broken JSON ({error}). Each line is one object: "
                              '{"prompt": "..."}') from error
    if not isinstance(cells, dict):
        raise PromptFileError(f"{where}: got {line.strip()[:40]!r}. Each line is one object: "
                              '{"prompt": "..."}')
    return cells


def _parquet(path: str, sha256: str) -> Table:
    with open_parquet(path) as file:
        table = file.read()
    return Table(path, sha256, tuple(table.column_names), _numbered(table.to_pylist()))


@contextmanager
def open_parquet(path: str) -> Iterator[Any]:
    """A Parquet file; what is not readable inside is a PromptFileError."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtra("A Parquet file", "datasets") from error
    try:
        yield parquet.ParquetFile(path)
    except ArrowException as error:
        raise PromptFileError(f"{path} is not readable Parquet: {error}. Write it anew, or give "
                              "CSV or JSONL.") from error


def _hub(spec: str) -> Table:
    found = [dict(row) for row in hub_rows(spec)]
    sha256 = sha256_text(json.dumps(found, sort_keys=True, default=str))
    columns = tuple(found[0]) if found else ()
    return _not_empty(Table(spec, sha256, columns, _numbered(found)))


def hub_rows(spec: str) -> Any:
    """The rows of a split of a Hub data set, read when they are asked for."""
    match = _HUB.fullmatch(spec)
    if match is None:
        raise PromptFileError(f"{spec!r} names no split of a Hub data set. Type "
                              "hf:org/name/split or hf:org/name:config/split.")
    try:
        import datasets  # an extra
    except ImportError as error:
        raise MissingExtra(f"The Hub data set {spec}", "datasets") from error
    name, config, split = match["name"], match["config"], match["split"]
    try:
        return datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, RuntimeError,
            datasets.exceptions.DatasetsError) as error:  # pyright: ignore
        raise PromptFileError(
            f"Data set {name!r}, configuration {config!r}, split {split!r} cannot be loaded: "
            f"{error} Type hf:org/name[:config]/split; a local folder does in place of org/name, "
            "and HF_ENDPOINT and HF_HUB_OFFLINE are obeyed.") from error


def _numbered(rows: Iterable[Mapping[str, Any]]) -> tuple[Row, ...]:
    return tuple(numbered_row(i, cells) for i, cells in enumerate(rows))


def numbered_row(at: int, cells: Mapping[str, Any]) -> Row:
    """The row at place `at`, from 0."""
    return _row(f"row {at + 1}", cells)


def _row(where: str, cells: Mapping[str, Any]) -> Row:
    return Row(where, {name: value for name, value in cells.items() if not _missing(value)})


def _missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))
