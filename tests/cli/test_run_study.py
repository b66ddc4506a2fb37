"""`sternpost run` of a study's recipe: its tables, --set, dry runs, and the paper from end to end
on the model that ships."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studies import RECIPE, an_attacker, benchmark_files, prompt_files, whole_study, words

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STERNPOST_DATA", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


# ---- dry runs ------------------------------------------------------------------------------------

def test_a_dry_run_of_the_paper_names_hours_memory_and_what_is_missing(cli: Cli,
                                                                       tmp_path: Path) -> None:
    said = cli(*words(tmp_path / "out", more=["--dry-run"]))
    assert said.code == 0, said.err
    for text in ("3,821,079,552 parameters",
                 "baseline, clamp-10, clamp-12, splice-in, philosophy-12, random-12",
                 "NVIDIA H100 SXM: train ", "memory     training 24.6 GB",
                 "the weights of microsoft/Phi-3-mini-4k-instruct (7.6 GB): not on this machine",
                 "* wildguard_train: DATA/wildguard/wildguard_train.csv",
                 "* wildguard: DATA/wildguard/wildguard_test.csv", "ODC-BY", "subcategory",
                 "* xstest: DATA/xstest/xstest_prompts.csv",
                 "* mmlu: DATA/mmlu/dev/SUBJECT_dev.csv", "* truthfulqa_mc1: ", "* gsm8k: ",
                 "crescendo: no attacker was named"):
        assert text in said.out, text
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_is_there_is_not_missing(cli: Cli, tmp_path: Path) -> None:
    said = cli(*words(tmp_path / "out", *whole_study(tmp_path), more=["--dry-run", "--json"]))
    assert said.code == 0, said.err
    plan = json.loads(said.out)
    assert [lack["what"].partition(":")[0] for lack in plan["missing"]] == ["crescendo"]
    assert plan["parameters"] == 2_132_096
    assert plan["train"]["d_sae"] == 512
    h100 = plan["hours"]["NVIDIA H100 SXM"]
    work = plan["work"]["evaluate"]
    flop = 2 * plan["parameters"] * (work["read"] + work["written"]) / (0.4 * 989e12)
    moved = 2 * plan["parameters"] * work["written"] / 32 / 3350e9
    assert h100["evaluate"] == pytest.approx((flop + moved) / 3600)
    asked = cli(*words(tmp_path / "out", *whole_study(tmp_path, "u"), more=["--dry-run"]))
    assert "the attacker openai:script: neither OPENAI_API_KEY nor OPENAI_BASE_URL" in asked.out


@pytest.mark.slow
def test_columns_and_rows_move_the_estimate(cli: Cli, tmp_path: Path) -> None:
    def work(*changes: str) -> dict[str, Any]:
        told = [*whole_study(tmp_path), "evaluate.suite=wildguard,xstest", *changes]
        return json.loads(cli(*words(tmp_path / "out", *told,
                                     more=["--dry-run", "--json"])).out)["work"]

    four, three = work(), work("clamps=[12]")
    assert four["evaluate"]["written"] == 6 * 20 * 24  # the baseline is asked once
    assert three["evaluate"]["written"] == 5 * 20 * 24
    assert work("run.values=[12]", "clamps=[12]")["run"]["written"] < three["run"]["written"]


# ---- what is refused -----------------------------------------------------------------------------

@pytest.mark.parametrize(("changes", "match"), [
    (("evaluate.sute=xstest",), "[evaluate]: unknown setting 'sute'"),
    (("train.tokns=3",), "[train]: unknown setting 'tokns'"),
    (("run.d=3",), "[run]: unknown setting 'd'"),
    (("clmps=[3]",), "unknown setting 'clmps'"),
    (("evaluate=xstest",), "evaluate is 'xstest'. Change one of its settings"),
    (("model.name=x",), "model is no table of the recipe"),
    (("evaluate.clamp=3=4",), "[evaluate]: clamp is set by the study itself"),
    (("run.out=here",), "[run]: out is set by the study itself"),
    (("run.values=[2, 10]",), "not [12.0]"),
    (("clamps=[]",), "At which values"),
    (("clamps=[12, 12]",), "names a value twice"),
    (("train.layers=[2, 3]",), "a study is of one layer"),
    (("run.unsafe=a.csv",), "Give unsafe and safe"),
    (("evaluate.suite=nowhere",), "no suite 'nowhere'"),
    (("evaluate.suite=crescendo",), "Nothing is left to evaluate on"),
])
def test_bad_settings_are_one_message(cli: Cli, tmp_path: Path, changes: tuple[str, ...],
                                      match: str) -> None:
    said = cli(*words(tmp_path / "out", *changes))
    assert said.code == 2
    assert match in " ".join(said.err.split())
    assert not (tmp_path / "out").exists()


def test_options_of_a_stage_are_named_as_its_settings(cli: Cli, tmp_path: Path) -> None:
    said = cli(*words(tmp_path / "out", more=["--limit", "3", "--dry-run"]))
    assert said.code == 2
    assert "--set run.limit=3" in said.err


def test_a_study_that_lacks_anything_does_not_start(cli: Cli, tmp_path: Path) -> None:
    told = [*whole_study(tmp_path), "evaluate.suite=wildguard,xstest,harmbench"]
    (tmp_path / "data" / "xstest" / "xstest_prompts.csv").unlink()
    said = cli(*words(tmp_path / "out", *told))
    assert said.code == 2
    assert "cannot start" in said.err
    assert "xstest/xstest_prompts.csv" in said.err
    assert "wildguard_test.csv" not in said.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_plain_recipe_stays_one(cli: Cli, tmp_path: Path) -> None:
    plain = tmp_path / "plain.toml"
    unsafe, safe, _ = prompt_files(tmp_path / "prompts")
    plain.write_text('model = "dinghy"\nno-gate = true\nchat_template_kwargs = {a-b = true}\n')
    sets = [word for change in (unsafe, safe) for word in ("--set", change.removeprefix("run."))]
    said = cli("run", plain, *sets, "--out", tmp_path / "out", "--dry-run")
    assert said.code == 0, said.err
    assert "replies, at most" in said.out


def test_a_recipe_finds_its_own_files_from_anywhere(cli: Cli, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = cli(*words(tmp_path / "out", *whole_study(tmp_path), recipe=RECIPE,
                      more=["--dry-run"]))
    assert said.code == 0, said.err
    assert "philosophy" in said.out


# ---- the whole of it -----------------------------------------------------------------------------

@pytest.mark.slow
def test_the_paper_from_end_to_end_on_the_model_that_ships(
        cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage to the final table, offline: WildGuard, XSTest, Crescendo, MMLU, TruthfulQA and
    GSM8K of ten rows each."""
    with an_attacker() as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        line = words(tmp_path / "out", *whole_study(tmp_path, service.url))
        said = cli(*line)
        assert said.code == 0, said.err
        asked = len(service.requests)
        assert asked <= 10 * 3 * 3 * (1 + 5)  # objectives, messages, roles, columns: one baseline
        again = cli(*line)
        assert len(service.requests) == asked  # a finished study is shown, not made again
    assert (again.code, again.out) == (0, said.out)
    out = tmp_path / "out"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    names = ["clamp-10", "clamp-12", "splice-in", "philosophy-12", "random-12"]
    assert [column["name"] for column in results["columns"]] == names
    assert list(results["runs"]) == ["baseline", *names]
    assert results["left_out"] == {}
    whole = {"wildguard": ("refusal", "over_refusal"), "xstest": ("refusal", "over_refusal"),
             "crescendo": ("attack_success",), "mmlu": ("capability",),
             "truthfulqa_mc1": ("capability",), "gsm8k": ("capability",)}
    for name, suites in results["runs"].items():
        for suite, metrics in whole.items():
            for metric in metrics:
                figure = suites[suite][metric]
                assert figure["n"] in (5, 10), (name, suite, metric)
                assert 0 <= figure["low"] <= figure["hits"] / figure["n"] <= figure["high"] <= 1
    check_the_parts(out, results)
    for text in ("WildGuardTest", "XSTest", "Crescendo", "mmlu", "gsm8k", "32.32", "35.98"):
        assert text in said.out, text


def check_the_parts(out: Path, results: dict[str, Any]) -> None:
    """The figures are those of the stages, the feature is the run's, the controls are others."""
    run = json.loads((out / "run" / "results.json").read_text(encoding="utf-8"))
    assert {"baseline", "splice_in", "random_feature", "clamp"} <= {
        entry["name"] for entry in run["conditions"]}
    assert [entry["value"] for entry in run["conditions"] if entry["name"] == "clamp"] == [10, 12]
    assert all(entry["error"] == "drop" for entry in run["conditions"] if entry["name"] == "clamp")
    features = {column["name"]: column["feature"] for column in results["columns"]}
    assert features["clamp-10"] == features["clamp-12"] == results["feature"] == run["feature"]
    assert len(set(features.values())) == 4  # of which the spliced SAE's is none
    assert {entry["value"] for entry in run["candidates"]} == {12.0}
    kept = {file.name for file in (out / "eval" / "baseline").iterdir()}
    assert {"wildguard.baseline.0.json", "task.gsm8k.baseline.json"} <= kept
    for column in results["columns"]:
        part = json.loads((out / "eval" / column["name"] / "results.json").read_text("utf-8"))
        assert part["runs"]["steered"] == results["runs"][column["name"]]
        assert part["runs"]["baseline"] == results["runs"]["baseline"]
        assert part["steering"]["clamp"] == ([] if column["feature"] is None else [
            {"feature": column["feature"], "value": column["value"]}])
        assert part["steering"]["error"] == "drop"
    assert results["suites"]["wildguard"]["n"]["unsafe"] == 5


def test_benchmark_files_are_what_the_suites_read(tmp_path: Path) -> None:
    from sternpost.evaluation import Source, load_suites, spread

    suites, tasks = spread(["paper"])
    found = load_suites(suites, Source(Path(benchmark_files(tmp_path)), False, lambda name: {}),
                        None, 0)
    assert {one.suite.name: len(one.prompts) for one in found} == {
        "wildguard": 10, "xstest": 10, "crescendo": 10}
    assert tasks == ["mmlu", "truthfulqa_mc1", "gsm8k"]
