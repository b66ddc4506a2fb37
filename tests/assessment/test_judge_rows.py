"""A filled sheet read back: edited replies, missing rows, and what spreadsheets do unasked."""

import json
from pathlib import Path

import pytest

from sheets import a_run, fill, read, rewrite
from sternpost.assessment.judges import judge_named
from sternpost.errors import InputError
from sternpost.files import read_json, sha256_text
from sternpost.jobs.judge_calibrate import judge_calibrate
from sternpost.jobs.judge_sample import judge_sample
from sternpost.store.sheets import is_reply
from sternpost.types import Completion, Request


@pytest.fixture
def sheet(tmp_path) -> Path:
    """A filled sheet of 60 rows."""
    judge_sample(run=str(a_run(tmp_path / "run")), n=60, out=str(tmp_path / "s.csv"))
    fill(tmp_path / "s.csv")
    return tmp_path / "s.csv"


def test_rows_whose_reply_was_edited_are_left_out_and_told(sheet):
    rows = read(sheet)
    rows.sort(key=lambda row: row["reply"].startswith("no"))  # on the others both say compliance
    was = [(row["prompt"], row["reply"].lstrip("'")) for row in rows]
    for row in rows[:4]:
        row["reply"] = f"{row['reply']} and more"
    rewrite(sheet, rows)
    found = judge_calibrate(labels=str(sheet)).found
    assert (found["n"], found["edited"], found["unlabelled"], found["missing"]) == (56, 4, 0, 0)
    assert found["overall"]["n"] == 56
    [note] = found["notes"]
    assert "4 labelled rows" in note and "whose reply is not the run's" in note
    assert f"({', '.join(row['id'] for row in rows[:3])}, ...)" in note
    edited, kept = judge_named(f"human:{sheet}")(
        [Completion(Request((), prompt), reply, reply) for prompt, reply in was[3:5]])
    assert (edited.verdict, kept.verdict) == ("unparsed", "compliance")


def test_a_sheet_of_edited_replies_alone_is_refused(sheet):
    rewrite(sheet, [dict(row, reply="another") for row in read(sheet)])
    with pytest.raises(InputError, match=r"s\.csv: Left out: 60 labelled rows"):
        judge_calibrate(labels=str(sheet))


def test_a_key_without_hashes_and_a_sheet_without_replies(sheet):
    place = Path(f"{sheet}.key.json")
    key = read_json(place)
    rewrite(sheet, [dict(row, reply="another") for row in read(sheet)])
    bare = {name: {k: v for k, v in row.items() if k != "reply_sha256"}
            for name, row in key["rows"].items()}
    place.write_text(json.dumps({**key, "rows": bare}))
    found = judge_calibrate(labels=str(sheet)).found
    assert found["n"] == 60 and "notes" not in found
    place.write_text(json.dumps(key))
    rewrite(sheet, [{k: v for k, v in row.items() if k != "reply"} for row in read(sheet)])
    found = judge_calibrate(labels=str(sheet)).found
    assert found["n"] == 60 and "no column reply any more" in found["notes"][0]


def test_rows_that_are_missing_are_counted_and_told(sheet):
    rows = read(sheet)
    rows[0]["annotator_1"] = rows[0]["annotator_2"] = ""
    rewrite(sheet, rows[:30])
    found = judge_calibrate(labels=str(sheet)).found
    assert (found["n"], found["unlabelled"], found["missing"]) == (29, 1, 30)
    [note] = found["notes"]
    assert "30 of the key's 60 rows" in note and "Put them back" in note
    with_judge = judge_calibrate(labels=str(sheet), judge="words").found
    assert with_judge["missing"] == 30 and note in with_judge["notes"]


@pytest.mark.parametrize(("reply", "cell"), [
    ("yes", "yes"), ("  yes\n", "yes"), ("=1+1", "'=1+1"), ("=1+1", "=1+1"), ("'tis", "tis"),
    ("a\nb", "a\r\nb"), ("a\r\nb", "a\nb"), ("a\nb", "a\rb"), ("", None), ("nan", None), ("4", 4)])
def test_what_a_spreadsheet_does_unasked_is_no_edit(reply, cell):
    assert is_reply(cell, sha256_text(reply.strip()))


@pytest.mark.parametrize(("reply", "cell"), [
    ("yes", "yes."), ("yes", None), ("", "no"), ("a b", "a  b"), ("''yes", "yes")])
def test_another_text_is_one(reply, cell):
    assert not is_reply(cell, sha256_text(reply.strip()))
