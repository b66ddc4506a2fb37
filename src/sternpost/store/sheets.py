"""Sheets for people: which replies to label, blind; and the key to them, in a file of its own.

    SHEET.csv         id, prompt, reply, annotator_1, annotator_2: all that an annotator sees
    SHEET.csv.key.json   per id: condition, value, kind, language, suite, the judge's verdict, and
                      the weight: how many of the run's lines the row stands for;
                      and the place of the run, and its refusal rates (assessment/judge_rates.py)

Condition, verdict and all else stay in the key; rows come in a random order. A stratum is a
condition x kind x verdict x language; each gets a row before any gets a second, so that rare ones
are seen. That draws strata at different rates: a share over lines needs the weights.
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from sternpost.errors import InputError, OutputError
from sternpost.files import canonical_json, read_json, sha256_text, write_json, write_text
from sternpost.store.samples import Sample

COLUMNS = ("id", "prompt", "reply", "annotator_1", "annotator_2")
ANNOTATORS = COLUMNS[3:]
STRATUM = ("condition", "kind", "verdict", "language")
"""A condition has its value in its name, where it has one: "clamp 12"."""
KEPT = ("condition", "value", "kind", "language", "suite", "category", "verdict",
        "prompt_sha256", "cluster")
"""Columns of a line that the key keeps."""
_FORMULA = ("=", "+", "-", "@", "\t")
_MISSING = ("nan", "NaN")
"""Cells of a CSV file that tables read as empty."""


def drawn(lines: Sequence[Sample], n: int, seed: int) -> list[tuple[Sample, float]]:
    """At most `n` lines, mixed, each with its weight: its stratum's lines over those drawn of it.

    Strata take turns, so each has one before any has two; within one, and among strata in the last
    round, `seed` decides.
    """
    if n < 1:
        raise InputError(f"A sheet has at least 1 row; got {n}.")
    strata: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for line in lines:
        strata[_stratum(line)].append(line)
    rng = Random(seed)
    ordered = [sorted(strata[key], key=_order(seed)) for key in sorted(strata)]
    rng.shuffle(ordered)
    taken = [0] * len(ordered)
    for at in _turns([len(some) for some in ordered], n):
        taken[at] += 1
    out = [(line, len(some) / k) for some, k in zip(ordered, taken, strict=True)
           for line in some[:k]]
    rng.shuffle(out)
    return out


def _turns(sizes: Sequence[int], n: int) -> list[int]:
    """Which stratum each row is taken of, round by round."""
    rounds = [at for number in range(max(sizes, default=0))
              for at, size in enumerate(sizes) if number < size]
    return rounds[:n]


def _order(seed: int) -> Any:
    return lambda line: sha256_text(canonical_json([seed, line["prompt"], line["reply"],
                                                    str(line.get("condition")),
                                                    str(line.get("value"))]))


def key_path(sheet: str | Path) -> Path:
    """Where a sheet's key lies."""
    return Path(f"{sheet}.key.json")


def _stratum(line: Mapping[str, Any]) -> tuple[str, ...]:
    return named(line), *(str(line.get(name)) for name in STRATUM[1:])


def named(line: Mapping[str, Any]) -> str:
    """A line's condition, with its value."""
    value = line.get("value")
    return str(line["condition"]) if value is None else f"{line['condition']} {value:g}"


def write_sheet(path: Path, lines: Sequence[Sample], rows: Sequence[tuple[Sample, float]],
                identity: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the sheet of `rows`, drawn from `lines`, and its key; gives the key. `identity`:
    which run and which draw."""
    name = sha256_text(canonical_json(dict(identity)))[:6]
    text, key = io.StringIO(), dict[str, Any]()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for number, (line, weight) in enumerate(rows, start=1):
        row = f"{name}-{number:04d}"
        writer.writerow([row, _cell(line["prompt"]), _cell(line["reply"]), "", ""])
        key[row] = {**{column: line.get(column) for column in KEPT}, "condition": named(line),
                    "weight": weight, "reply_sha256": sha256_text(line["reply"].strip())}
    strata = _counted(lines, [line for line, _ in rows])
    body = {"kind": "sheet key", "identity": dict(identity), "strata": strata, "rows": key}
    write_json(key_path(path), body)  # first: a sheet without its key would be of no use
    write_text(path, text.getvalue())
    return body


def _counted(lines: Sequence[Sample], rows: Sequence[Sample]) -> list[dict[str, Any]]:
    """How many lines and rows each stratum has; also those of which none was drawn."""
    every, mine = (Counter(map(_stratum, some)) for some in (lines, rows))
    return [{**dict(zip(STRATUM, stratum, strict=True)), "rows": mine[stratum], "lines": n}
            for stratum, n in sorted(every.items())]


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe before what begins like one."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def is_reply(cell: Any, sha256: str) -> bool:
    """Whether a sheet's cell still shows the reply of this hash. What a spreadsheet does unasked is
    no change: an apostrophe that it takes away or puts in front, line ends, spaces around; and a
    cell is also read as empty that says nan."""
    if cell is None:
        forms = ["", *_MISSING]
    else:
        text = str(cell)
        lines = text.replace("\r\n", "\n").replace("\r", "\n")
        forms = [one for ends in (text, lines, lines.replace("\n", "\r\n"))
                 for one in (ends, ends.removeprefix("'"), f"'{ends}")]
    return any(sha256_text(one.strip()) == sha256 for one in forms)


def read_key(sheet: str | Path) -> dict[str, Any] | None:
    """A sheet's key; None where none lies beside it."""
    place = key_path(sheet)
    if not place.is_file():
        return None
    body = read_json(place)
    if body.get("kind") != "sheet key" or not isinstance(body.get("rows"), dict):
        raise OutputError(f"{place} is no key of a sheet. Put the one that `sternpost judge sample`"
                          " wrote back, or move it away to read the sheet as plain labels.")
    return body
