"""Packs: what is written comes back; what was changed, lost or newer is refused by name."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sternpost.errors import OutputError, PackError, SchemaError
from sternpost.gates import ResidualGate
from sternpost.sae import SAE
from sternpost.store import PackFiles, copy_pack, read_pack, write_pack
from sternpost.store.packs import FILES
from sternpost.types import Hookpoint

DIRECTIONS = (torch.arange(8.0), torch.linspace(-1, 1, 8))


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
        {"baseline": {}, "levels": {"off": {}}}, {"test": ["ab"]}, "# A pack\n",
        directions=DIRECTIONS, evaluations=[{"kind": "calibration", "n": 3}]))
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
    assert all(map(torch.equal, pack.directions, DIRECTIONS))
    assert list(pack.evaluations) == [{"kind": "calibration", "n": 3}]
    assert re.fullmatch("[0-9a-f]{64}", pack.sha256)
    assert sorted(p.name for p in written.iterdir()) == sorted(FILES)
    assert not list(written.parent.glob(".*"))


def test_a_gate_that_reads_replies_comes_back_beside_the_other(written: Path,
                                                               tmp_path: Path) -> None:
    pack = read_pack(written)
    assert pack.follows is None
    assert "continuation" not in pack.body
    more = ResidualGate(Hookpoint(2), torch.arange(8.0), -0.5, 0.9)
    write_pack(tmp_path / "other", replace(pack, follows=more))
    again = read_pack(tmp_path / "other")
    assert isinstance(again.follows, ResidualGate)
    assert torch.equal(again.follows.w, more.w)
    assert (again.follows.hookpoint, again.follows.b, again.follows.threshold) == (
        Hookpoint(2), -0.5, 0.9)
    assert isinstance(again.gate, ResidualGate)
    assert isinstance(pack.gate, ResidualGate)
    assert torch.equal(again.gate.w, pack.gate.w)
    write_pack(tmp_path / "third", replace(again, follows=None))
    assert read_pack(tmp_path / "third").sha256 == pack.sha256


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


def test_a_flipped_byte_of_a_direction_is_refused(written: Path) -> None:
    file = written / "features.safetensors"
    whole = bytearray(file.read_bytes())
    at = whole.index(torch.arange(8.0).numpy().tobytes()) + 9
    whole[at] ^= 1
    file.write_bytes(bytes(whole))
    with pytest.raises(PackError, match=r"features\.safetensors is not the pack's"):
        read_pack(written)


def test_what_is_not_listed_is_not_read(written: Path) -> None:
    """Nobody hashed it."""
    write_pack(written, replace(read_pack(written), evaluations=()))
    (written / "evaluations.json").write_text('{"evaluations": [{"kind": "made up"}]}')
    assert list(read_pack(written).evaluations) == []


# ---- copies --------------------------------------------------------------------------------------

def test_a_copy_is_the_pack_byte_for_byte(written: Path, tmp_path: Path) -> None:
    copy = copy_pack(read_pack(written), tmp_path / "not" / "yet" / "there")
    assert {f.name: f.read_bytes() for f in copy.iterdir()} == {
        f.name: f.read_bytes() for f in written.iterdir()}


def test_a_copy_over_a_pack_leaves_nothing_of_that_and_all_that_is_not_its(
        written: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_pack(other, replace(read_pack(written), evaluations=(), card="# Other"))
    shutil.copytree(written, tmp_path / "target")
    (tmp_path / "target" / "README.md").write_text("mine")
    copy_pack(read_pack(other), tmp_path / "target")
    assert read_pack(tmp_path / "target").card == "# Other"
    assert sorted(f.name for f in (tmp_path / "target").iterdir()) == sorted(
        {*FILES, "README.md"} - {"evaluations.json"})


def test_no_copy_into_a_folder_of_other_things(written: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "card.md").write_text("mine")
    with pytest.raises(OutputError, match="holds no pack"):
        copy_pack(read_pack(written), tmp_path / "home")
    assert (tmp_path / "home" / "card.md").read_text() == "mine"


def test_a_pack_that_changed_since_it_was_read_is_not_copied(written: Path,
                                                             tmp_path: Path) -> None:
    pack = read_pack(written)
    (written / "card.md").write_text("# Better\n")
    with pytest.raises(PackError, match=r"card\.md is not the pack's"):
        copy_pack(pack, tmp_path / "copy")
    write_pack(written, replace(pack, card="# Better\n"))
    with pytest.raises(PackError, match="another than the one that was loaded"):
        copy_pack(pack, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
