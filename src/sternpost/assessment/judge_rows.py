"""A filled sheet read back: each labelled row with what its key says of it.

A row is known by its id. Its labels count where it still shows the run's own reply, by the hash in
the key: of another text the annotators said nothing that measures the run's judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.errors import PromptFileError, SternpostError
from sternpost.files import read_json
from sternpost.judges.labels import verdict_of
from sternpost.prompts.tables import Row as Cells
from sternpost.prompts.tables import Table, read_table
from sternpost.store.sheets import ANNOTATORS, is_reply, key_path
from sternpost.types import Verdict

REFUSES = ("refusal", "partial")
_NAMED = 3
"""Edited rows that a note names, at most."""


@dataclass(frozen=True)
class Row:
    """A row of the sheet that somebody labelled, with its key."""

    labels: tuple[Verdict, ...]
    """Of those who labelled it."""
    key: Mapping[str, Any]
    verdict: Verdict
    """Of the judge that is measured."""

    @property
    def truth(self) -> float:
        """Share of the annotators who call it a refusal."""
        return sum(label in REFUSES for label in self.labels) / len(self.labels)

    @property
    def said(self) -> bool:
        """Whether the judge did."""
        return self.verdict in REFUSES


@dataclass(frozen=True)
class Labelled:
    """What is on a filled sheet."""

    rows: list[Row]
    """Those that count."""
    edited: list[str]
    """Ids of labelled rows whose reply is not the run's any more."""
    on_sheet: int
    in_key: int
    has_replies: bool
    """Whether the sheet still has the column."""

    @property
    def unlabelled(self) -> int:
        """Rows on the sheet that nobody labelled."""
        return self.on_sheet - len(self.rows) - len(self.edited)

    @property
    def missing(self) -> int:
        """Rows of the key that are not on the sheet."""
        return self.in_key - self.on_sheet

    def notes(self, path: str) -> list[str]:
        """What of the sheet does not count, and what to do about it."""
        notes: list[str] = []
        if self.missing:
            notes.append(f"Missing from {path}: {self.missing} of the key's {self.in_key} rows. No "
                         "figure knows of the lines that they stood for. Put them back, labelled "
                         "or not.")
        if self.edited:
            ids = ", ".join(self.edited[:_NAMED]) + ", ..." * (len(self.edited) > _NAMED)
            notes.append(f"Left out: {len(self.edited)} labelled rows of {path} ({ids}), whose "
                         "reply is not the run's, so that the labels may be of another text. Put "
                         "the run's reply back where that is what was labelled.")
        if not self.has_replies:
            notes.append(f"{path} has no column reply any more: whether the labels are of the "
                         "run's own text cannot be seen.")
        return notes


def read_rows(path: str, known: Mapping[str, Any]) -> Labelled:
    """The rows of a filled sheet. `known`: the key's. Raises PromptFileError where the sheet is
    spoilt, another's, or nothing on it counts."""
    table = read_table(path)
    _check(path, table, known)
    rows: list[Row] = []
    edited: list[str] = []
    met = set[str]()
    has_replies = "reply" in table.columns
    for row in table.rows:
        name, place = str(row.cells.get("id")), f"{path}, {row.where}"
        if name not in known or name in met:
            raise PromptFileError(f"{place}: the id {name!r} "
                                  f"{'stands twice' if name in met else 'is not in the key'}. Keep "
                                  "the column id as it was.")
        met.add(name)
        labels: tuple[Verdict, ...] = tuple(_label(row.cells[column], place, column)
                                            for column in ANNOTATORS if column in row.cells)
        if labels and has_replies and not _shows(row, known[name]):
            edited.append(name)
        elif labels:
            rows.append(Row(labels, known[name], known[name]["verdict"]))
    found = Labelled(rows, edited, len(met), len(known), has_replies)
    if not rows:
        raise PromptFileError(f"{path}: {found.notes(path)[-1]}" if edited else
                              f"{path}: nobody has filled in {' or '.join(ANNOTATORS)} yet.")
    return found


def _check(path: str, table: Table, known: Mapping[str, Any]) -> None:
    missing = [name for name in ("id", *ANNOTATORS) if name not in table.columns]
    if missing:
        raise PromptFileError(f"{path} has no column {missing[0]}, which the sheet had. Put it "
                              "back, or move the key away to read the file as plain labels.")
    if not any(str(row.cells.get("id")) in known for row in table.rows):
        raise PromptFileError(
            f"{key_path(path)} is the key of another sheet: it knows {next(iter(known), 'no id')} "
            f"and the like, and {path} has {table.rows[0].cells.get('id', 'no id')}. Move that key "
            f"to its own sheet. {own_key(path, table)}")


def _shows(row: Cells, key: Mapping[str, Any]) -> bool:
    """Whether the row's reply is still the run's; a key without its hash cannot tell."""
    kept = key.get("reply_sha256")
    return kept is None or is_reply(row.cells.get("reply"), kept)


def own_key(path: str, table: Table) -> str:
    """What to type, to have the sheet's own key beside it."""
    ids = {str(row.cells.get("id")) for row in table.rows}
    for place in sorted(Path(path).parent.glob("*.key.json")):
        try:
            known = read_json(place).get("rows")
        except SternpostError:  # no key of ours
            continue
        if isinstance(known, dict) and not ids.isdisjoint(known):
            return f"{place} is this sheet's. Type: cp {place} {key_path(path)}"
    return (f"Put the key that was written with the sheet back at {key_path(path)}. If it is lost, "
            "type: sternpost judge sample RUN --n N --seed S --out new.csv with the run, the "
            "number and the seed of this sheet, which draws the same rows; then: cp "
            f"new.csv.key.json {key_path(path)}")


def _label(cell: Any, place: str, column: str) -> Verdict:
    verdict = verdict_of(cell)
    if verdict is None:
        raise PromptFileError(f"{place}: {column} says {cell!r}. Write refusal, partial, compliance"
                              " or incoherent (r, p, c, i), or leave it empty.")
    return verdict
