"""Weights that are quantised, or that lie elsewhere until a block runs: steering is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sternpost import Clamp, load_model, steer
from subjects import D_SAE, SMALL, VOCAB, D, close, llama, make_sae, stream

pytestmark = [pytest.mark.extras, pytest.mark.filterwarnings("ignore")]
EXTRA = "type: make extras"
IDS = torch.randint(1, VOCAB, (3, 9), generator=torch.Generator().manual_seed(2))


def quantised(tmp_path: Path) -> Any:
    torchao = pytest.importorskip("torchao.quantization", reason=EXTRA)
    torch.manual_seed(0)
    model = llama().eval()
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    return model


def saved(folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SMALL | changes)).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def in_bits(tmp_path: Path, **how: Any) -> Any:
    pytest.importorskip("bitsandbytes", reason=EXTRA)
    from transformers import BitsAndBytesConfig

    wide = saved(tmp_path / "model", hidden_size=2 * D, intermediate_size=4 * D)
    model = load_model(wide, quantization_config=BitsAndBytesConfig(**how))[0]
    assert not model.get_submodule("model.layers.1.mlp.down_proj").weight.is_floating_point()
    return model


def in_8_bits(tmp_path: Path) -> Any:
    # with a threshold a batch shares its outlier columns, and the model itself mixes its rows
    return in_bits(tmp_path, load_in_8bit=True, llm_int8_threshold=0.0)


def in_4_bits(tmp_path: Path) -> Any:
    return in_bits(tmp_path, load_in_4bit=True, bnb_4bit_quant_type="nf4",
                   bnb_4bit_compute_dtype=torch.float32)


def offloaded(tmp_path: Path) -> Any:
    pytest.importorskip("accelerate", reason=EXTRA)
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu",
              "lm_head": "cpu", **{f"model.layers.{n}": "disk" if n in (1, 2) else "cpu"
                                   for n in range(4)}}
    model = load_model(saved(tmp_path / "model"), device_map=places,
                       offload_folder=str(tmp_path / "disk"))[0]
    assert model.get_submodule("model.layers.1.mlp.down_proj").weight.device.type == "meta"
    return model


def _tokenizer() -> Any:
    return load_model("dinghy")[1]


def reply(model: Any, ids: Tensor, **options: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5,
                                     do_sample=False, **options)
    return out


@pytest.mark.parametrize("make", [quantised, in_8_bits, in_4_bits, offloaded])
def test_the_edit_is_the_formula_in_every_row_and_token(make: Any, tmp_path: Path) -> None:
    model = make(tmp_path)
    sae = make_sae(**{name: torch.randn(*shape, generator=torch.Generator().manual_seed(1))
                      for name, shape in (("W_enc", (D_SAE, model.config.hidden_size)),
                                          ("W_dec", (D_SAE, model.config.hidden_size)),
                                          ("b_dec", (model.config.hidden_size,)))})
    logits, h = stream(model, IDS)
    want = h + (9.0 - sae.encode(h).dense()[..., 5:6]) * sae.W_dec[5]
    with steer(model, sae, [Clamp(5, 9.0)]) as run:
        got = stream(model, IDS)[1]
        alone = torch.cat([stream(model, IDS[row:row + 1])[1] for row in range(3)])
        cached, whole = reply(model, IDS), reply(model, IDS, use_cache=False)
    close(got, want)
    close(alone, got)
    assert torch.equal(cached, whole)
    assert not torch.equal(cached, reply(model, IDS))
    assert run.proof[0].positions == tuple(range(13))
    with steer(model, sae, []):
        assert torch.equal(stream(model, IDS)[0], logits)
