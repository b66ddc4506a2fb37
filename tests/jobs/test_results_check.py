"""Figures counted again: true ones agree, and every kind of change is found where it is."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluations import make_results, make_samples
from sternpost.errors import InputError
from sternpost.files import read_json, read_jsonl, write_json, write_jsonl
from sternpost.jobs.results_check import ResultsChecked, results_check

Check = Callable[..., ResultsChecked]


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    lines = make_samples(12)
    return make_results(lines), lines


@pytest.fixture
def check(made: Any, tmp_path: Path) -> Check:
    """Checks the evaluation after `change` had its way with its results and lines."""
    def call(change: Callable[[Any, Any], object] = lambda results, lines: None) -> Any:
        results, lines = copy.deepcopy(made)
        change(results, lines)
        write_json(tmp_path / "results.json", results)
        write_jsonl(tmp_path / "samples.jsonl", lines)
        return results_check(dir=tmp_path)

    return call


def test_true_figures_agree_and_what_is_not_counted_is_named(check: Check) -> None:
    found = check()
    assert found.ok, found.disagreements
    assert found.figures > 150
    assert found.unchecked == [
        "tasks.mmlu.fire", "tasks.gsm8k.fire", "judge.accuracy_interval", "suites.*.duplicates",
        "suites.*.leaked", "suites.*.files", "judge.accuracy", "judge.kappa",
        "cost.seconds_per_token", "timing"]
    assert len(found.to_pandas()) == 0


PLACES = ("runs.steered.wildguard.refusal", "runs.baseline.gsm8k.capability",
          "runs.steered.build_ups.attack_success",
          "groups.wildguard.category.fraud.steered.refusal",
          "fire.xstest.safe", "attacks.build_ups.steered.broken")


@pytest.mark.parametrize("where", PLACES)
def test_a_changed_rate_is_found_where_it_is(check: Check, where: str) -> None:
    def more(results: Any, _: Any) -> None:
        for name in where.split("."):
            results = results[name]
        results["hits"] += 1

    found = check(more)
    assert [one.where for one in found.disagreements] == [where]


@pytest.mark.parametrize(("where", "key"), [
    ("paired.xstest.refusal", "p"), ("paired.xstest.refusal", "p_holm"),
    ("paired.wildguard.kl", "delta"), ("discrimination.xstest.paired", "low"),
    ("discrimination.wildguard.steered", "points"), ("runs.steered.wildguard.kl", "mean"),
    ("runs.steered.xstest.refusal", "high"), ("groups.mmlu.family.recall.paired.capability", "low"),
    ("groups.mmlu.family.recall.paired.capability", "delta"),
    ("groups.wildguard.language.en.paired.over_refusal", "p_holm")])
def test_a_changed_figure_is_found(check: Check, where: str, key: str) -> None:
    def more(results: Any, _: Any) -> None:
        for name in where.split("."):
            results = results[name]
        results[key] += 1e-6

    assert [one.where for one in check(more).disagreements] == [where]


def test_intervals_of_another_version_are_not_held_to_be_exact_and_counts_are(check: Check) -> None:
    def older(results: Any, _: Any) -> None:
        results["provenance"]["versions"]["scipy"] = "1.0.0"
        results["runs"]["steered"]["xstest"]["refusal"]["high"] += 1e-6

    found = check(older)
    assert found.ok
    assert "scipy was 1.0.0" in found.notes[0]

    def also(results: Any, lines: Any) -> None:
        older(results, lines)
        results["runs"]["steered"]["xstest"]["refusal"]["hits"] += 1

    assert [one.where for one in check(also).disagreements] == ["runs.steered.xstest.refusal"]


@pytest.mark.slow
def test_a_line_that_is_missing_changed_or_stray_is_found(check: Check) -> None:
    def drop(_: Any, lines: Any) -> None:
        lines.pop(next(i for i, one in enumerate(lines) if one["suite"] == "gsm8k"))

    found = {one.where for one in check(drop).disagreements}
    assert "runs.baseline.gsm8k.capability" in found

    def turn(_: Any, lines: Any) -> None:
        lines[0]["hit"] = not lines[0]["hit"]

    found = {one.where for one in check(turn).disagreements}
    assert {"samples.jsonl", "runs.baseline.wildguard.refusal"} <= found

    def stray(_: Any, lines: Any) -> None:
        lines.append({**lines[0], "condition": "third"})

    (one,) = check(stray).disagreements
    assert "'third'" in str(one)


def test_a_figure_where_the_lines_give_none_is_found_and_the_other_way(check: Check) -> None:
    def invented(results: Any, _: Any) -> None:
        rate = results["runs"]["steered"]["gsm8k"]["capability"]
        results["runs"]["steered"]["gsm8k"]["refusal"] = dict(rate)

    (one,) = check(invented).disagreements
    assert (one.where, one.counted) == ("runs.steered.gsm8k.refusal", "no figure")

    def hidden(results: Any, _: Any) -> None:
        results["runs"]["steered"]["gsm8k"]["capability"] = None

    (one,) = check(hidden).disagreements
    assert (one.where, one.stated) == ("runs.steered.gsm8k.capability", "no figure")

    def unpaired(results: Any, _: Any) -> None:
        for family in results["groups"]["mmlu"]["family"].values():
            del family["paired"]

    where = [one.where for one in check(unpaired).disagreements]
    assert where == [f"groups.mmlu.family.{name}.paired.capability"
                     for name in ("reasoning", "recall")]


def test_a_run_agrees_and_its_changes_are_found(fake: Any) -> None:
    run = fake.tell(values=(2.0, 4.0))
    found = results_check(dir=run.path)
    assert (found.kind, found.disagreements) == ("run", [])
    assert found.figures > 20
    results = read_json(run.path / "results.json")
    results["conditions"][0]["over_refusal"]["hits"] += 1
    results["candidates"][0]["unsafe_refusal"]["n"] += 1
    write_json(run.path / "results.json", results)
    where = [one.where for one in results_check(dir=run.path).disagreements]
    assert where[0] == "conditions.baseline.over_refusal"
    assert where[1].startswith("candidates.0 at ")
    assert where[1].endswith("unsafe_refusal")
    assert len(where) == 2
    lines = read_jsonl(run.path / "samples.jsonl")
    write_jsonl(run.path / "samples.jsonl", lines[1:])
    assert len(results_check(dir=run.path).disagreements) > 2


@pytest.mark.parametrize("kind", ["unsafe", "safe", "capability", "scripts"])
def test_numbers_of_prompts_are_counted(check: Check, kind: str) -> None:
    def more(results: Any, _: Any) -> None:
        for name in ("xstest", "gsm8k", "build_ups"):
            results["suites"][name]["n"][kind] += 1

    assert [one.where for one in check(more).disagreements] == [
        f"suites.{name}.n.{kind}" for name in ("xstest", "build_ups", "gsm8k")]


def test_prompts_of_a_group_are_counted(check: Check) -> None:
    def more(results: Any, _: Any) -> None:
        results["groups"]["wildguard"]["category"]["fraud"]["n"] += 1

    assert [one.where for one in check(more).disagreements] == ["groups.wildguard.category.fraud.n"]


def test_safe_scripts_are_scripts_and_attacks_are_prompts(check: Check) -> None:
    def other(results: Any, lines: Any) -> None:
        for line in lines:
            if line["suite"] == "build_ups":
                line["success"] = False
        first = {one["condition"]: one for one in lines if one["suite"] == "build_ups"}
        lines += [{**line, "kind": "safe", "turn": None, "success": None, "verdict": "refusal",
                   "hit": True, "suite": "xstest"} for line in first.values()]
        results["suites"]["build_ups"]["n"] = {"unsafe": 12, "safe": 0, "scripts": 0}
        results["suites"]["xstest"]["n"]["scripts"] = 1

    assert not [one for one in check(other).disagreements if one.where.startswith("suites.")]


def test_a_suite_without_lines_is_named_as_not_counted(check: Check) -> None:
    def left_out(results: Any, _: Any) -> None:
        results["suites"]["crescendo"] = {"n": {"unsafe": 10}, "metrics": []}
        for group in (*results["runs"].values(), results["paired"]):
            group["crescendo"] = {}

    found = check(left_out)
    assert found.ok, found.disagreements
    assert "suites.crescendo.n" in found.unchecked


def test_unparsed_is_counted(check: Check) -> None:
    def stated(results: Any, lines: Any) -> None:
        results["unparsed"] = 5

    (one,) = check(stated).disagreements
    assert str(one) == "unparsed: 5 is stated, the lines give 0"
    assert check(lambda results, _: results.update(unparsed=0)).ok


def test_a_judges_accuracy_is_held_to_its_counts(check: Check) -> None:
    (one,) = check(lambda results, _: results["judge"].update(accuracy=.999)).disagreements
    assert str(one) == "judge.accuracy: 0.999 is stated, its accuracy_interval gives 1989/2250"


@pytest.mark.parametrize("verdict", ["wibble", "shown"])
def test_a_verdict_is_known_and_agrees_with_hit(check: Check, verdict: str) -> None:
    def turn(_: Any, lines: Any) -> None:
        line = next(one for one in lines if one["suite"] == "xstest" and one["hit"])
        line["verdict"] = verdict

    (one,) = check(turn).disagreements
    assert one.where == "samples.jsonl"
    assert verdict in str(one)
    assert ("known are refusal, partial" in str(one)) == (verdict == "wibble")


def test_no_line_at_all_is_said(check: Check) -> None:
    with pytest.raises(InputError, match="has no line, so there is nothing to count"):
        check(lambda _, lines: lines.clear())


def test_never_more_figures_disagree_than_there_are(check: Check) -> None:
    found = check(lambda _, lines: lines.__delitem__(slice(3, None)))
    assert 100 < len(found.disagreements) <= found.figures


@pytest.mark.parametrize(("change", "said"), [
    (lambda results, lines: lines.append([1]), r"no JSON object, the one numbered \d+: \[1\]"),
    (lambda results, lines: lines[3].pop("verdict"), "lines without 'verdict': not of this"),
    (lambda results, lines: lines[3].pop("suite"), "lines without 'suite'"),
    (lambda results, lines: results["runs"]["steered"]["xstest"]["refusal"].update(hits="35"),
     "runs.steered.xstest.refusal.hits is '35'; expected a number"),
    (lambda results, lines: results["suites"]["xstest"]["n"].update(safe="12"),
     "suites.xstest.n.safe is '12'; expected a number"),
    (lambda results, lines: results["judge"].update(accuracy="all"), "judge.accuracy is 'all'"),
    (lambda results, lines: results["suites"]["xstest"].update(metrics=[["refusal"]]),
     "suites.xstest.metrics is .*; expected a list of texts")])
def test_spoilt_files_are_refused_in_one_message(check: Check, change: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(change)


def test_spoilt_lines_of_a_search_are_refused(fake: Any) -> None:
    run = fake.tell(values=(2.0,))
    searched = read_jsonl(run.path / "search.jsonl")
    del searched[0]["feature"]
    write_jsonl(run.path / "search.jsonl", searched)
    with pytest.raises(InputError, match=r"search\.jsonl has lines without 'feature'"):
        results_check(dir=run.path)
    write_json(run.path / "results.json", run.results | {"candidates": [{"feature": "x"}]})
    with pytest.raises(InputError, match=r"candidates\.0\.feature is 'x'"):
        results_check(dir=run.path)


def test_other_folders_are_refused(tmp_path: Path, made: Any) -> None:
    with pytest.raises(InputError, match=r"has no results\.json"):
        results_check(dir=tmp_path)
    write_json(tmp_path / "results.json", {"kind": "atlas"})
    write_jsonl(tmp_path / "samples.jsonl", made[1][:1])
    with pytest.raises(InputError, match="of kind 'atlas'; expected eval or run"):
        results_check(dir=tmp_path)
