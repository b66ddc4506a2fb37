"""People's labels of replies, from files: which verdict, of which model, condition and language.

    prompt or prompt_sha256    reply, completion or reply_sha256    label, verdict or final_label
    optional: model, condition, language, kind, suite, id
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sternpost.errors import PromptFileError
from sternpost.files import sha256_text
from sternpost.judges.calibrate import LabelledReply
from sternpost.prompts.tables import Row, read_table
from sternpost.types import Verdict

PROMPTS = ("prompt", "objective", "question", "goal")
REPLIES = ("reply", "completion", "response", "assistant_response")
LABELS = ("label", "final_label", "verdict", "human_score", "human_label")
MEANS: dict[str, Verdict] = {
    **dict.fromkeys(("refusal", "refused", "full refusal", "full_refusal", "2_full_refusal", "r",
                     "1", "1.0", "true", "yes"), "refusal"),
    **dict.fromkeys(("partial", "partial refusal", "partial_refusal", "3_partial_refusal", "p"),
                    "partial"),
    **dict.fromkeys(("compliance", "complied", "full compliance", "full_compliance",
                     "1_full_compliance", "answer", "c", "0", "0.0", "false", "no"), "compliance"),
    **dict.fromkeys(("incoherent", "broken", "i"), "incoherent")}
"""What people write, in small letters. Numbers and yes or no say whether the reply refuses."""


def verdict_of(label: Any) -> Verdict | None:
    """The verdict that a person's label stands for; None for one that is not known."""
    return MEANS.get(str(label).strip().lower())


def read_labels(path: str | Path) -> list[LabelledReply]:
    """The labelled replies of a CSV, JSONL or Parquet file. Raises PromptFileError."""
    table = read_table(str(path))
    names = [_column(table.path, table.columns, known) for known in (PROMPTS, REPLIES, LABELS)]
    return [_reply(table.path, row, names) for row in table.rows]


def read_human(path: str | Path) -> dict[tuple[str, str], Verdict]:
    """Verdicts by the sha256 of prompt and of reply. Raises PromptFileError, also where one reply
    has two different labels."""
    table = read_table(str(path))
    column = _column(table.path, table.columns, LABELS)
    found: dict[tuple[str, str], Verdict] = {}
    for row in table.rows:
        place = f"{table.path}, {row.where}"
        key = (_hash(row.cells, "prompt_sha256", PROMPTS, place),
               _hash(row.cells, "reply_sha256", REPLIES, place))
        verdict = _verdict(row.cells.get(column), place, column)
        if found.setdefault(key, verdict) != verdict:
            raise PromptFileError(f"{place}: this reply is called {verdict} here and {found[key]} "
                                  "in an earlier row. Keep one of them.")
    return found


def key_of(prompt: str, reply: str) -> tuple[str, str]:
    """What labels are found by: the sha256 of each, white space at their ends left out."""
    return sha256_text(prompt.strip()), sha256_text(reply.strip())


def _hash(cells: Mapping[str, Any], hashed: str, names: tuple[str, ...], place: str) -> str:
    if hashed in cells:
        return str(cells[hashed]).strip().lower()
    for name in names:
        if name in cells:
            return sha256_text(str(cells[name]).strip())
    raise PromptFileError(f"{place}: neither {hashed} nor one of {', '.join(names)} is filled in.")


def _column(path: str, columns: tuple[str, ...], known: tuple[str, ...]) -> str:
    found = next((name for name in known if name in columns), None)
    if found is None:
        raise PromptFileError(f"{path} has no column {' or '.join(known)}; its columns are "
                              f"{', '.join(columns)}. Labels have a prompt, a reply and a label.")
    return found


def _reply(path: str, row: Row, names: list[str]) -> LabelledReply:
    prompt, reply, label = names
    place, cells = f"{path}, {row.where}", row.cells
    verdict = _verdict(cells.get(label), place, label)

    def text(name: str) -> str:
        return str(cells.get(name, "")).strip()

    return LabelledReply(text(prompt), str(cells.get(reply, "")),
                         verdict in ("refusal", "partial"), model=text("model"),
                         condition=text("condition"), language=text("language") or None)


def _verdict(label: Any, place: str, column: str) -> Verdict:
    verdict = verdict_of("" if label is None else label)
    if verdict is None:
        raise PromptFileError(f"{place}: {column} is {label!r}. It is refusal, partial, compliance "
                              "or incoherent; or, for whether the reply refuses, 1 or 0.")
    return verdict
