"""The table of public SAEs: chat models first, found by a part of the model's name."""

from typing import Any

import pytest

import sternpost
from sternpost.errors import InputError


def test_those_of_chat_models_come_first_and_every_row_is_whole() -> None:
    saes = sternpost.sae_list().saes
    trained = [sae.chat for sae in saes]
    assert trained == sorted(trained, reverse=True)
    assert True in trained
    assert False in trained
    for sae in saes:
        assert sae.model
        assert "/" in sae.repository
        assert sae.ids or sae.layers
    assert len({(sae.repository, sae.ids) for sae in saes}) == len(saes)


def test_a_model_is_found_by_its_id_or_a_part_of_it() -> None:
    (goodfire, andyrdt) = sternpost.sae_list(model="meta-llama/Llama-3.1-8B-Instruct").saes
    assert goodfire.repository == "Goodfire/Llama-3.1-8B-Instruct-SAE-l19"
    assert andyrdt.repository == "andyrdt/saes-llama-3.1-8b-instruct"
    assert len(sternpost.sae_list(model="phi").saes) == 2
    assert list(sternpost.sae_list(model="phi").to_pandas()["layers"]) == ["21 to 23", "16"]
    with pytest.raises(InputError, match=r"No public SAE of 'none/such'.*Known: "):
        sternpost.sae_list(model="none/such")


def test_on_the_command_line(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = cli("sae", "list", "--model", "phi-3")
    assert said.code == 0, said.err
    assert "analist/SAE-Phi-3-mini-4k-instruct" in said.out
    assert "chat" in said.out
    assert "Llama" not in said.out
    assert cli("sae", "list", "--model", "none").code == 2
