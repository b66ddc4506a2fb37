"""Local benchmark files, read for lm-evaluation-harness: MMLU, TruthfulQA, GSM8K.

Their places and columns stand in `tasks/known.toml`.
"""

import csv
import json
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sternpost.errors import PromptFileError
from sternpost.files import read_jsonl

Rows = list[dict[str, Any]]


@cache
def known() -> dict[str, Any]:
    """`tasks/known.toml`."""
    path = Path(__file__).parent / "tasks" / "known.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def dataset(reader: str, subject: str, paths: Mapping[str, str], **metadata: Any) -> Any:
    """What lm-eval reads a local benchmark from: its splits. A file that is not there is an empty
    split."""
    from datasets import Dataset, DatasetDict

    read = READERS[reader]
    return DatasetDict({split: Dataset.from_list(read(Path(path), subject)
                                                 if Path(path).is_file() else [])
                        for split, path in paths.items()})


def _mmlu(path: Path, subject: str) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    for at, line in enumerate(lines, start=1):
        if len(line) != 6 or line[5].strip() not in "ABCD" or not line[5].strip():
            raise _bad(path, f"row {at}", "mmlu")
    return [{"question": q, "subject": subject, "choices": choices,
             "answer": "ABCD".index(right.strip())} for q, *choices, right in lines]


def _truthfulqa(path: Path, subject: str) -> Rows:
    rows = []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _bad(path, str(error), "truthfulqa_mc1") from error
    for at, row in enumerate(found if isinstance(found, list) else [], start=1):
        if not isinstance(row, dict) or not {"question", "mc1_targets", "mc2_targets"} <= set(row):
            raise _bad(path, f"item {at}", "truthfulqa_mc1")
        rows.append({"question": row["question"],
                     **{key: _true_first(row[key]) for key in ("mc1_targets", "mc2_targets")}})
    return _some(rows, path, "truthfulqa_mc1")


def _true_first(targets: Mapping[str, int]) -> dict[str, Any]:
    """lm-eval takes the first answer of MC1 for the right one."""
    pairs = sorted(targets.items(), key=lambda pair: -pair[1])
    return {"choices": [text for text, _ in pairs], "labels": [label for _, label in pairs]}


def _gsm8k(path: Path, subject: str) -> Rows:
    rows = read_jsonl(path)
    for at, row in enumerate(rows, start=1):
        if not all(isinstance(row.get(key), str) for key in ("question", "answer")):
            raise _bad(path, f"line {at}", "gsm8k")
    return _some([{key: row[key] for key in ("question", "answer")} for row in rows], path, "gsm8k")


READERS: dict[str, Callable[[Path, str], Rows]] = {
    "mmlu": _mmlu, "truthfulqa": _truthfulqa, "gsm8k": _gsm8k}


def _some(rows: Rows, path: Path, name: str) -> Rows:
    if not rows:
        raise _bad(path, "no row", name)
    return rows


def _bad(path: Path, what: str, name: str) -> PromptFileError:
    return PromptFileError(f"{path} cannot be read as {name}: {what}. Its columns are: "
                           f"{known()['local'][name]['columns']}.")
