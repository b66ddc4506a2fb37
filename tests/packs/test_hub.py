"""Packs saved, pushed and fetched: byte for byte, checked by hash, from a Hub on this machine."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import sternpost
from hub import Hub
from sternpost.errors import EndpointError, InputError, PackError
from sternpost.packs.hub import pack_folder, readme
from sternpost.store import read_pack, write_pack
from sternpost.store.packs import FILES

CODE = """
import json, sys
import sternpost

mine = sternpost.load_pack(sys.argv[1])
out = {"pushed": mine.push_to_hub("me/my-pack", private=True, token="hf_secret")}
pack = sternpost.Pack.from_pretrained("me/my-pack")
out["same"] = pack.files.sha256 == mine.files.sha256
out["levels"] = pack.levels
out["path"] = str(sternpost.pack_path(name="me/my-pack"))
for name, ask in {"old": lambda: sternpost.load_pack("me/my-pack", sys.argv[2]),
                  "none": lambda: sternpost.load_pack("me/nothing"),
                  "broken": lambda: sternpost.load_pack("me/broken")}.items():
    try:
        out[name] = ask().card
    except sternpost.SternpostError as error:
        out[name] = f"{type(error).__name__}: {error}"
print(json.dumps(out))
"""


@dataclass(frozen=True)
class Pushed:
    """What a process with a Hub on this machine did, and what the Hub saw."""

    said: dict[str, Any]
    hub: Hub
    local: Path
    home: Path


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    root = tmp_path_factory.mktemp("hub")
    mine = read_pack(pack_folder("dinghy"))
    write_pack(root / "pack", replace(mine, evaluations=[{"kind": "calibration"}]))
    write_pack(root / "old", replace(mine, card="# Old", evaluations=()))
    with Hub() as hub:
        first = hub.commit("me/my-pack", {f.name: f.read_bytes() for f in
                                          (root / "old").iterdir()})
        broken = {f.name: f.read_bytes() for f in (root / "pack").iterdir()}
        hub.commit("me/broken", {**broken, "evaluations.json": broken["evaluations.json"] + b" "})
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(root / "home"),
               "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        done = subprocess.run([sys.executable, "-c", CODE, str(root / "pack"), first], env=env,
                              capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return Pushed(json.loads(done.stdout.splitlines()[-1]), hub, root / "pack", root / "home")


@pytest.mark.slow
def test_what_is_pushed_is_the_folder_and_a_readme(pushed: Pushed) -> None:
    first, last = pushed.hub.commits["me/my-pack"].values()
    assert {name: last[name] for name in FILES} == {
        name: (pushed.local / name).read_bytes() for name in FILES}
    assert set(last) == {*FILES, "README.md"}
    assert "evaluations.json" not in first
    assert last["README.md"].decode().startswith("---\nlibrary_name: sternpost\n")
    assert pushed.said["pushed"] == f"{pushed.hub.url}/me/my-pack/commit/" + list(
        pushed.hub.commits["me/my-pack"])[-1]
    (created,) = pushed.hub.created
    assert (created["organization"], created["name"]) == ("me", "my-pack")
    assert "private" in json.dumps(created)
    assert pushed.hub.tokens == {"Bearer hf_secret"}


@pytest.mark.slow
def test_what_is_fetched_is_what_was_pushed_and_no_more(pushed: Pushed) -> None:
    assert pushed.said["same"]
    assert pushed.said["levels"] == ["off", "low", "medium", "high", "max"]
    fetched = Path(pushed.said["path"])
    assert fetched.is_relative_to(pushed.home)
    assert sorted(f.name for f in fetched.iterdir()) == sorted(FILES)  # no README.md
    assert not [path for path in pushed.hub.asked if path.endswith("README.md")]


@pytest.mark.slow
def test_a_revision_is_heeded_and_hashes_are_checked(pushed: Pushed) -> None:
    assert pushed.said["old"] == "# Old"
    assert pushed.said["none"].startswith("PackError: No pack in a folder me/nothing, and the Hub")
    assert "evaluations.json is not the pack's" in pushed.said["broken"]


def test_offline_the_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "c" * 40
    repository = tmp_path / "models--me--kept"
    shutil.copytree(pack_folder("dinghy"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    pack = sternpost.load_pack("me/kept")
    assert pack.path == repository / "snapshots" / commit
    with pytest.raises(PackError, match=r"me/other, and the Hub gives none.*HF_HUB_OFFLINE"):
        sternpost.load_pack("me/other")
    with pytest.raises(PackError, match=r"at revision v9: "):
        sternpost.load_pack("me/kept", "v9")


@pytest.mark.parametrize("name", ["dinghy", "./here", "/nowhere"])
def test_a_revision_is_of_the_hub_alone(name: str) -> None:
    with pytest.raises(InputError, match="Leave the revision out"):
        sternpost.load_pack(name, "main")


@pytest.mark.parametrize("name", ["./a/b", "/no/where", "~/packs", "a/b/c", "name"])
def test_what_looks_like_a_path_is_not_asked_of_the_hub(name: str) -> None:
    with pytest.raises(PackError, match=r"No pack at .*it has no pack\.json"):
        sternpost.load_pack(name)


def test_save_and_load_again(tmp_path: Path) -> None:
    pack = sternpost.load_pack("dinghy")
    folder = pack.save_pretrained(tmp_path / "copy")
    again = sternpost.Pack.from_pretrained(folder)
    assert again.files.sha256 == pack.files.sha256
    assert again.path == folder == tmp_path / "copy"


# ---- what the Hub is told ------------------------------------------------------------------------

@pytest.mark.parametrize(("source", "base"), [
    ("org/model", "org/model"), ("org/model@abc", "org/model"), ("dinghy", None),
    ("./runs/mine/model", None), ("/models/mine", None)])
def test_the_front_matter_names_the_model_where_it_is_on_the_hub(source: str,
                                                                 base: str | None) -> None:
    text = readme({"model": {"source": source}}, 'load_pack("THIS FOLDER")\n', "me/pack")
    _, matter, body = text.split("---\n")
    told = yaml.safe_load(matter)
    assert told["library_name"] == "sternpost"
    assert {"sternpost", "refusal"} <= set(told["tags"])
    assert told.get("base_model") == base
    assert body == '\nload_pack("me/pack")\n'


def test_a_folder_of_that_name_is_no_model_of_the_hub(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "base_model" not in readme({"model": {"source": "org/model"}}, "", "me/pack")


def test_a_pack_that_changed_is_not_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", lambda *_, **__: pytest.fail("sent"))
    shutil.copytree(pack_folder("dinghy"), tmp_path / "pack")
    pack = sternpost.load_pack(tmp_path / "pack")
    (tmp_path / "pack" / "card.md").write_text("# Better")
    with pytest.raises(PackError, match=r"card\.md is not the pack's"):
        pack.push_to_hub("me/pack")


@pytest.mark.parametrize("name", ["pack", "a/b/c", "", "me/my pack"])
def test_a_name_that_the_hub_has_not(name: str) -> None:
    with pytest.raises(InputError, match=r"a Hub id such as org/name; got"):
        sternpost.load_pack("dinghy").push_to_hub(name)


def test_a_hub_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match=r"did not take the pack as me/pack.*HF_HUB_OFFLINE"):
        sternpost.load_pack("dinghy").push_to_hub("me/pack")  # tests are offline


# ---- where a pack lies ---------------------------------------------------------------------------

def test_pack_path_is_a_path_and_a_record(cli: Any, tmp_path: Path) -> None:
    place = sternpost.pack_path(name="dinghy")
    assert (Path(place) / "pack.json").is_file()
    assert place.to_pandas()["path"].tolist() == [str(place)]
    assert "pack" in place._repr_html_()
    said = cli("pack", "path", "dinghy")
    assert (said.code, said.out, said.err) == (0, f"{place}\n", "")
    shutil.copytree(place, tmp_path / "mine")
    assert cli("pack", "path", tmp_path / "mine").out == f"{tmp_path / 'mine'}\n"
    (tmp_path / "mine" / "card.md").write_text("x")
    for name, says in ((tmp_path, "it has no pack.json"), (tmp_path / "mine", "card.md is not")):
        said = cli("pack", "path", name)
        assert (said.code, said.out) == (2, "")
        assert says in said.err
