"""`sternpost chat` on a tiny model: talk, clamp, compare, stop."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from conftest import TEMPLATE, byte_tokenizer
from families import family
from sternpost.engines.architectures import ARCHITECTURES, Architecture
from sternpost.errors import InputError
from sternpost.jobs.chat import read_clamp
from sternpost.sae import SAE, save_sae
from sternpost.types import Hookpoint


@pytest.fixture
def sae(tmp_path: Path) -> str:
    g = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(48, 32, generator=g), dim=-1)
    save_sae(SAE(rows, rows, torch.zeros(48), torch.zeros(32), Hookpoint(1), k=4),
             tmp_path / "sae")
    return str(tmp_path / "sae")


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_clamp_changes_the_reply_and_compare_shows_both(tiny_models: Any, sae: str) -> None:
    talk = sternpost.chat(model=tiny_models["llama"], sae=sae, clamp="5=40", compare=True,
                          max_new_tokens=6)
    first, second = talk.send("hello"), talk.send("and now?")
    assert first.reply != first.unsteered
    assert first.proof.features == (5,)
    assert first.proof.after == pytest.approx((40.0,))
    assert len(second.proof.positions) > len(first.proof.positions)  # it remembers
    plain = sternpost.chat(model=tiny_models["llama"], max_new_tokens=6)
    assert plain.send("hello").reply == first.unsteered
    assert plain.send("and now?").reply == second.unsteered  # each side its own history
    assert plain.turns[0].unsteered is None
    assert list(talk.to_pandas()["user"]) == ["hello", "and now?"]


def test_on_the_command_line(cli: Any, tiny_models: Any, sae: str,
                             monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "hello\n\n")
    said = cli("chat", "--model", tiny_models["gpt2"], "--sae", sae, "--clamp", "5=40", "6=2.5",
               "--compare", "--max-new-tokens", 3)
    assert said.code == 0, said.err
    assert "steered" in said.out
    assert "unsteered" in said.out
    assert "-> 40.00" in said.out
    assert "-> 2.50" in said.out


def test_compare_shows_all_of_a_reply_without_spaces(cli: Any, tiny_models: Any,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    from sternpost.jobs.chat import Conversation

    reply = "".join(map(chr, range(0x4e00, 0x4e00 + 120)))  # each two columns wide
    monkeypatch.setattr(Conversation, "_say", lambda self, *args: (reply, None))
    monkeypatch.setenv("COLUMNS", "80")
    typed(monkeypatch, "hello\n\n")
    said = cli("chat", "--model", tiny_models["gpt2"], "--compare")
    assert said.code == 0, said.err
    assert all(said.out.count(sign) == 2 for sign in reply)


def test_without_clamps_it_is_the_model(cli: Any, tiny_models: Any,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "hello\n")  # and then the end of the input
    said = cli("chat", "--model", tiny_models["phi3"], "--max-new-tokens", 2)
    assert said.code == 0, said.err
    assert "unsteered" not in said.out


def test_ctrl_c_while_typing_is_130(cli: Any, tiny_models: Any,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    class Hands(io.StringIO):
        def readline(self, *_: Any) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Hands())
    assert cli("chat", "--model", tiny_models["llama"]).code == 130


@pytest.mark.parametrize("text", ["5", "5=", "=5", "five=5", "5=high", "5:5"])
def test_a_clamp_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="FEATURE=VALUE"):
        read_clamp(text)


@pytest.mark.parametrize(("clamp", "says"), [("48=1", "48"), ("-1=1", "-1"), ("5=nan", "nan")])
def test_a_clamp_out_of_range(cli: Any, tiny_models: Any, sae: str, clamp: str,
                              says: str) -> None:
    said = cli("chat", "--model", tiny_models["llama"], "--sae", sae, f"--clamp={clamp}")
    assert said.code == 2
    assert says in said.err
    assert "Traceback" not in said.err


# ---- doctor --------------------------------------------------------------------------------------

CHECKS = ["template", "positions", "hookpoint", "off", "bites", "causal", "generate", "cache",
          "chunks", "batch", "padding", "replies", "hooks"]


@pytest.mark.parametrize("name", ["phi3", "llama", "gpt2"])
def test_doctor_finds_nothing_wrong(cli: Any, tiny_models: Any, name: str) -> None:
    said = cli("doctor", "--model", tiny_models[name], "--json")
    assert said.code == 0, (said.out, said.err)
    body = json.loads(said.out)
    assert body.keys() == {"checks"}
    assert [check["name"] for check in body["checks"]] == CHECKS
    for check in body["checks"]:
        assert check.keys() == {"name", "ok", "detail"}
        assert check["ok"] is True
        assert check["detail"]
    assert ("no chat template" in said.out) == (name == "gpt2")


def test_doctor_in_lines_and_with_an_sae(cli: Any, tiny_models: Any, refuser: Any,
                                         tmp_path: Path) -> None:
    said = cli("doctor", "--model", tiny_models["llama"], "--layer", 2)
    assert said.code == 0
    lines = said.out.strip().splitlines()
    assert [line.split()[1] for line in lines] == CHECKS
    assert all(line.startswith("ok") for line in lines)
    assert "layers[2]" in said.out
    eye = torch.eye(32)
    save_sae(SAE(eye, eye, torch.zeros(32), torch.zeros(32), Hookpoint(3), k=16), tmp_path / "s")
    said = cli("doctor", "--model", tiny_models["llama"], "--sae", tmp_path / "s")
    assert said.code == 0, said.out
    assert "layers[3]" in said.out
    assert "FVU" in said.out


def test_what_is_no_message_and_no_length_is_said_so(tiny_models: Any) -> None:
    from sternpost import chat
    from sternpost.errors import InputError

    with pytest.raises(InputError, match="at least 1 token; got --max-new-tokens 0"):
        chat(model=tiny_models["llama"], max_new_tokens=0)
    with pytest.raises(InputError, match="UTF-8 text"):
        chat(model=tiny_models["llama"]).send("\udcff bad")


@pytest.mark.parametrize("as_json", [True, False])
def test_doctor_notices_steering_that_does_nothing(cli: Any, tiny_models: Any, as_json: bool,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    from sternpost.engines import steering

    monkeypatch.setattr(steering, "moved", lambda h, changes: h)
    said = cli("doctor", "--model", tiny_models["llama"], *(["--json"] if as_json else []))
    assert said.code == 2
    assert "Traceback" not in said.err
    assert "bites" in said.err
    if as_json:
        bad = {check["name"] for check in json.loads(said.out)["checks"] if not check["ok"]}
        assert bad >= {"bites", "causal"}
    else:
        assert "FAIL bites" in said.out


def test_doctor_notices_steering_that_is_off_by_a_little(cli: Any, tiny_models: Any,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    from sternpost.engines import steering

    moved = steering.moved
    monkeypatch.setattr(steering, "moved",
                        lambda h, changes: h + 1.01 * (moved(h, changes) - h))
    said = cli("doctor", "--model", tiny_models["llama"])
    assert said.code == 2
    assert "FAIL bites" in said.out


@pytest.mark.parametrize("name", ["mamba", "recurrent_gemma", "rwkv"])
def test_doctor_passes_where_the_row_says_what_is_lost(name: str, tmp_path: Path) -> None:
    model = family(name, vocab_size=6 + 256, eos_token_id=2)
    model.save_pretrained(tmp_path)
    byte_tokenizer(TEMPLATE).save_pretrained(tmp_path)
    found = {check.name: check for check in sternpost.doctor(model=str(tmp_path)).checks}
    assert all(check.ok for check in found.values()), found
    lost = {"mamba": "chunks", "recurrent_gemma": "padding", "rwkv": "padding"}[name]
    assert "sternpost refuses to steer it so" in found[lost].detail
    assert "the steered stream is off by" in found["cache"].detail


def test_doctor_fails_where_no_row_says_what_is_lost(tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "rwkv", Architecture("rwkv.blocks", "state"))
    family("rwkv", vocab_size=6 + 256, eos_token_id=2).save_pretrained(tmp_path)
    byte_tokenizer(TEMPLATE).save_pretrained(tmp_path)
    found = {check.name: check for check in sternpost.doctor(model=str(tmp_path)).checks}
    assert not found["padding"].ok
    assert "no row of the architecture table says so" in found["padding"].detail


def test_doctor_notices_blocks_that_are_not_called(cli: Any, tiny_models: Any,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    monkeypatch.setattr(LlamaDecoderLayer, "__call__", LlamaDecoderLayer.forward)
    said = cli("doctor", "--model", tiny_models["llama"])
    assert said.code == 2
    assert "FAIL bites" in said.out
    assert "never ran" in said.out
    assert "Traceback" not in said.err


def test_doctor_is_a_function_too(tiny_models: Any) -> None:
    found = sternpost.doctor(model=tiny_models["llama"])
    assert found.ok
    assert list(found.to_pandas().columns) == ["name", "ok", "detail"]
    assert "<table" in found._repr_html_()
