"""Weights that are quantised, or that lie elsewhere until a block runs: steering is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sternpost import Clamp, load_model, steer
from subjects import VOCAB, close, llama, make_sae, stream

pytestmark = [pytest.mark.extras, pytest.mark.filterwarnings("ignore")]
EXTRA = "type: make extras"
IDS = torch.randint(1, VOCAB, (3, 9), generator=torch.Generator().manual_seed(2))
SAE_ = make_sae()


def quantised(tmp_path: Path) -> Any:
    torchao = pytest.importorskip("torchao.quantization", reason=EXTRA)
    torch.manual_seed(0)
    model = llama().eval()
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    return model


def offloaded(tmp_path: Path) -> Any:
    pytest.importorskip("accelerate", reason=EXTRA)
    torch.manual_seed(0)
    llama().save_pretrained(tmp_path / "model")
    _tokenizer().save_pretrained(tmp_path / "model")
    places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu",
              "lm_head": "cpu", **{f"model.layers.{n}": "disk" if n in (1, 2) else "cpu"
                                   for n in range(4)}}
    model = load_model(tmp_path / "model", device_map=places,
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


@pytest.mark.parametrize("make", [quantised, offloaded])
def test_the_edit_is_the_formula_in_every_row_and_token(make: Any, tmp_path: Path) -> None:
    model = make(tmp_path)
    logits, h = stream(model, IDS)
    want = h + (9.0 - SAE_.encode(h).dense()[..., 5:6]) * SAE_.W_dec[5]
    with steer(model, SAE_, [Clamp(5, 9.0)]) as run:
        got = stream(model, IDS)[1]
        alone = torch.cat([stream(model, IDS[row:row + 1])[1] for row in range(3)])
        cached, whole = reply(model, IDS), reply(model, IDS, use_cache=False)
    close(got, want)
    close(alone, got)
    assert torch.equal(cached, whole)
    assert not torch.equal(cached, reply(model, IDS))
    assert run.proof[0].positions == tuple(range(13))
    with steer(model, SAE_, []):
        assert torch.equal(stream(model, IDS)[0], logits)
