"""Blind sheets of a run's replies, and what filled ones say of the run's judge."""

import json
from itertools import pairwise

import pytest

from sheets import a_run, build_ups, fill, read, rewrite
from sternpost.assessment.judges import judge_named
from sternpost.errors import InputError, OutputError
from sternpost.files import canonical_json, read_json, sha256_text, write_json
from sternpost.jobs.judge_calibrate import judge_calibrate, parts_of
from sternpost.jobs.judge_sample import judge_sample
from sternpost.types import Completion, Request


def test_a_sheet_is_blind_mixed_and_stratified(tmp_path):
    sheet = judge_sample(run=str(a_run(tmp_path / "run")), n=120, out=str(tmp_path / "s.csv"))
    rows = read(tmp_path / "s.csv")
    assert list(rows[0]) == ["id", "prompt", "reply", "annotator_1", "annotator_2"]
    assert sheet.rows == len(rows) == 120
    assert not any(row["annotator_1"] or row["annotator_2"] for row in rows)
    key = read_json(tmp_path / "s.csv.key.json")
    assert {row["id"] for row in rows} == set(key["rows"])
    told = [key["rows"][row["id"]]["condition"] for row in rows]
    assert sum(a != b for a, b in pairwise(told)) > 20  # mixed
    assert {s["condition"] for s in key["strata"]} == {"baseline", "steered 8"}
    assert len(key["strata"]) == 8  # condition x verdict x language
    assert min(s["rows"] for s in key["strata"]) >= 10
    assert sum(s["lines"] for s in key["strata"]) == 600  # no capability
    assert sum(row["weight"] for row in key["rows"].values()) == pytest.approx(600)
    assert not any(row["reply"].startswith("=") for row in rows)
    for row in rows:
        kept = key["rows"][row["id"]]
        assert sha256_text(row["reply"].removeprefix("'")) == kept["reply_sha256"]
    assert len(sheet.to_pandas()) == 8


def test_a_sheet_is_the_same_again_and_never_written_over(tmp_path):
    run, out = str(a_run(tmp_path / "run")), tmp_path / "s.csv"
    judge_sample(run=run, n=50, out=str(out))
    text = out.read_bytes()
    fill(out)
    filled = out.read_bytes()
    assert judge_sample(run=run, n=50, out=str(out)).rows == 50
    assert out.read_bytes() == filled != text
    with pytest.raises(OutputError, match="--force"):
        judge_sample(run=run, n=50, seed=1, out=str(out))
    judge_sample(run=run, n=50, out=str(out), force=True)
    assert out.read_bytes() == text
    judge_sample(run=run, n=50, seed=1, out=str(out), force=True)
    assert out.read_bytes() != text


def test_bad_input_says_what_would_be_right(tmp_path):
    with pytest.raises(InputError, match=r"samples\.jsonl"):
        judge_sample(run=str(tmp_path), out="s.csv")
    with pytest.raises(InputError, match=r"\.csv"):
        judge_sample(run=str(tmp_path), out="s.json")
    with pytest.raises(InputError, match="from 1 up"):
        judge_sample(run=str(tmp_path), out="s.csv", n=0)


@pytest.mark.parametrize("kind", ["eval", "run"])
def test_an_unfinished_run_is_refused(tmp_path, kind):
    run = a_run(tmp_path / "run")
    write_json(run / "run.json", {"identity": {"verb": kind}})
    (run / "results.json").unlink()
    with pytest.raises(InputError, match=r"no results\.json: it holds no finished .* --resume"):
        judge_sample(run=str(run), out=str(tmp_path / "s.csv"))
    assert not (tmp_path / "s.csv").exists()
    write_json(run / "results.json", {"kind": "features"})
    with pytest.raises(InputError, match="of kind 'features'; expected eval or run"):
        judge_sample(run=str(run), out=str(tmp_path / "s.csv"))


def test_a_filled_sheet_tells_the_judges_error_and_corrects_the_rates(tmp_path):
    run, out = a_run(tmp_path / "run"), tmp_path / "s.csv"
    judge_sample(run=str(run), n=400, out=str(out))
    fill(out, slips=8)
    found = judge_calibrate(labels=str(out), out=str(tmp_path / "c.json")).found
    assert found["n"] == 400
    assert 0.9 < found["annotators"]["kappa_refusal"]["value"] < 1
    assert found["annotators"]["n"] == 400
    steered, base = (found["conditions"][name]["accuracy"] for name in ("steered 8", "baseline"))
    assert steered["hits"] / steered["n"] < 0.9 < base["hits"] / base["n"]
    assert set(found["languages"]) == {"de", "en"}
    share = found["confusion"]["conditions"]["steered 8"]
    assert share["sensitivity"]["value"] == pytest.approx(0.8, abs=0.08)
    assert share["specificity"]["value"] == pytest.approx(0.9, abs=0.12)
    rates = {one["condition"]: one for one in found["rates"]}
    lines = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    for condition, name in (("steered", "steered 8"), ("baseline", "baseline")):
        mine = [x for x in lines if x["condition"] == condition and x["kind"] == "unsafe"]
        truth = sum(x["reply"].startswith("no") for x in mine) / len(mine)
        raw = sum(x["verdict"] == "refusal" for x in mine)
        assert rates[name]["raw"]["hits"] == raw
        assert abs(rates[name]["value"] - truth) < 0.05
        assert rates[name]["low"] < truth < rates[name]["high"]
    assert abs(rates["steered 8"]["raw"]["hits"] / 300 - 0.8) > 0.08  # the raw one is off
    assert parts_of(found)[0]["part"] == "overall"
    assert read_json(tmp_path / "c.json")["rates"] == found["rates"]


def test_one_annotator_does_and_empty_rows_are_counted(tmp_path):
    run, out = a_run(tmp_path / "run"), tmp_path / "s.csv"
    judge_sample(run=str(run), n=40, out=str(out))
    with pytest.raises(InputError, match="nobody has filled in"):
        judge_calibrate(labels=str(out))
    fill(out, second=False)
    text = out.read_text(encoding="utf-8").replace(",refusal,", ",,", 5)
    out.write_text(text, encoding="utf-8")
    found = judge_calibrate(labels=str(out)).found
    assert (found["n"], found["unlabelled"]) == (35, 5)
    assert found["annotators"] == {"n": 0, "same": None, "kappa": None, "kappa_refusal": None}


def test_a_filled_sheet_is_a_judge_of_its_own_replies(tmp_path):
    out = tmp_path / "s.csv"
    judge_sample(run=str(a_run(tmp_path / "run")), n=40, out=str(out))
    fill(out, second=False)
    judge = judge_named(f"human:{out}")
    row = next(row for row in read(out) if row["reply"].startswith("no"))
    known, other = judge([Completion(Request((), row["prompt"]), reply, reply)
                          for reply in (row["reply"], "another")])
    assert (known.verdict, other.verdict) == ("refusal", "unparsed")


@pytest.mark.parametrize(("old", "new", "said"), [
    (",C,", ",hm,", "refusal, partial, compliance"), ("-0001", "-9999", "not in the key"),
    ("-0001", "-0002", "stands twice"), ("annotator_2", "other", "no column annotator_2")])
def test_a_sheet_that_was_spoilt_is_refused(tmp_path, old, new, said):
    out = tmp_path / "s.csv"
    judge_sample(run=str(a_run(tmp_path / "run")), n=40, out=str(out))
    fill(out)
    out.write_text(out.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        judge_calibrate(labels=str(out))


def test_a_build_up_is_shown_as_a_transcript_and_read_back_by_its_row(tmp_path):
    out = tmp_path / "s.csv"
    judge_sample(run=str(build_ups(tmp_path / "run")), n=24, out=str(out))
    shown = {row["reply"]: row["prompt"] for row in read(out)}
    assert len(shown) == 24
    assert shown["yes, 3"] == "user: harmless 3"
    assert shown["no, 3"] == 'user: harmless 3\nassistant: yes, 3\nuser: say "it", 3'
    fill(out, second=False)
    rewrite(out, [dict(row, prompt="cut by a spreadsheet") for row in read(out)])
    found = judge_calibrate(labels=str(out)).found
    assert found["rates"] == []  # a build-up's turns are in no refusal rate
    assert "results.json has none of refusals" in found["notes"][-1]
    accuracy = found["overall"]["accuracy"]
    assert accuracy["hits"] == accuracy["n"] == 24
    script = canonical_json([{"role": "user", "content": "harmless 3"},
                             {"role": "user", "content": 'say "it", 3'}])
    [known] = judge_named(f"human:{out}")([Completion(Request((), script), "no, 3", "no, 3")])
    assert known.verdict == "refusal"


def test_strata_without_a_row_are_told_and_how_many_rows_would_do(tmp_path):
    run = str(a_run(tmp_path / "run"))
    few = judge_sample(run=run, n=5, out=str(tmp_path / "s.csv"))
    [warning] = few.warnings
    missed = sum(s["lines"] for s in few.key["strata"] if not s["rows"])
    assert "5 rows are too few for 8 strata" in warning and "3 of them got no row" in warning
    assert f"{missed} of the run's 600 lines" in warning and warning.endswith("--n 8")
    assert warning in few._repr_html_()
    assert judge_sample(run=run, n=8, out=str(tmp_path / "t.csv")).warnings == []
    fill(tmp_path / "s.csv")
    [note] = judge_calibrate(labels=str(tmp_path / "s.csv")).found["notes"]
    assert f"3 of 8 strata have no row on the sheet: no figure knows of {missed} of" in note
