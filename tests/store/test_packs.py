"""Packs: what is written comes back; what was changed, lost or newer is refused by name."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sternpost.errors import PackError, SchemaError
from sternpost.gates import ResidualGate
from sternpost.sae import SAE
from sternpost.store import PackFiles, read_pack, write_pack
from sternpost.types import Hookpoint

FILES = ("pack.json", "features.safetensors", "gate.safetensors", "golden.jsonl", "levels.json",
         "splits.json", "card.md")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    whole = SAE(torch.randn(40, 8), torch.randn(40, 8), torch.randn(40), torch.randn(8),
                Hookpoint(2), k=4, threshold=torch.rand(40), residual_norm=3.5)
    body: dict[str, Any] = {
        "model": {"source": "some/model", "revision": None, "files": {}, "state_sha256": "",
                  "dtype": "float32"},
        "levels": {"off": {}, "high": {}}, "tail": {"text": "\n", "ids": [3]}}
    gate = ResidualGate(Hookpoint(1), torch.randn(8), 0.25, 0.75)
    write_pack(tmp_path / "pack", PackFiles(
        body, whole.rows([7, 31]), gate, [{"prompt": "x", "verdicts": {"off": "compliance"}}],
        {"baseline": {}, "levels": {"off": {}}}, {"test": ["ab"]}, "# A pack\n"))
    return tmp_path / "pack"


def test_a_pack_comes_back_as_it_was_written(written: Path) -> None:
    pack = read_pack(written)
    torch.manual_seed(0)
    W_enc, W_dec = torch.randn(40, 8), torch.randn(40, 8)
    assert torch.equal(pack.sae.W_enc, W_enc[[7, 31]])
    assert torch.equal(pack.sae.W_dec, W_dec[[7, 31]])
    assert pack.sae.ids == (7, 31)
    assert (pack.sae.row_of(31), pack.sae.row_of(1)) == (1, None)
    assert (pack.sae.hookpoint, pack.sae.residual_norm) == (Hookpoint(2), 3.5)
    assert (pack.gate.hookpoint, pack.gate.b, pack.gate.threshold) == (Hookpoint(1), 0.25, 0.75)
    assert pack.golden[0]["verdicts"] == {"off": "compliance"}
    assert pack.splits["test"] == ["ab"]
    assert pack.card == "# A pack\n"
    assert re.fullmatch("[0-9a-f]{64}", pack.sha256)
    assert sorted(p.name for p in written.iterdir()) == sorted(FILES)
    assert not list(written.parent.glob(".*"))


def test_rows_of_an_sae_that_normalises_tokens_still_do(written: Path, tmp_path: Path) -> None:
    pack = read_pack(written)
    write_pack(tmp_path / "other", replace(pack, sae=replace(pack.sae, per_token="layer_norm")))
    assert read_pack(tmp_path / "other").sae.per_token == "layer_norm"
    assert pack.sae.per_token is None


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_byte_is_refused_wherever_it_is(written: Path, name: str) -> None:
    whole = (written / name).read_bytes()
    step = max(1, len(whole) // 25)
    for at in range(0, len(whole), step):
        for bit in (0, 5):
            (written / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit])
                                         + whole[at + 1:])
            with pytest.raises(PackError, match=re.escape(name)):
                read_pack(written)
    (written / name).write_bytes(whole)
    read_pack(written)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(written: Path, name: str) -> None:
    (written / name).unlink()
    with pytest.raises(PackError, match=re.escape(name)):
        read_pack(written)


def test_a_newer_schema_is_refused_and_says_what_to_type(written: Path) -> None:
    body = json.loads((written / "pack.json").read_text())
    body["schema_version"] = 99
    (written / "pack.json").write_text(json.dumps(body))
    with pytest.raises(SchemaError, match=r"schema_version 99.*pip install --upgrade"):
        read_pack(written)


def test_a_file_beyond_the_folder_is_refused(written: Path) -> None:
    from sternpost.store.packs import _name

    body = json.loads((written / "pack.json").read_text())
    body["files"]["../secret"] = "00"
    body["sha256"] = _name(body)
    (written / "pack.json").write_text(json.dumps(body))
    with pytest.raises(PackError, match=r"'\.\./secret', which is no file of its folder"):
        read_pack(written)


def test_a_folder_without_a_pack_says_what_a_pack_is(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"no pack\.json"):
        read_pack(tmp_path)


def test_an_old_pack_is_replaced_whole(written: Path) -> None:
    first = read_pack(written)
    (written / "stray.txt").write_text("left over")
    write_pack(written, replace(first, card="# Another\n"))
    again = read_pack(written)
    assert again.card == "# Another\n"
    assert again.sha256 != first.sha256
    assert not (written / "stray.txt").exists()


def test_a_copied_pack_keeps_its_name(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "elsewhere")
    assert read_pack(tmp_path / "elsewhere").sha256 == read_pack(written).sha256
