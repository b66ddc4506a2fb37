"""A study without its long parts: the order of the stages, what is kept and what begins again, its
control, its plan, its table. The whole of it runs in tests/cli/test_run_study.py."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluations import make_results, make_samples
from sternpost.assessment.settings import EvaluateSettings
from sternpost.engines.shapes import Shape
from sternpost.errors import InputError, OutputError
from sternpost.features.contrast import Contrast
from sternpost.files import read_jsonl, write_json
from sternpost.jobs import study as stages
from sternpost.jobs.result import RunResult
from sternpost.report.study import WIDE, study_text
from sternpost.study.control import ranked, topic_questions
from sternpost.study.plan import Work, columns_of, known_shape
from sternpost.study.prompts import write_prompts
from sternpost.study.settings import Study, is_study, study_from
from sternpost.training.plan import HARDWARE, REACHED
from sternpost.training.recipe import Recipe
from sternpost.trials.progress import Watch
from sternpost.trials.run_settings import RunSettings
from sternpost.trials.settings import read_recipe
from studies import RECIPE, SIZES, table
from subjects import make_sae

Told = Callable[..., Study]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """The paper's study on dinghy, with these changes."""
    def make(*changes: str) -> Study:
        named = [f"run.{kind}={tmp_path / kind}.jsonl" for kind in ("unsafe", "safe")]
        return study_from(read_recipe(RECIPE, [
            "model=dinghy", f"out={tmp_path / 'out'}", *SIZES, *named, *changes]), str(RECIPE))

    return make


# ---- the recipe ----------------------------------------------------------------------------------

def test_the_papers_recipe_is_the_paper() -> None:
    recipe = read_recipe(RECIPE)
    study = study_from(recipe, str(RECIPE))
    own = read_recipe(RECIPE.with_name("phi3-mini-layer6.toml"))
    assert study.train is not None
    for name in ("model", "layers", "kind", "k", "d_sae", "tokens", "corpus"):
        value = getattr(study.train, name)
        assert (list(value) if isinstance(value, tuple) else value) == own[name], name
    assert study.top.clamps == (10.0, 12.0)
    assert study.top.searched == 250
    assert {10.0, 12.0} <= set(study.run.values)
    assert study.run.error == study.evaluate.error == "drop"
    assert study.evaluate.names == ("paper",)
    assert columns_of(study) == ["clamp-10", "clamp-12", "splice-in", "philosophy-12", "random-12"]
    assert study.run.search_value == 12.0
    spliced = study.column("splice-in", None, None)
    assert (spliced.clamps, spliced.error) == ((), "drop")
    assert "Not stated in the paper" in RECIPE.read_text()
    assert is_study(recipe)
    assert not is_study(own)


def test_what_the_top_names_goes_to_all_and_a_table_wins(told: Told, tmp_path: Path) -> None:
    study = told("seed=3", "run.seed=4", "dtype=bfloat16", "evaluate.batch_size=2")
    train, run, evaluate = study.train, study.run, study.evaluate
    assert isinstance(train, Recipe)
    assert (train.seed, run.seed, evaluate.seed) == (3, 4, 3)
    assert {train.dtype, run.dtype, evaluate.dtype} == {"bfloat16"}
    assert (train.batch_size, evaluate.batch_size) == ("auto", "2")
    assert {train.model, run.model, evaluate.model} == {"dinghy"}
    assert run.sae == str(tmp_path / "out" / "train" / "layers.2")
    column = study.column("clamp-12", 7, 12.0)
    assert (column.sae, column.clamps) == (str(tmp_path / "out" / "run" / "sae"), ((7, 12.0),))
    assert column.out == str(tmp_path / "out" / "eval" / "clamp-12")
    assert all(one.resume for one in (train, run, column))


def test_an_sae_that_is_named_is_not_trained(told: Told) -> None:
    study = told("run.sae=elsewhere")
    assert study.train is None
    assert study.run.sae == "elsewhere"


def test_prompts_of_a_suite_are_split_for_the_run(told: Told, tmp_path: Path) -> None:
    table(tmp_path / "data/wildguard/wildguard_train.csv", [
        {"prompt": f"{label} request {n}", "prompt_harm_label": label, "subcategory": "some",
         "adversarial": "False"} for label in ("harmful", "unharmful") for n in range(60)])
    recipe = read_recipe(RECIPE, [f"out={tmp_path / 'out'}", f"data={tmp_path / 'data'}",
                                  "searched=10", "swept=30"])
    study = study_from(recipe, str(RECIPE))
    run = write_prompts(study)
    for kind, label in (("unsafe", "harmful"), ("safe", "unharmful")):
        rows = read_jsonl(Path(getattr(run, kind)))
        assert [row["split"] for row in rows] == ["search"] * 10 + ["test"] * 30
        assert all(row["prompt"].startswith(f"{label} ") for row in rows)
    first = Path(run.unsafe).read_bytes()
    assert Path(write_prompts(study).unsafe).read_bytes() == first


# ---- the stages ----------------------------------------------------------------------------------

class Stages:
    """Stands for the stages: notes that one ran, and writes what the study reads of it."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails = ""

    def note(self, name: str, out: str | None, body: dict[str, Any]) -> None:
        assert out is not None
        if (Path(out) / "results.json").is_file():  # as the stages themselves do
            return
        if name == self.fails:
            raise OutputError("the disk is full")
        self.ran.append(name)
        write_json(Path(out) / "results.json", body)

    def train(self, recipe: Recipe, watch: Watch) -> None:
        self.note("train", recipe.out, {})

    def tell(self, settings: RunSettings, watch: Watch) -> RunResult:
        self.note("run", settings.out, {"feature": 7, "layer": 2, "sae": {}, "warnings": ["w"]})
        return RunResult.read(settings.out)

    def controls(self, study: Study, feature: int, watch: Watch) -> dict[str, Any]:
        body = {"topic": "philosophy", "feature": 8, "random": 9, "warnings": []}
        self.note("control", str(study.top.folder / "control"), body)
        return body

    def evaluated(self, settings: EvaluateSettings, watch: Watch, *rest: Any) -> None:
        mine, shared = an_evaluation(len(settings.clamp)), an_evaluation(99)
        runs = mine["runs"] | {"baseline": shared["runs"]["baseline"]}
        self.note(Path(settings.out).name, settings.out, mine | {"runs": runs})


@cache
def an_evaluation(seed: int) -> dict[str, Any]:
    return make_results(make_samples(8, seed))


ALL = ["train", "run", "control", "clamp-10", "clamp-12", "splice-in", "philosophy-12",
       "random-12"]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stages:
    one = Stages()
    monkeypatch.setattr(stages, "train_recipe", one.train)
    monkeypatch.setattr(stages, "controls", one.controls)
    monkeypatch.setattr(stages, "evaluated", one.evaluated)
    monkeypatch.setattr(stages, "_check", lambda study: None)
    return one


def test_stages_run_in_order_and_a_finished_study_is_shown_again(told: Told,
                                                                 played: Stages) -> None:
    done = stages.studied(told(), Watch(), played.tell)
    assert isinstance(done, stages.StudyResult)
    assert played.ran == ALL
    assert [one["feature"] for one in done.results["columns"]] == [7, 7, None, 8, 9]
    assert done.results["left_out"] == {"crescendo": "no attacker was named: --set "
                                                     "evaluate.attacker=openai:MODEL"}
    assert "run: w" in done.results["warnings"]
    assert set(done.results["timing"]) == {"train", "run", "control", "evaluate"}
    assert len(done.to_pandas()) == sum(
        len(metrics) for metrics in done.results["runs"]["baseline"].values())
    again = stages.studied(told(), Watch(), played.tell)
    assert played.ran == ALL
    assert again.results == done.results


def test_an_interrupted_study_goes_on_where_it_was(told: Told, played: Stages) -> None:
    played.fails = "clamp-12"
    with pytest.raises(OutputError, match="disk"):
        stages.studied(told(), Watch(), played.tell)
    played.fails = ""
    with pytest.raises(OutputError, match="--resume"):
        stages.studied(told(), Watch(), played.tell)
    stages.studied(told("resume=true"), Watch(), played.tell)
    assert played.ran == ALL


@pytest.mark.parametrize(("change", "begins"), [
    ("evaluate.limit=3", "clamp-10"), ("topic=everyday", "control"),
    ("run.values=[8, 10, 12]", "run"), ("train.tokens=50000", "train"), ("seed=1", "train")])
def test_force_begins_again_at_the_first_stage_that_is_another(
        told: Told, played: Stages, change: str, begins: str) -> None:
    stages.studied(told(), Watch(), played.tell)
    with pytest.raises(OutputError, match="another run: it differs in"):
        stages.studied(told(change), Watch(), played.tell)
    played.ran.clear()
    stages.studied(told(change, "force=true"), Watch(), played.tell)
    columns = [name.replace("philosophy", "everyday") if "everyday" in change else name
               for name in ALL]
    assert played.ran == columns[ALL.index(begins):]


def test_another_clamp_is_one_more_column(told: Told, played: Stages) -> None:
    stages.studied(told("run.values=[8, 10, 12]"), Watch(), played.tell)
    played.ran.clear()
    stages.studied(told("run.values=[8, 10, 12]", "clamps=[8, 10, 12]", "force=true"), Watch(),
                   played.tell)
    assert played.ran == ["clamp-8"]


def test_force_of_the_same_study_begins_all_again_and_spares_what_is_not_ours(
        told: Told, played: Stages, tmp_path: Path) -> None:
    stages.studied(told(), Watch(), played.tell)
    stages.studied(told("force=true"), Watch(), played.tell)
    assert played.ran == 2 * ALL
    mine = tmp_path / "mine" / "train" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep")
    stages.studied(told(f"out={tmp_path / 'mine'}", "force=true"), Watch(), played.tell)
    assert mine.read_text() == "keep"


# ---- the control ---------------------------------------------------------------------------------

def test_the_topics_feature_is_the_one_that_tells_it_apart() -> None:
    sae = make_sae()
    contrast = Contrast(sae)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, sae.d_sae, generator=generator)
    sides = [n % 2 for n in range(64)]
    x[:, 3] += 5.0 * torch.tensor(sides)      # the topic's
    x[:, 5] += 1.0 * torch.tensor(sides)      # nearly
    x[:, 6] += 9.0 * (1 - torch.tensor(sides))  # the others'
    contrast.add_values(x, sides)
    found = ranked(contrast.result())
    assert [one["feature"] for one in found[:2]] == [3, 5]
    assert found[0]["auroc"] == 1.0
    assert found[0]["q"] <= 0.05
    assert 6 not in [one["feature"] for one in found]
    assert all(np.isfinite(one["d"]) and one["d"] > 0 for one in found)


def test_the_questions_that_come_with_the_recipe(told: Told) -> None:
    rows, sides = topic_questions(told())
    assert (len(rows), sum(sides)) == (64, 32)
    assert len({row.request.text for row in rows}) == 64
    lengths = [[len(row.request.text.split()) for row, side in zip(rows, sides, strict=True)
                if side == which] for which in (0, 1)]
    assert abs(np.mean(lengths[0]) - np.mean(lengths[1])) < 1  # of one form
    with pytest.raises(InputError, match="0 questions of category 'ethics' and 64 others"):
        topic_questions(told("topic=ethics"))


# ---- the plan ------------------------------------------------------------------------------------

def test_hours_are_the_formulas() -> None:
    half, _, bandwidth, _ = HARDWARE["NVIDIA L40S"]
    got = Work(1000, 320).times(10).hours(4_000_000, "NVIDIA L40S")
    flop = 2 * 4e6 * 13_200 / (REACHED * half * 1e12)
    moved = 2 * 4e6 * 3200 / 32 / (bandwidth * 1e9)
    assert got == pytest.approx((flop + moved) / 3600)


def test_a_stated_size_is_only_the_recipes_models(told: Told) -> None:
    paper = study_from(read_recipe(RECIPE), str(RECIPE))
    shape = known_shape(paper)
    assert isinstance(shape, Shape)
    block = 4 * 3072 ** 2 + 3 * 3072 * 8192 + 2 * 3072
    assert (shape.d_model, shape.blocks) == (3072, (block,) * 32)
    assert shape.parameters == 32 * block + 2 * 32064 * 3072 + 3072
    assert known_shape(told()).parameters == 2_132_096  # dinghy's own config
    assert known_shape(told("model=some/other")) is None


# ---- the table -----------------------------------------------------------------------------------

def test_the_table_is_the_papers(told: Told, played: Stages) -> None:
    done = stages.studied(told(), Watch(), played.tell)
    text = (done.path / "table.txt").read_text(encoding="utf-8")
    assert study_text(json.loads((done.path / "results.json").read_text())) == text
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDE
    runs = done.results["runs"]
    at = next(at for at, line in enumerate(lines) if "wildguard" in line.lower())
    for name in ("baseline", "clamp-10", "philosophy-12", "random-12"):
        figure = runs[name]["wildguard"]["refusal"]
        assert f"{100 * figure['hits'] / figure['n']:.1f} %" in lines[at]
    assert papers(lines[at:]) == ["≈58.3", "+32.32", "+37.69"]
    mmlu = next(at for at, line in enumerate(lines) if line.lower().startswith("mmlu"))
    assert papers(lines[mmlu:]) == ["68.80", "not stated", "35.98"]
    assert "crescendo has no figures: no attacker was named" in " ".join(text.split())
    empty = next(at for at, line in enumerate(lines) if line.startswith("crescendo"))
    assert papers(lines[empty:]) == ["55.92", "not stated", "-23.34"]


def papers(lines: list[str]) -> list[str]:
    """The last column of the first three lines."""
    return [line[-10:].strip() for line in lines[:3]]
