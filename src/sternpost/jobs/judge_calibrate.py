"""`judge calibrate`: how far a judge agrees with people.

    labels of any replies      accuracy and kappa, overall, a model and a condition apart; a judge
                               that learned from some of them: only leave-one-model-out
    a sheet of `judge sample`  how far the people agree; the run's judge against them, a condition
                               and a language apart; sensitivity and specificity, and the rates of
                               the run's lines corrected by them (assessment/judge_sheet.py)
    a sheet, and a judge       the same of that judge, which judges the sheet's replies anew; no
                               rate is corrected
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sternpost.assessment.judge_settings import CalibrateJudgeSettings
from sternpost.assessment.judge_sheet import measured_sheet, sheet_key
from sternpost.assessment.judges import judge_named, name_of
from sternpost.errors import InputError, LeakageError, OutputError
from sternpost.files import canonical_json, read_json, sha256_file, sha256_text, write_json
from sternpost.judges.calibrate import Agreement, LabelledReply, agreement, verdicts_on
from sternpost.judges.labels import read_labels
from sternpost.judges.learned import row_key, seen
from sternpost.trials.settings import settings_from, takes
from sternpost.types import Judge, Verdict

OF_LABELS = "words"
"""The judge that is measured against plain labels where none is named."""
OF_SHEETS = "of the run"
"""What is measured against a sheet where no judge is named."""


@dataclass(frozen=True)
class Calibration:
    """What was found."""

    found: dict[str, Any] = field(repr=False)
    path: Path | None = None
    """Where it was written."""

    def to_pandas(self) -> Any:
        """A row a part of the labels: overall, and each model, condition and language."""
        import pandas as pd  # heavy: only for who asks

        return pd.json_normalize(parts_of(self.found))

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


def parts_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each part that was measured, its name under `part`."""
    body = found.get("leave_one_model_out") or found
    whole = [{"part": "overall", **body["overall"]}] if body.get("overall") else []
    held = [{"part": "not looked at", **found["unseen"]}] if found.get("unseen") else []
    return [*whole, *held, *({"part": f"{kind}: {name}", **one}
                             for kind in ("models", "conditions", "languages")
                             for name, one in (body.get(kind) or {}).items())]


@takes(CalibrateJudgeSettings)
def judge_calibrate(**settings: Any) -> Calibration:
    """Measures a judge against people's labels; writes the figures to `out`, if given.

    Raises a SternpostError for bad input, LeakageError where the judge learned from these replies
    and no other model's are there to learn from in their place. `judge` may be an object.
    """
    judge = settings.get("judge")
    named = {} if judge is None else {"judge": name_of(judge)}
    asked = settings_from(CalibrateJudgeSettings, {**settings, **named}, "judge calibrate")
    key = sheet_key(asked.labels) if Path(asked.labels).is_file() else None
    unnamed = OF_LABELS if key is None else OF_SHEETS
    identity = {"verb": "judge calibrate", "labels": _fingerprint(asked),
                "judge": unnamed if asked.judge is None else asked.judge}
    if key is not None and asked.judge is None:
        identity["rates"] = sha256_text(canonical_json(key.get("rates")))
    path = Path(asked.out) if asked.out else None
    if path is not None and path.exists() and not asked.force:
        body = _ours(path, identity)
        if not asked.resume:
            return Calibration(body, path)
    found = {"kind": "judge calibration", "identity": identity, **_measured(asked, key, judge)}
    if path is not None:
        write_json(path, found)
    return Calibration(found, path)


def _measured(asked: CalibrateJudgeSettings, key: dict[str, Any] | None,
              given: Any) -> dict[str, Any]:
    if key is not None and asked.judge is None:
        return measured_sheet(asked.labels, key)
    name = OF_LABELS if asked.judge is None else asked.judge
    kind, _, file = name.partition(":")
    if key is not None and kind == "human" and Path(file).resolve() == Path(asked.labels).resolve():
        raise LeakageError(f"{name} is the labels themselves, which would agree with themselves. "
                           "Leave out --judge, or name one that does not read them.")
    judge = judge_named(name if given is None else given, device=asked.device,
                        workers=asked.workers)
    if key is not None:
        return measured_sheet(asked.labels, key, judge)
    rows = _rows(asked.labels)
    mine = seen().get(judge.name, frozenset())
    known = [row_key(row.prompt, row.reply) in mine for row in rows]
    head = {"judge": {"name": judge.name, "verdicts": list(judge.verdicts)}, "n": len(rows),
            "looked_at": sum(known)}
    if judge.name == "learned" and any(known):
        return {**head, "leave_one_model_out": _left_out(rows), "notes": [
            f"{sum(known)} of these {len(rows)} replies are among those that the judge learned "
            "from. Each was judged by a fit on other models' replies to other prompts instead."]}
    return {**head, **_parts(judge, rows, known)}


def _left_out(rows: Sequence[LabelledReply]) -> dict[str, Any]:
    from sternpost.judges.learn import leave_one_model_out

    if len({row.model for row in rows}) < 2:
        raise LeakageError("The judge learned from some of these replies, and they are of one "
                           "model, so that none is left to learn from in their place. Add a column "
                           "model with two or more, or label replies that it has not seen.")
    return leave_one_model_out(rows)


def _parts(judge: Judge, rows: Sequence[LabelledReply], known: Sequence[bool]) -> dict[str, Any]:
    verdicts = verdicts_on(judge, rows)
    said = list(zip(rows, verdicts, known, strict=True))

    def over(some: Sequence[tuple[LabelledReply, Verdict, bool]]) -> dict[str, Any]:
        return figures(agreement([v for _, v, _ in some], [row for row, _, _ in some]))

    body: dict[str, Any] = {"overall": over(said)}
    for kind, name in (("models", "model"), ("conditions", "condition"), ("languages", "language")):
        values = sorted({getattr(row, name) for row in rows} - {"", None})
        body[kind] = {value: over([one for one in said if getattr(one[0], name) == value])
                      for value in values}
    if any(known):
        fresh = [one for one in said if not one[2]]
        body["unseen"] = over(fresh) if fresh else None
        body["notes"] = [f"The judge was written while looking at {sum(known)} of these "
                         f"{len(rows)} replies; `unseen` is over the others. Their models are the "
                         "same."]
    return body


def figures(found: Agreement) -> dict[str, Any]:
    """Accuracy, kappa with its interval, precision, recall and what was not judged."""
    return found.as_dict() | {"kappa": found.interval and found.interval.as_dict()}


def _rows(labels: str) -> list[LabelledReply]:
    if not Path(labels).is_dir():
        return read_labels(labels)
    return [replace(row, model=file.stem.rpartition("_")[2])
            for file in _files(labels) for row in read_labels(file)]


def _files(labels: str) -> list[Path]:
    """XSTest's completions in a folder, or in its xstest/."""
    for place in (Path(labels), Path(labels) / "xstest"):
        found = sorted(file for file in place.glob("xstest_v2_completions_*.csv")
                       if not file.stem.endswith("eval"))
        if found:
            return found
    raise InputError(f"{labels} is a folder without xstest_v2_completions_MODEL.csv. Give a file of"
                     " labels, with a prompt, a reply and a label in each row.")


def _fingerprint(asked: CalibrateJudgeSettings) -> str:
    place = Path(asked.labels)
    if place.is_dir():
        return sha256_text(" ".join(sha256_file(file) for file in _files(asked.labels)))
    return sha256_file(place) if place.is_file() else asked.labels


def _ours(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    if path.is_dir():
        raise OutputError(f"{path} is a folder; --out names a file. Type --out "
                          f"{path / 'judge.json'}")
    try:
        body = read_json(path)
    except OutputError:  # none that this sternpost wrote
        body = {}
    if body.get("identity") != identity:
        raise OutputError(f"{path} is there and holds something else. Give another --out, or type "
                          "--force to replace it.")
    return body
