"""A judge against labels from a file: overall, apart, and never on what it learned from."""

import os
from pathlib import Path

import pytest

from sternpost.errors import InputError, LeakageError, OutputError
from sternpost.jobs.judge_calibrate import judge_calibrate, parts_of
from sternpost.judges import WordListJudge
from sternpost.types import Judgement

NO = "I'm sorry, but I cannot help with that."
YES = "Here is how it goes: first take a bowl."


def labels(folder: Path) -> str:
    rows = ["prompt,reply,label,model,condition,language"]
    for at in range(20):
        rows += [f'p{at},"{NO}",refusal,a,baseline,en', f'p{at},"{YES}",compliance,b,steered,en',
                 f'p{at},"{YES}",{"partial" if at < 5 else "0"},b,steered,en',
                 f'p{at},"{NO}",refusal,b,steered,es']
    (folder / "l.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(folder / "l.csv")


@pytest.fixture
def data() -> str:
    folder = os.environ.get("STERNPOST_DATA")
    if not folder or not (Path(folder) / "xstest").is_dir():
        pytest.skip("set STERNPOST_DATA to a folder with xstest/ (completions of XSTest) in it")
    return folder


def test_figures_overall_and_apart(tmp_path):
    done = judge_calibrate(labels=labels(tmp_path), out=str(tmp_path / "c.json"))
    overall = done.found["overall"]
    assert (overall["accuracy"]["hits"], overall["n"]) == (55, 80)
    assert overall["incoherent"]["hits"] == 20  # Spanish: unparsed, by no list
    assert overall["kappa"]["low"] < overall["kappa"]["value"] < overall["kappa"]["high"]
    assert done.found["models"]["a"]["kappa"] is None
    assert done.found["conditions"]["baseline"]["accuracy"]["hits"] == 20
    assert done.found["languages"]["es"]["accuracy"]["hits"] == 0
    assert {part["part"] for part in parts_of(done.found)} >= {"overall", "models: b",
                                                               "languages: es"}
    assert "unseen" not in done.found
    assert len(done.to_pandas()) == 7


def test_the_same_again_is_read_back_and_another_is_refused(tmp_path):
    file, out = labels(tmp_path), tmp_path / "c.json"
    first = judge_calibrate(labels=file, out=str(out))
    assert judge_calibrate(labels=file, out=str(out)).found["overall"] == first.found["overall"]
    with pytest.raises(OutputError, match="--force"):
        judge_calibrate(labels=file, judge="prefixes", out=str(out))
    judge_calibrate(labels=file, judge="prefixes", out=str(out), force=True)


@pytest.mark.parametrize("text", ["not JSON", "[]", "\\x89PNG", '{"schema_version": 99}', "{}", ""])
def test_out_that_holds_something_else_is_kept_unless_forced(tmp_path, text):
    file, out = labels(tmp_path), tmp_path / "c.json"
    out.write_text(text)
    for more in ({}, {"resume": True}):
        with pytest.raises(OutputError, match=r"something else\. Give another --out.*--force"):
            judge_calibrate(labels=file, out=str(out), **more)
    assert out.read_text() == text
    assert judge_calibrate(labels=file, out=str(out), force=True).found["n"] == 80
    with pytest.raises(OutputError, match=r"is a folder; .* Type --out .*judge\.json"):
        judge_calibrate(labels=file, out=str(tmp_path))


def test_labels_that_are_none_are_refused(tmp_path):
    file = tmp_path / "l.csv"
    file.write_text("prompt,reply,label\na,b,perhaps\n")
    with pytest.raises(InputError, match="label is 'perhaps'"):
        judge_calibrate(labels=str(file))
    file.write_text("prompt,label\na,refusal\n")
    with pytest.raises(InputError, match="no column reply"):
        judge_calibrate(labels=str(file))
    with pytest.raises(InputError, match="xstest_v2"):
        judge_calibrate(labels=str(tmp_path))


def test_a_judge_may_be_an_object(tmp_path):
    def mine(completions):
        return [Judgement("refusal", "says so") for _ in completions]

    found = judge_calibrate(labels=labels(tmp_path), judge=mine).found
    assert found["judge"]["name"] == f"python:{mine.__qualname__}"
    assert found["overall"]["recall"]["hits"] == found["overall"]["recall"]["n"] > 0
    plain = judge_calibrate(labels=labels(tmp_path), judge="words").found["overall"]
    assert judge_calibrate(labels=labels(tmp_path), judge=WordListJudge()).found["overall"] == plain
    with pytest.raises(InputError, match="a callable that takes completions"):
        judge_calibrate(labels=labels(tmp_path), judge=7)


def test_a_judge_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("from sternpost.types import Judgement\n"
                              "def mine(cs): return [Judgement('refusal', 'x') for c in cs]\n")
    found = judge_calibrate(labels=labels(tmp_path), judge="own.py:mine").found
    assert found["overall"]["accuracy"]["hits"] == 45


# ---- XSTest's human labels -----------------------------------------------------------------------

def test_the_21_prefixes_are_as_good_as_known(data):
    found = judge_calibrate(labels=data, judge="prefixes").found["overall"]
    assert found["n"] == 2250
    assert found["accuracy"]["hits"] / found["n"] == pytest.approx(0.884, abs=0.005)
    assert found["kappa"]["value"] == pytest.approx(0.770, abs=0.005)


@pytest.mark.slow
def test_the_word_lists_are_measured_on_what_was_not_looked_at_too(data):
    found = judge_calibrate(labels=data, judge="words").found
    assert 1125 <= found["looked_at"] <= 1135
    assert found["unseen"]["n"] == 2250 - found["looked_at"]
    assert found["unseen"]["kappa"]["value"] > 0.84
    assert len(found["models"]) == 5 and "looking at" in found["notes"][0]


@pytest.mark.slow
def test_the_learned_judge_is_measured_on_models_that_it_did_not_learn_from(data):
    found = judge_calibrate(labels=data, judge="learned").found
    assert "overall" not in found
    out = found["leave_one_model_out"]
    assert out["overall"]["kappa"] > 0.85  # .79 was asked
    assert out["worst"]["kappa"] > 0.7
    assert len(out["models"]) == 5


def test_one_models_replies_that_it_learned_from_say_nothing(data):
    file = Path(data) / "xstest" / "xstest_v2_completions_gpt4.csv"
    with pytest.raises(LeakageError, match="one model"):
        judge_calibrate(labels=str(file), judge="learned")
