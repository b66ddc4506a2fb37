"""What a training takes: counted by hand; and the recipes that come with the repository."""

import json
from pathlib import Path
from typing import Any

import pytest

import sternpost
from sternpost.engines.shapes import shape_of
from sternpost.study.settings import is_study
from sternpost.training.recipe import Recipe
from sternpost.trials.settings import read_recipe, settings_from

RECIPES = [path for path in sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
           if not is_study(read_recipe(path))]


@pytest.fixture(scope="module")
def phi3(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Phi-3 Mini's config, without weights."""
    from transformers import Phi3Config

    folder = tmp_path_factory.mktemp("phi3")
    Phi3Config(vocab_size=32064, hidden_size=3072, intermediate_size=8192, num_hidden_layers=32,
               num_attention_heads=32, num_key_value_heads=32).save_pretrained(folder)
    return str(folder)


def test_a_shape_is_read_off_a_config(phi3: str) -> None:
    shape = shape_of(phi3)
    block = 4 * 3072 ** 2 + 3 * 3072 * 8192 + 2 * 3072
    assert (shape.d_model, shape.n_layers, shape.blocks) == (3072, 32, (block,) * 32)
    assert shape.parameters == 32 * block + 2 * 32064 * 3072 + 3072  # 3.8 billion
    assert shape.below(6) == 7 * block


def test_the_papers_setting(phi3: str) -> None:
    told = read_recipe(RECIPES[0])
    plan = sternpost.plan(**told | {"model": phi3})
    assert (plan.d_sae, plan.k, plan.layers, plan.d_model) == (24_576, 32, (6,), 3072)
    sae = 2 * 3072 * 24_576 + 24_576 + 3072
    assert plan.parameters["sae"] == sae
    tokens = plan.tokens
    assert plan.flop["saes"] == tokens * (2.0 * 3072 * 24_576 + 8 * 32 * 3072)
    assert plan.flop["model"] == 2.0 * shape_of(phi3).below(6) * tokens
    assert plan.memory["SAEs and optimiser"] == 16 * sae
    assert plan.disk["SAEs"] == 4 * sae
    assert plan.hours["NVIDIA H100 SXM"] < plan.hours["NVIDIA RTX 4090"]
    text = "\n".join(plan.lines())
    assert "3.82 B parameters" in text
    assert "24,576 features" in text
    assert json.loads(json.dumps(plan.as_dict()))["steps"] == tokens // 8192
    assert len(plan.to_pandas()) == len(plan.hours)


def test_what_grows_grows_in_proportion(phi3: str) -> None:
    told: dict[str, Any] = {"model": phi3, "layers": (6,), "tokens": 10_000_000}
    one = sternpost.plan(**told)
    ten = sternpost.plan(**told | {"tokens": 100_000_000})
    two = sternpost.plan(**told | {"layers": (6, 3)})
    assert one.d_sae == 8 * 3072
    assert ten.flop["model"] == pytest.approx(10 * one.flop["model"])
    assert ten.disk["harvested"] == 10 * one.disk["harvested"]
    assert ten.memory == one.memory
    assert two.flop["model"] == one.flop["model"]  # one pass for both
    assert two.flop["saes"] == 2 * one.flop["saes"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_is_one(path: Path) -> None:
    settings_from(Recipe, read_recipe(path), path.name)
    assert "Not stated in the paper" in path.read_text()


@pytest.mark.parametrize(("change", "match"), [
    ({"layers": (32,)}, "32 blocks, 0 to 31"), ({"model": "nowhere/at/all"}, "No model folder")])
def test_what_cannot_be_planned_is_named(phi3: str, change: dict[str, Any], match: str) -> None:
    with pytest.raises(sternpost.SternpostError, match=match):
        sternpost.plan(**{"model": phi3, "layers": (6,)} | change)
