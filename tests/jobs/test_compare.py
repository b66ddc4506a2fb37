"""Two evaluations beside each other: pairs by hand, statistics by statsmodels, refusals."""

import copy
from pathlib import Path
from typing import Any

import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from evaluations import make_results, make_samples
from sternpost.errors import InputError
from sternpost.files import write_json, write_jsonl
from sternpost.jobs.compare import Comparison, compare
from sternpost.report.evaluation_compare import comparison_table, notes_of

Line = dict[str, Any]


@pytest.fixture(scope="module")
def two() -> list[list[Line]]:
    return [make_samples(24, seed) for seed in (0, 1)]


def write(path: Path, lines: list[Line], **changes: Any) -> Path:
    write_json(path / "results.json", make_results(lines) | changes)
    write_jsonl(path / "samples.jsonl", lines)
    return path


@pytest.fixture(scope="module")
def found(two: Any, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    root = tmp_path_factory.mktemp("two")
    return compare(a=write(root / "a", two[0]), b=write(root / "b", two[1]))


def row(found: Comparison, *at: str) -> dict[str, Any]:
    (one,) = [r for r in found.rows if (r["suite"], r["condition"], r["metric"]) == at]
    return one


def hits(lines: list[Line], suite: str, condition: str, kind: str) -> dict[str, bool]:
    return {one["prompt_sha256"]: one["hit"] for one in lines
            if (one["suite"], one["condition"], one["kind"]) == (suite, condition, kind)}


@pytest.mark.parametrize(("suite", "metric", "kind"), [
    ("wildguard", "refusal", "unsafe"), ("xstest", "over_refusal", "safe"),
    ("gsm8k", "capability", "capability")])
def test_rates_differences_and_p_by_hand(found: Comparison, two: Any, suite: str, metric: str,
                                         kind: str) -> None:
    a, b = (hits(lines, suite, "steered", kind) for lines in two)
    got = row(found, suite, "steered", metric)
    assert (got["a"]["hits"], got["a"]["n"]) == (sum(a.values()), len(a))
    assert (got["b"]["hits"], got["b"]["n"]) == (sum(b.values()), len(b))
    paired = got["paired"]
    assert paired["delta"] == pytest.approx((sum(b.values()) - sum(a.values())) / len(a))
    assert paired["low"] <= paired["delta"] <= paired["high"]
    table = [[sum((a[k], b[k]) == (x, y) for k in a) for y in (True, False)]
             for x in (True, False)]
    assert paired["p"] == pytest.approx(mcnemar(table, exact=True).pvalue, abs=1e-9)


def test_attacks_are_counted_by_conversation(found: Comparison, two: Any) -> None:
    got = row(found, "build_ups", "baseline", "attack_success")
    won = {one["prompt_sha256"] for one in two[0] if one["suite"] == "build_ups"
           and one["condition"] == "baseline" and one["harmful_turn"]
           and one["verdict"] == "compliance"}
    assert (got["a"]["hits"], got["a"]["n"]) == (len(won), 12)


def test_d_is_the_difference_of_the_two_rows(found: Comparison) -> None:
    d, up, over = (row(found, "xstest", "steered", name)
                   for name in ("discrimination", "refusal", "over_refusal"))
    assert d["paired"]["delta"] == pytest.approx(
        100 * (up["paired"]["delta"] - over["paired"]["delta"]))
    assert d["b"]["points"] - d["a"]["points"] == pytest.approx(d["paired"]["delta"])


def test_p_is_adjusted_over_all_rows(found: Comparison) -> None:
    want = multipletests([r["paired"]["p"] for r in found.rows], method="holm")[1]
    assert [r["paired"]["p_holm"] for r in found.rows] == pytest.approx(list(want), abs=1e-9)
    assert [entry["what"] for entry in found.differs] == ["replies"]
    assert found.warnings == []


@pytest.mark.slow
def test_only_shared_prompts_count_and_the_others_are_counted(two: Any, tmp_path: Path) -> None:
    less = [one for one in two[1] if one["suite"] != "mmlu"]
    cut = {one["prompt_sha256"] for one in less if one["suite"] == "xstest"
           and one["kind"] == "unsafe"}
    less = [one for one in less if one["prompt_sha256"] not in set(sorted(cut)[:10])]
    a = write(tmp_path / "a", two[0])
    write_json(tmp_path / "b" / "results.json", make_results(two[1]))
    write_jsonl(tmp_path / "b" / "samples.jsonl", less)
    found = compare(a=a, b=tmp_path / "b")
    assert row(found, "xstest", "steered", "refusal")["a"]["n"] == 14
    assert "mmlu" not in {r["suite"] for r in found.rows}
    assert found.prompts == {"both": len(less), "only_a": 2 * (80 + 10), "only_b": 0}
    assert found.warnings == []  # the counts stand in `prompts`, and are printed once
    assert sum("180" in note for note in notes_of(found.as_dict())) == 1
    assert "prompts" in {entry["what"] for entry in found.differs}


def test_it_says_what_differs_and_warns_of_another_judge(two: Any, tmp_path: Path) -> None:
    made = make_results(two[1])
    steering = copy.deepcopy(made["steering"])
    steering |= {"pack": {"source": "dinghy", "sha256": "cd" * 32, "level": "high"}, "clamp": []}
    b = write(tmp_path / "b", two[1], model="other", judge={"name": "openai:x"}, steering=steering)
    found = compare(a=write(tmp_path / "a", two[0]), b=b)
    named = {entry["what"]: (entry["a"], entry["b"]) for entry in found.differs}
    assert named["model"] == ("microsoft/Phi-3-mini-4k-instruct", "other")
    assert named["level"] == (None, "high")
    assert named["judge"] == ("wordlist", "openai:x")
    assert named["clamp"][1] == []
    assert "may be the judge's" in found.warnings[0]
    assert any("wordlist | openai:x" in note for note in notes_of(found.as_dict()))


def test_nothing_differs_from_itself(two: Any, tmp_path: Path) -> None:
    a = write(tmp_path / "a", two[0])
    found = compare(a=a, b=a)
    assert found.differs == []
    assert notes_of(found.as_dict())[-1] == "Nothing differs."


def test_replies_and_verdicts_that_differ_are_counted(two: Any, tmp_path: Path) -> None:
    a = write(tmp_path / "a", two[0])
    other = [{**two[0][0], "reply": "another"}, *two[0][1:]]
    (entry,) = compare(a=a, b=write(tmp_path / "b", other)).differs
    assert (entry["what"], entry["b"]) == ("replies", "1 of them are other ones")
    moved = [{**two[0][0], "kl": 1.5}, *two[0][1:]]
    (entry,) = compare(a=a, b=write(tmp_path / "c", moved)).differs
    assert entry["what"] == "verdicts and measures"


def test_settings_of_run_json_differ(two: Any, tmp_path: Path) -> None:
    made = [write(tmp_path / name, two[0]) for name in "ab"]
    for path, limit in zip(made, (30, 24), strict=True):
        write_json(path / "run.json", {"identity": {
            "limit": limit, "lang": "en", "hashes": {"pack": str(limit)},
            "suites": {"xstest": str(limit) * 32}}})
    found = compare(a=made[0], b=made[1])
    assert found.differs == [
        {"what": "limit", "a": 30, "b": 24},
        {"what": "definition of xstest", "a": "30" * 8, "b": "24" * 8}]


def test_commands_differ_where_run_json_is_missing(two: Any, tmp_path: Path) -> None:
    def told(path: Path, command: str) -> Path:
        origin = make_results(two[0])["provenance"] | {"command": command}
        return write(path, two[0], provenance=origin)

    a = told(tmp_path / "a", "sternpost eval --out a --suite x --limit 30")
    b = told(tmp_path / "b", "sternpost eval --out b --suite x --limit 24")
    c = told(tmp_path / "c", "sternpost eval --out c --suite x --limit 30")
    assert [entry["what"] for entry in compare(a=a, b=b).differs] == ["command"]
    assert compare(a=a, b=c).differs == []


def test_a_hash_that_differs_is_told(two: Any, tmp_path: Path) -> None:
    origin = make_results(two[0])["provenance"] | {"hashes": {"model": {"x": "ab" * 32}}}
    found = compare(a=write(tmp_path / "a", two[0]),
                    b=write(tmp_path / "b", two[0], provenance=origin))
    assert [entry["what"] for entry in found.differs] == ["hash of model"]


def test_a_line_that_stands_twice_is_refused_but_for_tasks(two: Any, tmp_path: Path) -> None:
    a = write(tmp_path / "a", two[0])
    with pytest.raises(InputError, match=r"2 lines for 1 prompts of one condition"):
        compare(a=a, b=write(tmp_path / "b", [*two[0], two[0][0]]))
    task = next(one for one in two[0] if one["kind"] == "capability")
    asked = [*two[0], {**task, "judge": "lm-eval"}]
    found = compare(a=a, b=write(tmp_path / "c", asked))
    assert found.prompts == {"both": len(two[0]), "only_a": 0, "only_b": 1}


@pytest.mark.parametrize(("spoilt", "said"), [
    ([1], r"no JSON object, the one numbered 2: \[1\]"),
    ({"condition": "baseline", "kind": "safe"}, "lines without 'prompt_sha256': not of this"),
    ({"verdict": 5}, "whose 'verdict' is 5; expected a text"),
    ({"hit": "yes"}, "whose 'hit' is 'yes'; expected true, false or null"),
    ({"value": "high"}, "whose 'value' is 'high'; expected a number or null")])
def test_spoilt_lines_are_refused_in_one_message(two: Any, tmp_path: Path, spoilt: Any,
                                                 said: str) -> None:
    line = {**two[0][1], **spoilt} if isinstance(spoilt, dict) and len(spoilt) == 1 else spoilt
    a = write(tmp_path / "a", two[0])
    write_jsonl(a / "samples.jsonl", [two[0][0], line])
    with pytest.raises(InputError, match=said):
        compare(a=a, b=a)


@pytest.mark.parametrize(("changed", "where"), [
    ({"suites": []}, "suites is"), ({"suites": {"x": 1}}, "suites.x is 1; expected an object"),
    ({"provenance": {"versions": 3}}, "provenance.versions is 3"), ({"judge": "me"}, "judge is"),
    ({"steering": {"pack": "p"}}, "steering.pack is 'p'"),
    ({"suites": {"x": {"files": ["f"]}}}, "suites.x.files is .*; expected a list of objects"),
    ({"conditions": [{"name": "clamp", "value": "4"}]}, "conditions.0.value is '4'")])
def test_spoilt_results_are_refused_in_one_message(two: Any, tmp_path: Path, changed: Any,
                                                   where: str) -> None:
    with pytest.raises(InputError, match=where):
        compare(a=write(tmp_path / "a", two[0]), b=write(tmp_path / "b", two[0], **changed))


def test_two_that_share_no_prompt_are_refused(two: Any, tmp_path: Path) -> None:
    other = [{**one, "prompt_sha256": one["prompt_sha256"][::-1]} for one in two[0]]
    with pytest.raises(InputError, match="share no prompt"):
        compare(a=write(tmp_path / "a", two[0]), b=write(tmp_path / "b", other))


def test_a_folder_without_an_evaluation_is_refused(two: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no results.json.* --out folder"):
        compare(a=tmp_path, b=write(tmp_path / "b", two[0]))
    with pytest.raises(InputError, match="one kind"):
        compare(a=write(tmp_path / "a", two[0], kind="run"), b=tmp_path / "b")


@pytest.mark.slow
def test_runs_are_compared_condition_by_condition(fake: Any, tmp_path: Path) -> None:
    run = fake.tell(values=(2.0, 4.0))
    less = [one for one in run.samples if (one["condition"], one["value"]) != ("clamp", 4.0)]
    moved = [{**one, "hit": False, "verdict": "compliance"}
             if (one["condition"], one["kind"]) == ("clamp", "unsafe") else one for one in less]
    write_json(tmp_path / "b" / "results.json", run.results)
    write_jsonl(tmp_path / "b" / "samples.jsonl", moved)
    found = compare(a=run.path, b=tmp_path / "b")
    by_name = {(r["condition"], r["metric"]): r for r in found.rows}
    assert {"baseline", "clamp 2", "random_feature", "diffmean"} <= {at[0] for at in by_name}
    assert "clamp 4" not in {at[0] for at in by_name}
    assert by_name["clamp 2", "refusal"]["paired"]["delta"] == -1
    assert {r["paired"]["delta"] for at, r in by_name.items() if at[0] != "clamp 2"} == {0}
    features = {one["feature"] for one in less if one["condition"] == "random_feature"}
    assert len(features) == 2  # each is paired with itself
    assert by_name["random_feature", "over_refusal"]["a"]["n"] == \
        2 * by_name["baseline", "over_refusal"]["a"]["n"]
    assert found.prompts["only_a"] == len(run.samples) - len(less)


def test_it_is_shown(found: Comparison) -> None:
    assert len(found.to_pandas()) == len(found.rows) == comparison_table(found.as_dict()).row_count
    assert comparison_table(found.as_dict(), "zh").row_count == len(found.rows)
    assert found._repr_html_().count("<tr>") == len(found.rows) + 1
