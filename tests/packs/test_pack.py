"""A pack is for one model: by its files, else by its weights; another type must prove itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import sternpost
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, PackError
from sternpost.gates import ResidualGate
from sternpost.judges import WordListJudge
from sternpost.packs.pack import Pack
from sternpost.sae import SAE
from sternpost.store import PackFiles, write_pack
from sternpost.trials.load import state_sha256, weight_hashes
from sternpost.types import Hookpoint, Message, Request, Sampling

HIGH = {"edits": [{"kind": "Clamp", "feature": 11, "value": 5.0}], "positions": "tail+response",
        "mode": "threshold", "error": "keep"}
WORDS = ("how do i bake a cake", "tell me a story")


@pytest.fixture(scope="module")
def model(tiny_models: dict[str, str]) -> Any:
    return sternpost.load_model(tiny_models["llama"])


@pytest.fixture
def pack(model: Any, tiny_models: dict[str, str], tmp_path: Path) -> Pack:
    """A pack for the tiny Llama whose gate always fires."""
    loaded, tokenizer = model
    torch.manual_seed(0)
    sae = SAE(torch.randn(40, 32), torch.randn(40, 32), torch.zeros(40), torch.zeros(32),
              Hookpoint(1), k=4, threshold=torch.rand(40), residual_norm=3.5)
    tail = tokenizer(tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True).rpartition(
            "x")[2], add_special_tokens=False)["input_ids"]
    body: dict[str, Any] = {
        "model": {"source": tiny_models["llama"], "revision": None, "dtype": "float32",
                  "files": weight_hashes(Path(tiny_models["llama"])),
                  "state_sha256": state_sha256(loaded)},
        "levels": {"off": {**HIGH, "edits": []}, "high": HIGH}, "tail": {"text": "", "ids": tail},
        "system": None, "max_new_tokens": 4}
    golden = [{"prompt": text, "messages": [{"role": "user", "content": text}],
               "verdicts": {"off": "compliance", "high": "compliance"}} for text in WORDS]
    write_pack(tmp_path / "pack", PackFiles(body, sae.rows([11]), ResidualGate(
        Hookpoint(0), torch.zeros(32), 0.0, 0.25), golden, {"levels": {}}, {}, "# card"))
    return sternpost.load_pack(tmp_path / "pack")


def said(model: Any, plan: Any) -> Any:
    loaded, tokenizer = model
    ids = tokenizer.apply_chat_template([{"role": "user", "content": WORDS[0]}],
                                        add_generation_prompt=True, return_tensors="pt")
    ids = ids if isinstance(ids, torch.Tensor) else ids["input_ids"]
    with torch.no_grad(), sternpost.steer(loaded, plan) as run:
        out = loaded.generate(ids, max_new_tokens=4, do_sample=False)
    return out, run.proof[0]


def test_a_level_steers_the_packs_model_and_off_does_not(pack: Pack, model: Any) -> None:
    assert pack.levels == ("off", "high")
    _, proof = said(model, pack.at("high"))
    assert proof.fired
    assert proof.features == (11,)
    assert proof.after[0] == 5.0
    assert proof.pack == pack.files.sha256
    out, quiet = said(model, pack.at("off"))
    assert quiet.positions == ()
    assert quiet.risk is None
    bare, _ = said(model, sternpost.Plan(pack.files.sae))
    assert torch.equal(out, bare)


def test_a_level_that_it_does_not_have_is_refused(pack: Pack) -> None:
    with pytest.raises(InputError, match="levels off, high; got 'max'"):
        pack.at("max")


def test_it_steers_without_a_tokenizer_at_hand(pack: Pack, tiny_models: dict[str, str],
                                               model: Any) -> None:
    """The tail's tokens are in the pack."""
    bare = AutoModelForCausalLM.from_pretrained(tiny_models["llama"]).eval()
    _, proof = said((bare, model[1]), pack.at("high"))
    assert proof.fired


def test_another_model_is_refused_by_name(pack: Pack, tiny_models: dict[str, str]) -> None:
    other, _ = sternpost.load_model(tiny_models["phi3"])
    with pytest.raises(PackError, match=r"another: config\.json, model\.safetensors differ"), \
            sternpost.steer(other, pack.at("high")):
        pass


def test_a_model_of_another_size_is_refused_by_name_too(pack: Pack) -> None:
    other, _ = sternpost.load_model("dinghy")  # 128 wide, the pack's rows are 32
    with pytest.raises(PackError, match=r"is for .*llama; the model .*dinghy.* is another: config"):
        sternpost.steer(other, pack.at("high"))


def test_a_model_in_memory_is_known_by_its_weights(pack: Pack, model: Any) -> None:
    loaded, _ = model
    twin = type(loaded)(loaded.config).eval()
    twin.load_state_dict(loaded.state_dict())
    twin.config._name_or_path = ""
    with sternpost.steer(twin, pack.at("high")):
        pass
    with torch.no_grad():
        next(iter(twin.parameters())).add_(1e-3)
    with pytest.raises(PackError, match="weights are others"), \
            sternpost.steer(twin, pack.at("high")):
        pass


def test_another_type_must_give_the_golden_verdicts(pack: Pack,
                                                    tiny_models: dict[str, str]) -> None:
    half, tokenizer = sternpost.load_model(tiny_models["llama"], dtype="bfloat16")
    requests = [Request((Message("user", text),), text) for text in WORDS]
    replies = TransformersEngine(half, Template(tokenizer)).generate(
        requests, pack._bare("high"), Sampling(4))
    verdicts = [judgement.verdict for judgement in WordListJudge()(replies)]

    def with_golden(found: list[Any]) -> Pack:
        golden = [{**row, "verdicts": {"high": verdict}}
                  for row, verdict in zip(pack.files.golden, found, strict=True)]
        return Pack(replace(pack.files, golden=golden), pack.path)

    with sternpost.steer(half, with_golden(verdicts).at("high")):
        pass
    with pytest.raises(PackError, match="2 of 2 golden prompts give other verdicts"), \
            sternpost.steer(half, with_golden(["refusal"] * 2).at("high")):
        pass


def test_the_engine_asks_too(pack: Pack, tiny_models: dict[str, str]) -> None:
    other, tokenizer = sternpost.load_model(tiny_models["phi3"])
    engine = TransformersEngine(other, Template(tokenizer))
    with pytest.raises(PackError, match="is another"):
        engine.generate([Request((Message("user", "hi"),), "hi")], pack.at("high"), Sampling(2))


def test_chat_shows_what_the_gate_decided(pack: Pack) -> None:
    talk = sternpost.chat(pack=str(pack.path), max_new_tokens=3)
    turn = talk.send("hello")
    assert turn.proof is not None
    assert turn.proof.fired
    assert talk.to_pandas()["risk"].tolist() == [0.5]
    with pytest.raises(InputError, match="brings its own"):
        sternpost.chat(pack=str(pack.path), sae="x")
    with pytest.raises(InputError, match="Which model"):
        sternpost.chat()
