"""How large a model is, as results.json says it."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Phi3Config

from families import FAMILIES, FAST, family
from sternpost.engines.shapes import shape_entry
from sternpost.evaluation.paper import is_papers_model


def of_phi3(**changes: object) -> dict[str, object]:
    """The shape of Phi-3 Mini, whose sizes are its config's own defaults, without its weights."""
    with torch.device("meta"):
        return shape_entry(AutoModelForCausalLM.from_config(Phi3Config(**changes)))


def test_phi_3_mini_has_its_published_shape_and_is_known_by_it() -> None:
    shape = of_phi3()
    assert shape == {"architecture": "Phi3ForCausalLM", "n_layers": 32, "d_model": 3072,
                     "vocabulary": 32064, "context": 4096, "parameters": 3_821_079_552}
    assert is_papers_model("/models/anything", shape)


@pytest.mark.parametrize("change", [
    {"vocab_size": 200_064}, {"max_position_embeddings": 131_072}, {"num_hidden_layers": 8}])
def test_its_relatives_are_not_taken_for_it(change: dict[str, object]) -> None:
    """Phi-4-mini's vocabulary, Phi-3.5-mini's context, fewer blocks."""
    assert not is_papers_model("/models/anything", of_phi3(**change))


@pytest.mark.parametrize("name", [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES])
def test_every_architecture_says_its_shape(name: str) -> None:
    model = family(name)
    shape = shape_entry(model)
    assert shape["architecture"] == type(model).__name__
    assert shape["parameters"] == sum(p.numel() for p in model.parameters())
    assert (shape["context"] is None) == ("why" in shape)
    assert model.get_input_embeddings().weight.shape == (shape["vocabulary"], shape["d_model"])
