"""A corpus to train on, document by document: what is kept in memory is where they lie.

A JSONL file is read line by line, a Parquet file row group by row group, a Hub data set from its
own memory-mapped files; a CSV file is read whole. Rows mean what they mean in a prompt file:
`messages`, or a prompt with its `response`, is chat and kept whole; `text` is plain text.
"""

import hashlib
import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from sternpost.errors import PromptFileError
from sternpost.prompts.files import column_of, parts_of
from sternpost.prompts.rows import labelled
from sternpost.prompts.tables import (
    Row,
    hub_rows,
    json_object,
    numbered_row,
    open_parquet,
    read_table,
)
from sternpost.types import Transcript

LOOKED_AT = 100
"""Rows by which a file's column and kind are told, from the first."""


@dataclass(frozen=True)
class Documents:
    """The documents of one file or data set."""

    path: str
    column: str
    sizes: tuple[int, ...]
    """How many lie together, part by part; a part is read as a whole where it must be."""
    row: Callable[[int], Row]
    with_messages: bool
    """Whether a row's `messages` go before its column."""
    sha256: str
    """Of the file's name, size and first and last bytes: a corpus may be too large to hash."""

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitem__(self, at: int) -> Transcript:
        """One document. Raises PromptFileError where its row is malformed."""
        request = labelled(self.path, self.row(at), self.column, "corpus",
                           self.with_messages).request
        return Transcript(messages=request.messages) if request.messages \
            else Transcript(text=request.text)

    @cached_property
    def chat(self) -> bool:
        """Whether they are conversations, by the first of them that can be read."""
        problem: PromptFileError | None = None
        for at in range(min(len(self), LOOKED_AT)):
            try:
                return bool(self[at].messages)
            except PromptFileError as error:
                problem = problem or error
        assert problem is not None
        raise problem

    def shuffled(self, nth: int, seed: int) -> int:
        """The number of the `nth` document of an endless walk, parts and documents in an order of
        their own in every round. Nothing but `nth` and `seed` decides it."""
        rounds, nth = divmod(nth, len(self))
        rng = random.Random(f"{seed} {rounds}")
        parts = list(range(len(self.sizes)))
        rng.shuffle(parts)
        for part in parts:
            size = self.sizes[part]
            start, step = rng.randrange(size), _coprime(size, rng)
            if nth < size:
                return sum(self.sizes[:part]) + (start + step * nth) % size
            nth -= size
        raise AssertionError("a walk ends within its round")


def _coprime(size: int, rng: random.Random) -> int:
    while True:
        step = rng.randrange(1, size) if size > 2 else 1
        if math.gcd(step, size) == 1:
            return step


def open_documents(spec: str) -> Documents:
    """The documents of PATH or hf:org/name[:config]/split, then #column if wanted. Raises
    PromptFileError."""
    path, named = parts_of(spec)
    suffix = Path(path).suffix.lower()
    if path.startswith("hf:"):
        rows = hub_rows(path)
        sizes, row = (len(rows),), lambda at: numbered_row(at, rows[at])
    elif suffix == ".jsonl" and Path(path).is_file():
        sizes, row = _lines(path)
    elif suffix == ".parquet" and Path(path).is_file():
        sizes, row = _groups(path)
    else:
        table = read_table(path)
        sizes, row = (len(table.rows),), lambda at: table.rows[at]
    if not sum(sizes):
        raise PromptFileError(f"Corpus {path} has no rows. Give at least one document.")
    column = column_of(path, _columns(row, min(sum(sizes), LOOKED_AT)), named, "corpus")
    return Documents(path, column, sizes, row, named in (None, "messages"), _mark(path))


def _columns(row: Callable[[int], Row], rows: int) -> tuple[str, ...]:
    """Those that any of the first rows fills. Raises PromptFileError where none can be read."""
    found: dict[str, None] = {}
    problem: PromptFileError | None = None
    for at in range(rows):
        try:
            found |= dict.fromkeys(row(at).cells)
        except PromptFileError as error:
            problem = problem or error
    if problem and not found:
        raise problem
    return tuple(found)


def _mark(path: str) -> str:
    digest = hashlib.sha256(path.encode())
    if not path.startswith("hf:"):
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            for start in (0, max(0, size - 65536)):
                file.seek(start)
                digest.update(file.read(65536))
        digest = hashlib.sha256(f"{Path(path).name} {size} {digest.hexdigest()}".encode())
    return digest.hexdigest()


def _lines(path: str) -> tuple[tuple[int, ...], Callable[[int], Row]]:
    starts, at = array("Q"), 0
    with Path(path).open("rb") as file:
        for line in file:
            if line.strip():
                starts.append(at)
            at += len(line)

    def row(number: int) -> Row:
        with Path(path).open("rb") as file:
            file.seek(starts[number])
            line = file.readline()
        where = f"{path}, document {number + 1}"
        try:
            text = line.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise PromptFileError(f"{where}: not UTF-8 ({error}). Save the file as UTF-8.") \
                from error
        return numbered_row(number, json_object(where, text))

    return (len(starts),), row


def _groups(path: str) -> tuple[tuple[int, ...], Callable[[int], Row]]:
    with open_parquet(path) as file:
        every = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    filled = [n for n, size in enumerate(every) if size]
    sizes = tuple(every[n] for n in filled)
    ends = list(accumulate(sizes))

    @lru_cache(maxsize=1)
    def group(at: int) -> Any:
        with open_parquet(path) as again:
            return again.read_row_group(filled[at])

    def row(number: int) -> Row:
        at = bisect_right(ends, number)
        inside = number - (ends[at] - sizes[at])
        cells: Mapping[str, Any] = group(at).slice(inside, 1).to_pylist()[0]
        return numbered_row(number, cells)

    return sizes, row


def open_corpus(specs: Sequence[str]) -> list[Documents]:
    """All of them, in order."""
    return [open_documents(spec) for spec in specs]
