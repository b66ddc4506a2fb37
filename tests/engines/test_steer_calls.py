"""How a `generate` is spelled, what is refused, and what is left on the model afterwards."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from sternpost import Add, Clamp, steer
from sternpost.activations import find_t_inst
from sternpost.errors import EditError
from sternpost.sae import SAE
from sternpost.types import Hookpoint

PROMPT = torch.tensor([[5, 6, 7, 8]])
EDITS = [Clamp(5, 6.0)]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
                         num_attention_heads=4, eos_token_id=None, bos_token_id=None,
                         pad_token_id=0, initializer_range=0.3)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def sae() -> SAE:
    torch.manual_seed(1)
    return SAE(torch.randn(96, 32), torch.randn(96, 32), torch.zeros(96), torch.zeros(32),
               Hookpoint(1), k=8)


REFUSED = {"guidance_scale": 3.0, "prompt_lookup_num_tokens": 3, "assistant_early_exit": 2,
           "penalty_alpha": 0.6, "dola_layers": "high"}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("spelling", ["keyword", "config", "positional", "model",
                                      "model under a config"])
def test_what_cannot_be_steered_is_refused_however_it_is_spelled(
        model: Any, sae: SAE, name: str, spelling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = GenerationConfig(max_new_tokens=3, pad_token_id=0)
    other = GenerationConfig(max_new_tokens=3, pad_token_id=0)
    setattr(other, name, REFUSED[name])
    with torch.no_grad(), steer(model, sae, EDITS), pytest.raises(EditError, match=name):
        if spelling == "keyword":
            model.generate(PROMPT, generation_config=plain, **{name: REFUSED[name]})
        elif spelling == "config":
            model.generate(PROMPT, generation_config=other)
        elif spelling == "positional":
            model.generate(PROMPT, other)
        else:
            monkeypatch.setattr(model, "generation_config", other)
            model.generate(PROMPT, **({} if spelling == "model" else {"generation_config": plain}))


def test_beams_and_end_token_are_read_from_a_positional_config(model: Any, sae: SAE) -> None:
    how = GenerationConfig(max_new_tokens=6, pad_token_id=0, num_beams=2, do_sample=False)
    with torch.no_grad(), steer(model, sae, EDITS, positions="response") as one:
        a = model.generate(PROMPT, how)
    with torch.no_grad(), steer(model, sae, EDITS, positions="response") as two:
        b = model.generate(PROMPT, generation_config=how)
    assert torch.equal(a, b)
    assert one.proof == two.proof


def test_a_refused_generate_leaves_nothing_behind(model: Any, sae: SAE) -> None:
    edits = [[Clamp(5, 6.0)], [Clamp(9, -7.0)]]
    batch = torch.tensor([[5, 6, 7, 8, 9, 10], [1, 2, 3, 4, 9, 4]])
    with torch.no_grad(), steer(model, sae, edits, positions="last(1)"):
        want = model(batch).logits
    with torch.no_grad(), steer(model, sae, edits, positions="last(1)") as run:
        with pytest.raises(EditError, match="2 lists"):
            model.generate(batch[:1, :3], max_new_tokens=2)
        assert torch.equal(model(batch).logits, want)
    assert [proof.positions for proof in run.proof] == [(5,), (5,)]


@pytest.mark.parametrize("name", ["generate_batch", "init_continuous_batching"])
def test_packed_prompts_are_refused(model: Any, sae: SAE, name: str) -> None:
    if not hasattr(model, name):
        pytest.skip(f"this transformers has no {name}")
    with steer(model, sae, EDITS), pytest.raises(EditError, match="Continuous batching"):
        getattr(model, name)([[5, 6, 7]])
    assert name not in model.__dict__


@pytest.mark.parametrize("inner_first", [True, False])
def test_blocks_left_in_any_order_leave_the_model_as_it_was(model: Any, sae: SAE,
                                                            inner_first: bool) -> None:
    outer, inner = steer(model, sae, EDITS), steer(model, sae, [Clamp(9, 2.0)],
                                                   positions="last(1)+response")
    how: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
    with torch.no_grad():
        with steer(model, sae, [Clamp(9, 2.0)], positions="last(1)+response"):
            want = model.generate(PROMPT, **how)
        outer.__enter__()
        inner.__enter__()
        first, second = (inner, outer) if inner_first else (outer, inner)
        first.__exit__(None, None, None)
        if not inner_first:
            assert torch.equal(model.generate(PROMPT, **how), want)
        second.__exit__(None, None, None)
    assert "generate" not in model.__dict__
    assert not model.model.layers[1]._forward_hooks


@pytest.mark.parametrize("value", [1e39, -1e39, float("inf"), float("nan")])
def test_a_value_beyond_float32_is_refused(model: Any, sae: SAE, value: float) -> None:
    for edit in (Clamp(5, value), Add(5, value, unit="raw")):
        with pytest.raises(EditError, match="finite number"):
            steer(model, sae, [edit])


def test_feature_ids_of_numpy_are_feature_ids(model: Any, sae: SAE) -> None:
    def logits(feature: Any) -> torch.Tensor:
        with torch.no_grad(), steer(model, sae, [Clamp(feature, np.float32(2.0)),
                                                 Add(feature, 1.0, unit="raw")]) as run:
            out = model(PROMPT).logits
        assert run.proof[0].features == (3, 3)
        assert all(type(f) is int for f in run.proof[0].features)
        return out

    assert torch.equal(logits(np.int64(3)), logits(3))


def test_a_template_that_ends_with_the_message_has_an_empty_tail() -> None:
    def decode(ids: Any) -> str:
        return "".join("abcdef"[i] for i in ids)

    assert find_t_inst([0, 1, 2], decode, "") == 2
    assert find_t_inst([0, 1, 2], decode, "c") == 1
