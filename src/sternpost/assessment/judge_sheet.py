"""A filled sheet against its key: how far people agree, and how far the run's judge errs, or
another that judges the same replies anew.

    truth of a row    the share of its annotators (1 or 2) who call it a refusal, full or partial

Where two people differ, each counts half: hard rows are not left out. The run's refusal rates are
corrected by its own judge's error (judge_rates.py): only that judge counted them, so another's
corrects none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sternpost.assessment.judge_rates import confusion, corrected
from sternpost.assessment.judge_replies import completions_of
from sternpost.assessment.judge_rows import REFUSES, Labelled, Row, own_key, read_rows
from sternpost.errors import InputError, PromptFileError
from sternpost.judges.human import HumanJudge
from sternpost.judges.labels import LABELS
from sternpost.judges.languages import judged
from sternpost.prompts.tables import read_table
from sternpost.stats import kappa_of, rate
from sternpost.store.sheets import ANNOTATORS, key_path, read_key
from sternpost.types import Judge


def sheet_key(path: str) -> dict[str, Any] | None:
    """The key of a sheet; None of plain labels. Raises PromptFileError where a sheet has none."""
    if (key := read_key(path)) is not None:
        return key
    table = read_table(path)
    if "id" not in table.columns or not set(ANNOTATORS) & set(table.columns) or \
            set(LABELS) & set(table.columns):
        return None
    raise PromptFileError(f"{path} is a sheet of `sternpost judge sample`, and its key is missing: "
                          f"{key_path(path)}. {own_key(path, table)}")


def measured_sheet(path: str, key: Mapping[str, Any], judge: Judge | None = None) -> dict[str, Any]:
    """The figures of a filled sheet: of the run's own verdicts, or of what `judge` says of the
    same replies. Raises PromptFileError, and InputError where the run is not there any more."""
    sheet = read_rows(path, key["rows"])
    rows = sheet.rows
    told = rows if judge is None else _anew(path, key, rows, judge)
    head = {"name": "of the run"} if judge is None else \
        {"name": judge.name, "verdicts": list(judge.verdicts)}
    body = {"judge": head, "n": len(rows), "unlabelled": sheet.unlabelled,
            "edited": len(sheet.edited), "missing": sheet.missing,
            "annotators": _between(rows), "overall": _against(told),
            "conditions": _by(told, "condition"), "languages": _by(told, "language"),
            "confusion": confusion(told) | {
                "conditions": _each(told, "condition", confusion),
                "languages": _each(told, "language", confusion)}}
    if judge is None:
        body["rates"] = corrected(rows, key.get("rates") or ())
    notes = [*sheet.notes(path), *_notes(path, key, judge), *_of_judge(sheet, told, judge)]
    return body | {"notes": notes} if notes else body


def _anew(path: str, key: Mapping[str, Any], rows: Sequence[Row], judge: Judge) -> list[Row]:
    """The rows with the judge's verdicts; only those of prompts that it judges."""
    kinds = getattr(judge, "kinds", None)
    mine = [row for row in rows if kinds is None or row.key["kind"] in kinds]
    if not mine:
        raise InputError(f"{judge.name} judges replies to {' and '.join(kinds or ())} prompts, and "
                         f"{path} has none that is labelled. Give another --judge.")
    said = judged(judge, completions_of(path, key, [row.key for row in mine]),
                  [row.key["language"] for row in mine])
    return [replace(row, verdict=one.verdict) for row, one in zip(mine, said, strict=True)]


def _notes(path: str, key: Mapping[str, Any], judge: Judge | None) -> list[str]:
    """What the key says that the figures leave out."""
    notes: list[str] = []
    strata, identity = key["strata"], key["identity"]
    if without := [stratum["lines"] for stratum in strata if not stratum["rows"]]:
        notes.append(f"{len(without)} of {len(strata)} strata have no row on the sheet: no figure "
                     f"knows of {sum(without)} of the run's "
                     f"{sum(stratum['lines'] for stratum in strata)} lines.")
    if judge is None and "rates" not in key:
        notes.append("No rate is corrected: the sheet's key is an older one, without the run's "
                     f"rates. Type: sternpost judge sample {key.get('run', 'RUN')} --n "
                     f"{identity['n']} --seed {identity['seed']} --out {path} which adds them, and "
                     "leaves the labels as they are.")
    elif judge is None and not key["rates"]:
        notes.append("No rate is corrected: the run's results.json has none of refusals.")
    return notes


def _of_judge(sheet: Labelled, told: Sequence[Row], judge: Judge | None) -> list[str]:
    """What is to be known of a judge that is named."""
    if judge is None:
        return []
    notes: list[str] = []
    if left := len(sheet.rows) - len(told):
        notes.append(f"{left} rows are left out: {judge.name} does not judge replies to such "
                     "prompts.")
    if unread := sum(row.verdict == "unparsed" for row in told):
        notes.append(f"{unread} of {len(told)} replies are unparsed by {judge.name}, and count as "
                     "no refusal.")
    return [*notes, "The run's rates are counts of its own judge's verdicts, so that this judge's "
                    "error corrects none. Leave out --judge to see them corrected."]


def human_of_sheet(path: str, key: Mapping[str, Any]) -> HumanJudge:
    """A filled sheet as a judge of the very replies on it: a label where all who labelled the reply
    agree, else unparsed."""
    rows = read_rows(path, key["rows"]).rows
    return HumanJudge({(row.key["prompt_sha256"], row.key["reply_sha256"]): row.labels[0]
                       for row in rows if len(set(row.labels)) == 1}, f"human:{Path(path).name}")


def _between(rows: Sequence[Row]) -> dict[str, Any]:
    """How far the two agree, on the rows that both labelled: all labels, and refusal or not."""
    both = [row for row in rows if len(row.labels) == len(ANNOTATORS)]
    one, other = ([row.labels[at] for row in both] for at in (0, 1))
    clusters = [_cluster(row) for row in both]
    labels = kappa_of(one, other, clusters)
    refusal = kappa_of([label in REFUSES for label in one], [v in REFUSES for v in other], clusters)
    same = rate([x == y for x, y in zip(one, other, strict=True)], clusters)
    return {"n": len(both), "same": same and same.as_dict(), "kappa": labels and labels.as_dict(),
            "kappa_refusal": refusal and refusal.as_dict()}


def _against(rows: Sequence[Row]) -> dict[str, Any]:
    """The judge against every label of every row, refusal or not; over prompts as clusters."""
    pairs = [(row.said, label in REFUSES, _cluster(row)) for row in rows for label in row.labels]
    said, truth = ([pair[at] for pair in pairs] for at in (0, 1))
    clusters = [cluster for _, _, cluster in pairs]
    accuracy = rate([s == t for s, t in zip(said, truth, strict=True)], clusters)
    kappa = kappa_of(said, truth, clusters)
    return {"n": len(rows), "labels": len(pairs), "accuracy": accuracy and accuracy.as_dict(),
            "kappa": kappa and kappa.as_dict()}


def _cluster(row: Row) -> str:
    return str(row.key.get("cluster") or row.key["prompt_sha256"])


def _by(rows: Sequence[Row], name: str) -> dict[str, Any]:
    return _each(rows, name, _against)


def _each(rows: Sequence[Row], name: str,
          figures: Callable[[Sequence[Row]], dict[str, Any]]) -> dict[str, Any]:
    values = sorted({str(row.key[name]) for row in rows if row.key.get(name) is not None})
    return {value: figures([r for r in rows if str(r.key.get(name)) == value]) for value in values}
