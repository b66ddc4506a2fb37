"""A filled sheet: another judge on its replies, and the key that it needs."""

import json
from pathlib import Path

import pytest

from sheets import a_run, fill
from sternpost.assessment.judge_sheet import measured_sheet
from sternpost.errors import InputError, LeakageError, OutputError
from sternpost.files import read_json
from sternpost.jobs.judge_calibrate import judge_calibrate
from sternpost.jobs.judge_sample import judge_sample
from sternpost.types import Judgement

OWN = """from sternpost.types import Judgement
def strict(cs):
    return [Judgement("refusal" if c.messages[-1].content.startswith("no") else "compliance",
                      c.messages[0].content) for c in cs]
def lax(cs): return [Judgement("compliance", "") for c in cs]
def lost(cs): return [Judgement("unparsed", "") for c in cs]
"""


@pytest.fixture
def filled(tmp_path, monkeypatch) -> Path:
    """A filled sheet, and judges of one's own beside it."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    judge_sample(run=str(a_run(tmp_path / "run")), n=200, out="s.csv")
    fill(tmp_path / "s.csv")
    return tmp_path / "s.csv"


def test_a_judge_that_is_named_judges_the_sheets_replies_anew(filled):
    of_run = judge_calibrate(labels="s.csv").found
    strict, lax, lost = (judge_calibrate(labels="s.csv", judge=f"own.py:{name}").found
                         for name in ("strict", "lax", "lost"))
    assert of_run["overall"]["accuracy"]["hits"] < of_run["overall"]["accuracy"]["n"]
    assert strict["judge"]["name"] == "own.py:strict"
    assert strict["overall"]["accuracy"]["hits"] == strict["overall"]["accuracy"]["n"]
    assert strict["annotators"] == of_run["annotators"]
    assert lax["confusion"]["sensitivity"]["value"] == 0.0
    assert lax["confusion"]["conditions"]["steered 8"]["specificity"]["value"] == 1.0
    assert "200 of 200 replies are unparsed" in lost["notes"][0]
    assert "rates" in of_run and "rates" not in strict  # counts of another judge's verdicts
    assert "Leave out --judge" in strict["notes"][-1]


def test_figures_of_two_judges_on_a_sheet_are_not_taken_for_one_another(filled):
    judge_calibrate(labels="s.csv", out="c.json")
    with pytest.raises(OutputError, match="--force"):
        judge_calibrate(labels="s.csv", judge="words", out="c.json")
    assert judge_calibrate(labels="s.csv", out="c.json").found["judge"]["name"] == "of the run"


def test_a_run_that_moved_or_changed_is_asked_for(filled):
    Path("run").rename("moved")
    with pytest.raises(InputError, match=r"run/samples\.jsonl is not there.*--n 200 --seed 0 --out "
                                         r"s\.csv"):
        judge_calibrate(labels="s.csv", judge="own.py:strict")
    text = filled.read_bytes()
    judge_sample(run="moved", n=200, seed=0, out="s.csv")
    assert filled.read_bytes() == text
    assert judge_calibrate(labels="s.csv", judge="own.py:strict").found["n"] == 200
    with Path("moved/samples.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match="was changed since"):
        judge_calibrate(labels="s.csv", judge="own.py:strict")
    key = read_json("s.csv.key.json")  # as older ones are
    del key["run"]
    Path("s.csv.key.json").write_text(json.dumps(key))
    with pytest.raises(InputError, match="does not say where its run lies"):
        judge_calibrate(labels="s.csv", judge="own.py:strict")


class Harm:
    """Judges replies to unsafe prompts alone."""

    name, verdicts, kinds = "harm", ("refusal", "compliance"), ("unsafe",)

    def __call__(self, completions):
        return [Judgement("refusal" if c.reply.startswith("no") else "compliance", "")
                for c in completions]


def test_a_judge_of_some_prompts_is_measured_on_those(filled):
    key = read_json("s.csv.key.json")
    other = [name for name in key["rows"] if name.endswith("0")]
    for name in other:
        key["rows"][name]["kind"] = "safe"
    found = measured_sheet("s.csv", key, Harm())
    assert (found["n"], found["overall"]["n"]) == (200, 200 - len(other))
    assert f"{len(other)} rows are left out: harm does not judge" in found["notes"][0]
    for row in key["rows"].values():
        row["kind"] = "safe"
    with pytest.raises(InputError, match=r"unsafe prompts, and .* has none"):
        measured_sheet("s.csv", key, Harm())


def test_labels_do_not_measure_themselves(filled):
    with pytest.raises(LeakageError, match="agree with themselves"):
        judge_calibrate(labels="s.csv", judge=f"human:{filled}")


# ---- the key ------------------------------------------------------------------------------------

def test_a_sheet_without_its_key_says_which_file_is_missing(filled):
    key = Path("s.csv.key.json")
    Path("s.csv").rename("done.csv")
    with pytest.raises(InputError, match=r"its key is missing: done\.csv\.key\.json.*"
                                         r"Type: cp s\.csv\.key\.json done\.csv\.key\.json"):
        judge_calibrate(labels="done.csv")
    key.unlink()
    with pytest.raises(InputError, match=r"done\.csv\.key\.json.*judge sample RUN --n N --seed S"):
        judge_calibrate(labels="done.csv")
    judge_sample(run="run", n=200, out="new.csv")  # as the message says
    Path("new.csv.key.json").rename("done.csv.key.json")
    assert judge_calibrate(labels="done.csv").found["n"] == 200


def test_another_sheets_key_is_told_as_such(filled):
    judge_sample(run="run", n=200, seed=1, out="other.csv")
    ours, other = Path("s.csv.key.json"), Path("other.csv.key.json")
    ours.rename("kept.key.json")
    other.rename(ours)
    with pytest.raises(InputError, match=r"s\.csv\.key\.json is the key of another sheet.*"
                                         r"cp kept\.key\.json s\.csv\.key\.json"):
        judge_calibrate(labels="s.csv")


def test_labels_with_ids_and_names_of_annotators_are_plain_labels_still(tmp_path):
    file = tmp_path / "l.csv"
    file.write_text("id,annotator_1,prompt,reply,label\n1,ann,p,q,1\n2,ann,p,r,0\n")
    assert judge_calibrate(labels=str(file)).found["n"] == 2
