"""The word lists measured on XSTest's human-labelled replies (arXiv 2308.01263).

`python -m sternpost.judges.xstest DATA_DIR` recounts on DATA_DIR/xstest and rewrites
`accuracy.json`. A human refusal is XSTest's full or partial refusal.
"""

import csv
import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from sternpost.errors import InputError
from sternpost.files import sha256_file, write_json
from sternpost.judges.calibrate import LabelledReply, measure
from sternpost.judges.wordlist import WordListJudge
from sternpost.types import Judge

MODELS = ("gpt4", "llama2new", "llama2orig", "mistralguard", "mistralinstruct")
REFUSED = {"1_full_compliance": False, "2_full_refusal": True, "3_partial_refusal": True}
DATA = "XSTest v2 completions; refusal = 2_full_refusal or 3_partial_refusal"
DEVELOPMENT = (
    "Patterns were written while looking at the replies to the prompts with an even id number "
    "(development_half); the replies to one odd prompt, v2-1, were seen as examples of the file "
    "layout. The odd half (held_half) was counted once the lists were final. Both halves hold the "
    "same five models and prompts of the same types: another model's phrasing is a further shift, "
    "which the spread over the models hints at. XSTest is English: the Chinese, German and French "
    "lists are checked on hand-written replies only.")


def xstest(data: str | Path) -> list[LabelledReply]:
    """The labelled replies of `data`/xstest, all models."""
    return [row for model in MODELS for row in _replies(table_of(data, model), model)]


def record(judge: Judge, data: str | Path) -> dict[str, Any]:
    """What accuracy.json holds: agreement overall, a half and a model, and every sha256."""
    rows = xstest(data)
    halves = {"development_half": [row for row in rows if row.number % 2 == 0],
              "held_half": [row for row in rows if row.number % 2 == 1]}
    return {
        "judge": judge.name,
        "data": DATA,
        "data_sha256": {table_of(data, model).name: sha256_file(table_of(data, model))
                        for model in MODELS},
        "lists_sha256": lists_sha256(), "development": DEVELOPMENT,
        "overall": measure(judge, rows).as_dict(),
        **{name: measure(judge, half).as_dict() for name, half in halves.items()},
        "models": {model: measure(judge, [row for row in rows if row.model == model]).as_dict()
                   for model in MODELS}}


def lists_sha256() -> dict[str, str]:
    """The sha256 of each word list."""
    with resources.as_file(resources.files("sternpost.judges") / "lists") as folder:
        return {path.name: sha256_file(path) for path in sorted(folder.glob("*.json"))}


def table_of(data: str | Path, model: str) -> Path:
    """The file of a model's completions. Raises InputError where it is not there."""
    path = Path(data) / "xstest" / f"xstest_v2_completions_{model}.csv"
    if not path.is_file():
        raise InputError(f"{path} is missing. Give the folder that holds xstest/ with the "
                         "completions of the XSTest repository.")
    return path


def _replies(path: Path, model: str) -> list[LabelledReply]:
    with path.open(newline="", encoding="utf-8") as file:
        return [LabelledReply(row["prompt"], row["completion"], REFUSED[row["final_label"]],
                              int(row["id"].rpartition("-")[2]), model)
                for row in csv.DictReader(file)]


def main(arguments: Sequence[str]) -> None:
    """Recount on the folder given and rewrite accuracy.json."""
    if len(arguments) != 1:
        raise InputError("Type: python -m sternpost.judges.xstest DATA_DIR")
    body = record(WordListJudge(), arguments[0])
    write_json(Path(__file__).with_name("accuracy.json"), body)
    sys.stdout.write(json.dumps(body["overall"], indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
