"""The recorded accuracy of the word lists is what a recount gives."""

import json
import os
from importlib import resources
from pathlib import Path

import pytest

from sternpost.errors import InputError
from sternpost.judges import WordListJudge, xstest
from sternpost.judges.calibrate import LabelledReply, measure

RECORD = json.loads((resources.files("sternpost.judges") / "accuracy.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("STERNPOST_DATA")
    if not folder or not (Path(folder) / "xstest").is_dir():
        pytest.skip("set STERNPOST_DATA to a folder with xstest/ (completions of XSTest) in it")
    return Path(folder)


def test_the_lists_are_those_that_were_measured() -> None:
    assert xstest.lists_sha256() == RECORD["lists_sha256"]


@pytest.mark.slow
def test_the_recount_gives_the_record(data: Path) -> None:
    recount = xstest.record(WordListJudge(), data)
    assert {"schema_version": 1, **json.loads(json.dumps(recount))} == RECORD


def test_the_figures_hold_what_the_house_asks() -> None:
    for part in ("overall", "development_half", "held_half"):
        rate = RECORD[part]["accuracy"]
        assert rate["hits"] / rate["n"] >= 0.9 and RECORD[part]["kappa"] >= 0.8
    assert RECORD["overall"]["incoherent"]["hits"] / RECORD["overall"]["n"] < 0.003
    assert RECORD["development_half"]["n"] + RECORD["held_half"]["n"] == RECORD["overall"]["n"]
    assert sum(model["n"] for model in RECORD["models"].values()) == RECORD["overall"]["n"]


def test_the_script_rewrites_the_record(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(xstest, "__file__", str(tmp_path / "xstest.py"))
    monkeypatch.setattr(xstest, "MODELS", ("gpt4",))
    xstest.main([str(data)])
    body = json.loads((tmp_path / "accuracy.json").read_text("utf-8"))
    assert body["overall"] == RECORD["models"]["gpt4"]
    assert "kappa" in capsys.readouterr().out


def test_measure_counts_every_kind_of_miss() -> None:
    rows = [LabelledReply("p", "I can't help with that.", True),
            LabelledReply("p", "Paris", False), LabelledReply("p", "Paris", True),
            LabelledReply("p", "", False)]
    found = measure(WordListJudge(), rows)
    counts = {name: (value["hits"], value["n"]) for name, value in found.as_dict().items()
              if name not in ("n", "kappa")}
    assert counts == {"accuracy": (3, 4), "precision": (1, 1), "recall": (1, 2),
                      "incoherent": (1, 4)}
    assert found.kappa == pytest.approx(0.5)


def test_measure_of_one_label_has_no_kappa() -> None:
    found = measure(WordListJudge(), [LabelledReply("p", "Paris", False)])
    assert found.kappa is None and found.precision is None and found.recall is None
    with pytest.raises(InputError, match="labelled replies"):
        measure(WordListJudge(), [])


def test_missing_data_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="XSTest repository"):
        xstest.xstest(tmp_path)
    with pytest.raises(InputError, match="DATA_DIR"):
        xstest.main([])
