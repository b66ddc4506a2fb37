"""Prompt files in: CSV, JSONL, Parquet, or a data set of the Hub."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sternpost.errors import InputError, LeakageError, PromptFileError
from sternpost.prompts.rows import KINDS, PROMPT_COLUMNS, labelled
from sternpost.prompts.tables import read_table
from sternpost.types import Kind, LabelledPrompt


@dataclass(frozen=True, slots=True)
class PromptFile:
    """What a prompt file holds, in its order."""

    prompts: tuple[LabelledPrompt, ...]
    column: str
    """The column the prompts were read from."""
    path: str
    sha256: str
    duplicates: int = 0
    """Rows left out because an earlier one has the same text."""
    warnings: tuple[str, ...] = ()


def read_prompts(spec: str | Path, kind: Kind) -> PromptFile:
    """The prompts of `spec`: PATH or hf:org/name[:config]/split, then #column if wanted.

    Without a column the first that is there of prompt, goal, Goal, Behavior, question,
    instruction; in a corpus `text`, plain text, goes before them. Raises PromptFileError.
    """
    if kind not in KINDS:
        raise InputError(f"A prompt is of kind {', '.join(KINDS)}; got {kind!r}.")
    path, named = parts_of(str(spec))
    table = read_table(path)
    column = column_of(path, table.columns, named, kind)
    with_messages = named in (None, "messages")
    rows = [labelled(path, row, column, kind, with_messages) for row in table.rows]
    warnings: list[str] = []
    if not with_messages and "messages" in table.columns:
        warnings.append(f"{path}: the column messages is not read, because #{named} was asked for.")
    rows = _all_or_no_split(path, rows, warnings)
    prompts = _once_each(path, rows)
    if dropped := len(rows) - len(prompts):
        warnings.append(f"{path}: {dropped} of {len(rows)} rows repeat an earlier prompt word for "
                        "word and were left out.")
    return PromptFile(prompts, column, path, table.sha256, dropped, tuple(warnings))


def parts_of(spec: str) -> tuple[str, str | None]:
    """The path and the column that `PATH#COLUMN` names."""
    path, mark, column = spec.rpartition("#")
    if not mark or (not spec.startswith("hf:") and Path(spec).is_file()):
        return spec, None
    if not column.strip():
        raise PromptFileError(f"{spec!r} ends in '#'. Name a column after it, e.g. {path}#prompt, "
                              f"or type {path}")
    return path, column.strip()


def column_of(path: str, columns: Sequence[str], named: str | None, kind: Kind) -> str:
    """The column to read: the one named, else the first known one. Raises PromptFileError."""
    got = f"its columns are {', '.join(columns)}"
    if named is not None:
        if named not in columns:
            raise PromptFileError(f"{path} has no column {named!r}; {got}. Type "
                                  f"{path}#COLUMN with one of them.")
        return named
    tried = (*(["text"] if kind == "corpus" else []), *PROMPT_COLUMNS, "messages")
    if found := next((name for name in tried if name in columns), None):
        return found
    raise PromptFileError(f"{path} has no prompt column; {got}; tried: {', '.join(tried)}. "
                          f"Type {path}#COLUMN with the one that holds the prompts.")


def _all_or_no_split(path: str, rows: list[LabelledPrompt],
                     warnings: list[str]) -> list[LabelledPrompt]:
    without = sum(row.split is None for row in rows)
    if without in (0, len(rows)):
        return rows
    warnings.append(f"{path}: split is obeyed only when every row has it; {without} of "
                    f"{len(rows)} rows have none, so it is not obeyed.")
    return [replace(row, split=None) for row in rows]


def _once_each(path: str, rows: Sequence[LabelledPrompt]) -> tuple[LabelledPrompt, ...]:
    first: dict[str, LabelledPrompt] = {}
    for row in rows:
        kept = first.setdefault(row.request.sha256, row)
        if kept.split != row.split:
            raise LeakageError(f"{path} puts one prompt into the splits {kept.split} and "
                               f"{row.split}: {row.request.text[:80]!r}. Keep one of the rows.")
        for name in ("harm_kind", "answer", "cluster"):
            one, other = getattr(kept, name), getattr(row, name)
            if one != other:
                raise PromptFileError(f"{path} gives one prompt the {name} {one!r} and {other!r}: "
                                      f"{row.request.text[:80]!r}. Keep one of the rows.")
    return tuple(first.values())
