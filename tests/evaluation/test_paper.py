"""The paper's figures: what it states, and how ours stand beside them."""

import pytest

from sternpost.evaluation.paper import (
    against,
    benchmark_of,
    figures,
    in_paper,
    is_papers_model,
    paper,
    papers_clamp,
    stated,
)


def test_the_stated_figures_are_those_of_the_paper() -> None:
    said = {(f.benchmark, f.metric, f.clamp): (f.value, f.change) for f in figures()}
    assert said["wildguard", "refusal", 10] == (None, 32.32)
    assert said["wildguard", "refusal", 12] == (None, 37.69)
    assert said["wildguard", "over_refusal", 10] == (40.63, None)
    assert said["xstest", "over_refusal", 10] == (36.40, None)
    assert said["crescendo", "attack_success", 12] == (None, -23.34)
    assert [said[name, "capability", 12][0] for name in ("mmlu", "truthfulqa", "gsm8k")] == \
        [35.98, 53.82, 35.56]
    assert [said[name, "capability", None][0] for name in ("mmlu", "truthfulqa", "gsm8k")] == \
        [68.80, 65.00, 82.50]


def test_every_figure_has_one_number_and_a_source() -> None:
    for figure in figures():
        assert (figure.value is None) != (figure.change is None)
        assert "2411.11296" in figure.source
        assert in_paper(figure.benchmark, figure.metric)
        assert figure.clamp is None or figure.clamp in paper()["clamps"]
        assert figure.value is None or 0 <= figure.value <= 100


def test_what_is_not_stated_is_none() -> None:
    assert stated("xstest", "over_refusal", 12) is None
    assert stated("mmlu", "capability", 10) is None
    assert in_paper("xstest", "over_refusal")
    assert not in_paper("harmbench", "refusal")


SIZES = {"architecture": "Phi3ForCausalLM", "n_layers": 32, "d_model": 3072, "vocabulary": 32064,
         "context": 4096, "parameters": 3_821_079_552}


@pytest.mark.parametrize(("name", "shape", "yes"), [
    ("microsoft/Phi-3-mini-4k-instruct", None, True), ("/models/phi3_mini", None, True),
    ("microsoft/Phi-3.5-mini-instruct", None, False), ("dinghy", None, False),
    ("/models/mine", SIZES, True),
    ("/models/mine", {**SIZES, "n_layers": 2}, False),
    ("/models/mine", {**SIZES, "vocabulary": 200_064}, False),
    ("/models/mine", {**SIZES, "context": 131_072}, False),
    ("/models/mine", {**SIZES, "parameters": 2_009_140_224}, True),
    ("microsoft/Phi-3-mini-128k-instruct", {**SIZES, "context": 131_072}, True),
    ("/models/tiny-phi-3-mini", {**SIZES, "d_model": 32}, False),
    ("Phi-3.5-mini", SIZES, False)])
def test_the_papers_model_is_known_by_name_and_shape(name: str, shape: dict[str, object] | None,
                                                     yes: bool) -> None:
    assert is_papers_model(name, shape) is yes


def test_a_part_of_a_benchmark_is_not_the_benchmark() -> None:
    assert benchmark_of("WildGuard-Test") == "wildguard"
    assert benchmark_of("truthfulqa_mc2") == "truthfulqa"
    assert benchmark_of("mmlu_anatomy") is None


def test_only_a_single_clamp_at_one_of_its_values_is_compared() -> None:
    assert papers_clamp([{"feature": 1, "value": 12.0}]) == 12
    assert papers_clamp([{"feature": 1, "value": 11.0}]) is None
    assert papers_clamp([{"feature": 1, "value": 12.0}, {"feature": 2, "value": 12.0}]) is None
    assert papers_clamp([]) is None
    assert papers_clamp(None) is None


def test_difference_and_cover_by_hand() -> None:
    rise, rate = stated("wildguard", "refusal", 12), stated("mmlu", "capability", 12)
    assert rise is not None
    assert rate is not None
    near = against(rise, None, {"delta": .40, "low": .35, "high": .45})
    assert near is not None
    assert near.difference == pytest.approx(40 - 37.69)
    assert near.covered
    far = against(rate, {"hits": 60, "n": 100, "low": .5, "high": .69}, None)
    assert far is not None
    assert far.difference == pytest.approx(60 - 35.98)
    assert far.covered is False
    assert against(rise, {"hits": 60, "n": 100, "low": .5, "high": .69}, None) is None
