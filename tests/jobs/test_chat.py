"""`chat` with a pack speaks as the pack was measured: its system prompt, its template, its
variables; what the user gives goes before."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from conftest import TEMPLATE
from sternpost.gates import ResidualGate
from sternpost.packs.pack import Pack, load_pack
from sternpost.sae import SAE
from sternpost.store import PackFiles, write_pack
from sternpost.trials.load import state_sha256, weight_hashes
from sternpost.types import Hookpoint, Message, Request

HIGH = {"edits": [{"kind": "Clamp", "feature": 11, "value": 5.0}], "positions": "tail+response",
        "mode": "threshold", "error": "keep"}
OWN = "PACK{{ mood }} " + TEMPLATE
MINE = "MINE{{ mood }} " + TEMPLATE


@pytest.fixture
def pack(tiny_models: dict[str, str], tmp_path: Path) -> Pack:
    """A pack of the tiny Llama that was measured with another template than the model's."""
    model, tokenizer = sternpost.load_model(tiny_models["llama"])
    g = torch.Generator().manual_seed(0)
    W = torch.randn(40, 32, generator=g)
    sae = SAE(W, W.clone(), torch.zeros(40), torch.zeros(32), Hookpoint(1), k=4,
              threshold=torch.zeros(40), residual_norm=3.5)
    tail = tokenizer(tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True).rpartition(
            "x")[2], add_special_tokens=False)["input_ids"]
    body: dict[str, Any] = {
        "model": {"source": tiny_models["llama"], "revision": None, "dtype": "float32",
                  "files": weight_hashes(Path(tiny_models["llama"])),
                  "state_sha256": state_sha256(model)},
        "levels": {"off": {**HIGH, "edits": []}, "high": HIGH}, "tail": {"text": "", "ids": tail},
        "system": "Be brief.", "chat_template": OWN, "chat_template_kwargs": {"mood": "+"},
        "max_new_tokens": 4}
    write_pack(tmp_path / "pack", PackFiles(body, sae.rows([11]), ResidualGate(
        Hookpoint(0), torch.zeros(32), 0.0, 0.25), [], {"levels": {}}, {}, "# card"))
    return load_pack(tmp_path / "pack")


def heard(talk: Any) -> str:
    """What the model is given for a first message."""
    return talk.engine.render(Request((Message("user", "hi"),), "hi"))


def test_a_pack_brings_template_variables_and_system_prompt(pack: Pack) -> None:
    text = heard(sternpost.chat(pack=pack))
    assert text.startswith("PACK+ ")
    assert "Be brief." in text
    plain = heard(sternpost.chat(model=pack.source))
    assert "PACK" not in plain
    assert "Be brief." not in plain


@pytest.mark.parametrize(("more", "begins", "system"), [
    ({"system": "Be long."}, "PACK+ ", "Be long."),
    ({"chat_template_kwargs": '{"mood": "-"}'}, "PACK- ", "Be brief."),
    ({"chat_template": True}, "MINE+ ", "Be brief.")])
def test_what_the_user_gives_goes_before(pack: Pack, tmp_path: Path, more: dict[str, Any],
                                         begins: str, system: str) -> None:
    if "chat_template" in more:
        (tmp_path / "mine.jinja").write_text(MINE, encoding="utf-8")
        more = {"chat_template": str(tmp_path / "mine.jinja")}
    text = heard(sternpost.chat(pack=pack, **more))
    assert text.startswith(begins)
    assert system in text


def test_a_pack_without_a_template_speaks_by_the_models(pack: Pack) -> None:
    files = replace(pack.files, body={**pack.files.body, "chat_template": None, "system": None})
    bare = heard(sternpost.chat(pack=Pack(files, pack.path)))
    assert bare == heard(sternpost.chat(model=pack.source))


def test_it_is_steered_and_compared_in_one_voice(pack: Pack) -> None:
    talk = sternpost.chat(pack=pack, compare=True, max_new_tokens=3)
    turn = talk.send("hello")
    assert turn.proof is not None
    assert turn.proof.fired
    alone = sternpost.chat(pack=pack, level="off", max_new_tokens=3).send("hello")
    assert turn.unsteered == alone.reply


def test_a_templates_own_system_prompt_is_not_asked_of_the_models(pack: Pack,
                                                                  tmp_path: Path) -> None:
    """The model's template refuses system prompts; the pack's, which is spoken, takes one."""
    model, tokenizer = sternpost.load_model(pack.source)
    tokenizer.chat_template = ("{% if messages[0].role == 'system' %}"
                               "{{ raise_exception('no system prompts') }}{% endif %}" + TEMPLATE)
    tokenizer.save_pretrained(tmp_path / "stern")
    model.save_pretrained(tmp_path / "stern")
    body = {**pack.files.body, "model": {**pack.files.body["model"], "files": {}}}
    stern = Pack(replace(pack.files, body=body), pack.path)
    text = heard(sternpost.chat(model=str(tmp_path / "stern"), pack=stern, system="Be kind."))
    assert text.startswith("PACK+ ")
    assert "Be kind." in text
