"""The run's refusal rates beside a sheet: raw is what results.json says, suite by suite."""

import json
from typing import Any

import pytest

from sheets import MIXED, a_mixed_evaluation, a_mixed_run, fill, read, rewrite
from sternpost.errors import OutputError
from sternpost.files import read_json
from sternpost.jobs.judge_calibrate import judge_calibrate
from sternpost.jobs.judge_sample import judge_sample
from sternpost.jobs.results_check import results_check
from sternpost.stats import Share, corrected_rate
from sternpost.types import Rate


def rates_of(folder, n: int = 100) -> list[dict[str, Any]]:
    """The rates that a filled sheet of the run comes with."""
    sheet = folder.parent / "s.csv"
    judge_sample(run=str(folder), n=n, out=str(sheet))
    fill(sheet)
    return judge_calibrate(labels=str(sheet)).found["rates"]


def test_raw_is_the_rate_of_that_suite_metric_and_condition(tmp_path):
    folder = a_mixed_evaluation(tmp_path / "eval")
    stated = read_json(folder / "results.json")["runs"]
    rates = rates_of(folder)
    found = {(one["suite"], one["metric"], one["condition"]): one["raw"] for one in rates}
    assert set(found) == {(suite, metric, condition) for suite, metrics in MIXED.items()
                          for metric in metrics if metric != "attack_success"
                          for condition in ("baseline", "steered")}
    for (suite, metric, condition), raw in found.items():
        assert raw == stated[condition][suite][metric]
    assert found["one", "refusal", "steered"]["n"] == 30  # of 90 unsafe lines of `one` there
    assert found["two", "refusal", "steered"]["n"] == 12
    assert {one["kind"] for one in rates if one["metric"] == "over_refusal"} == {"safe"}


def test_each_suite_is_corrected_by_its_conditions_rows_of_all_suites(tmp_path):
    folder = a_mixed_evaluation(tmp_path / "eval")
    sheet = tmp_path / "s.csv"
    judge_sample(run=str(folder), n=200, out=str(sheet))
    fill(sheet)
    rows = read(sheet)
    key = read_json(f"{sheet}.key.json")["rows"]
    for at, row in enumerate(rows):  # people see other things than the judge in every fourth row
        if at % 4 == 0 and key[row["id"]]["condition"] == "steered":
            row["annotator_1"] = row["annotator_2"] = "p" if row["annotator_1"] == "C" else "c"
    rewrite(sheet, rows)
    found = judge_calibrate(labels=str(sheet)).found
    share = found["confusion"]["conditions"]["steered"]
    mine = [one for one in found["rates"] if one["condition"] == "steered"]
    assert [(one["suite"], one["metric"]) for one in mine] == [
        ("one", "refusal"), ("one", "over_refusal"), ("two", "refusal")]
    for one in mine:
        assert one["by"] == "condition"
        told = corrected_rate(Rate(**one["raw"]), Share(**share["sensitivity"]),
                              Share(**share["specificity"]))
        assert (one["value"], one["low"], one["high"]) == (told.value, told.low, told.high)


def test_raw_of_a_run_is_its_conditions_rate(tmp_path):
    folder = a_mixed_run(tmp_path / "run")
    assert results_check(dir=folder).ok
    rates = rates_of(folder, 120)
    assert all("suite" not in one for one in rates)
    found = {(one["condition"], one["metric"]): one["raw"] for one in rates}
    stated = read_json(folder / "results.json")["conditions"]
    assert len(found) == len(rates) == 2 * len(stated) == 8
    for entry in stated:
        name = entry["name"] + ("" if entry["value"] is None else f" {entry['value']:g}")
        for metric in ("unsafe_refusal", "over_refusal"):
            assert found[name, metric] == entry[metric]
    assert found["random_feature", "unsafe_refusal"]["n"] == 40  # two features, no offensive one


def test_a_sheet_of_before_says_how_its_key_gets_the_rates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rates = rates_of(a_mixed_evaluation(tmp_path / "eval"))
    place = tmp_path / "s.csv.key.json"
    key = read_json(place)
    del key["rates"]
    place.write_text(json.dumps(key))
    out = judge_calibrate(labels="s.csv", out="c.json").found
    assert out["rates"] == []
    assert f"sternpost judge sample {tmp_path / 'eval'} --n 100 --seed 0 --out s.csv" in \
        out["notes"][-1]
    filled = (tmp_path / "s.csv").read_bytes()
    judge_sample(run="eval", n=100, seed=0, out="s.csv")
    assert (tmp_path / "s.csv").read_bytes() == filled
    assert judge_calibrate(labels="s.csv").found["rates"] == rates
    with pytest.raises(OutputError, match="something else"):  # figures without the rates
        judge_calibrate(labels="s.csv", out="c.json")
