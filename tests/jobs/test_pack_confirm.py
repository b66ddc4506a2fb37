"""`pack confirm`: a pack's levels on prompts that it has not seen, with its own judge."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sternpost
from sternpost.dinghy import confirm_prompts, levels, splits
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, LeakageError, ModelError, PackError
from sternpost.files import sha256_text
from sternpost.jobs import pack_confirm as job
from sternpost.packs import prompts as pack_prompts
from sternpost.packs.settings import ConfirmSettings
from sternpost.prompts import check_disjoint
from sternpost.store import write_pack

Rewrite = Callable[..., Path]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few prompts, and none that are known from training: telling those takes ten seconds."""
    monkeypatch.setattr(splits, "CONFIRM", 0.05)
    monkeypatch.setattr(splits, "CONFIRM_TASKS", 1)
    monkeypatch.setattr(pack_prompts, "trained_on", lambda name: [])


@pytest.fixture
def rewritten(tmp_path: Path) -> Rewrite:
    """dinghy's pack with something in pack.json changed."""
    def make(**changes: Any) -> Path:
        files = sternpost.load_pack("dinghy").files
        write_pack(tmp_path / "rewritten", replace(files, body={**files.body, **changes}))
        return tmp_path / "rewritten"

    return make


def model_of(**changes: Any) -> dict[str, Any]:
    return {**sternpost.load_pack("dinghy").files.body["model"], **changes}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- the command ---------------------------------------------------------------------------------

def test_it_writes_levels_jsons_schema(small: None, cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "levels.json"
    said = cli("pack", "confirm", "dinghy", "--seed", 3, "--out", out)
    assert said.code == 0, said.err
    assert left_in(tmp_path) == ["levels.json"]
    found, pack = json.loads(out.read_text()), sternpost.load_pack("dinghy")
    assert found.keys() == {"schema_version", "baseline", "levels", "provenance"}
    assert list(found["levels"]) == ["off", "low", "medium", "high", "max"]
    for level in (found["baseline"], *found["levels"].values()):
        assert level.keys() == pack.costs["baseline"].keys() - {"build_ups"}
        assert level["unsafe_refusal"]["n"] == 12
        assert level["over_refusal"]["n"] == 16
        assert level["capability"]["n"] == 10
    assert found["levels"]["off"] == found["baseline"]
    assert found["levels"]["high"]["unsafe_refusal"]["hits"] > \
        found["baseline"]["unsafe_refusal"]["hits"]
    told = found["provenance"]
    assert told["pack"] == pack.files.sha256
    assert told["prompts"]["unsafe"] == {"n": 14, "clusters": told["prompts"]["unsafe"]["clusters"]}
    assert "does not keep the perplexity" not in said.out
    for text in ("baseline", "high", "in the pack", "unsafe", str(out)):
        assert text in said.out
    assert "\noff " not in said.out  # it is the baseline


def test_the_same_command_shows_its_table_again(small: None, cli: Any, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("pack", "confirm", "dinghy", "--out", tmp_path / "f.json", "--seed")
    first = cli(*words, 3)
    monkeypatch.setattr("sternpost.packs.pack.load_model",
                        lambda *_, **__: pytest.fail("loaded again"))
    again = cli(*words, 3)
    assert (again.code, again.out) == (0, first.out)
    shown = cli(*words, 3, "--json")
    assert json.loads(shown.out) == json.loads((tmp_path / "f.json").read_text())
    other = cli(*words, 4)
    assert other.code == 2
    assert "differs in seed. Give another file with --out, or type --force" in other.err
    assert left_in(tmp_path) == ["f.json"]


def test_python_gives_a_record(small: None, tmp_path: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    asked, generate = [], TransformersEngine.generate

    def count(self: Any, requests: Any, plan: Any, sampling: Any) -> Any:
        asked.extend(requests if plan is None else ())
        return generate(self, requests, plan, sampling)

    monkeypatch.setattr(TransformersEngine, "generate", count)
    done = sternpost.pack_confirm(pack="dinghy", seed=3, out=str(tmp_path / "f.json"))
    assert len(asked) == 14 + 16 + 10  # the unsteered model is asked once
    table = done.to_pandas()
    assert table["level"].tolist() == ["baseline", "off", "low", "medium", "high", "max"]
    assert table["unsafe_refusal.n"].tolist() == [12] * 6
    assert "<table" in done._repr_html_()
    assert done.stated == sternpost.load_pack("dinghy").costs
    assert done.notes == []


@pytest.mark.slow
def test_an_interrupted_one_goes_on_to_the_same_figures(small: None, cli: Any, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    straight = sternpost.pack_confirm(pack="dinghy", seed=3, out=str(tmp_path / "a.json")).found
    words = ("pack", "confirm", "dinghy", "--seed", 3, "--out", tmp_path / "b.json")
    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "sweep", stop)
        assert cli(*words).code == 130
    assert left_in(tmp_path) == ["a.json", "b.json.unfinished"]
    refused = cli(*words)
    assert refused.code == 2
    assert "--resume" in refused.err
    with monkeypatch.context() as patch:  # the baseline was kept
        patch.setattr(TransformersEngine, "generate", lambda *_, **__: pytest.fail("asked again"))
        assert cli(*words, "--resume").code == 0
    got = json.loads((tmp_path / "b.json").read_text())
    assert [got[key] for key in ("baseline", "levels")] == [
        straight[key] for key in ("baseline", "levels")]
    assert left_in(tmp_path) == ["a.json", "b.json"]


@pytest.mark.parametrize(("words", "says"), [
    ((), "Which prompts?"), (("--unsafe", "u"), r"got \['--unsafe'\]"),
    (("--seed", 1, "--safe", "s"), "--seed draws the prompts, and --safe names some"),
    (("--seed", 1, "--batch-size", "0"), "batch_size"),
    (("--unsafe", "no.jsonl", "--safe", "no.jsonl"), "no.jsonl does not exist")])
def test_bad_words(cli: Any, tmp_path: Path, words: tuple[Any, ...], says: str) -> None:
    import re

    said = cli("pack", "confirm", "dinghy", "--out", tmp_path / "f.json", *words)
    assert said.code == 2
    assert re.search(says, said.err)
    assert left_in(tmp_path) == []


def test_out_is_needed_and_is_a_file(cli: Any, tmp_path: Path) -> None:
    assert "missing out" in cli("pack", "confirm", "dinghy", "--seed", 1).err
    assert "is a folder" in cli("pack", "confirm", "dinghy", "--seed", 1, "--out", tmp_path).err


# ---- the prompts ---------------------------------------------------------------------------------

def test_what_is_drawn_is_neither_in_the_pack_nor_in_training(
        small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = sternpost.load_pack("dinghy")
    first = confirm_prompts(5)
    trained = [sha256_text(row["prompt"]) for rows in first.values() for row in rows]
    monkeypatch.setattr(pack_prompts, "trained_on", lambda name: trained)
    settings = ConfirmSettings(pack="dinghy", seed=5, out="x")
    prompts, notes = pack_prompts.prompts_of(settings, pack, {})
    assert not notes
    assert len(prompts) == len(trained)
    drawn = {p.request.sha256 for p in prompts}
    assert not drawn & {*trained, *pack.files.splits["test"]}
    check_disjoint(pack.files.splits, prompts)
    assert {p.kind for p in prompts} == {"unsafe", "safe", "capability"}
    assert all(p.cluster for p in prompts)


def test_where_the_corpus_has_no_others_it_is_said(small: None,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    pack = sternpost.load_pack("dinghy")
    rows = [{"prompt": row["prompt"]} for row in pack.files.golden if row["kind"] == "safe"][:3]

    def draw(seed: int, taken: set[str]) -> dict[str, Any]:
        if sha256_text(rows[0]["prompt"]) in taken:
            raise InputError("too few")
        return {"safe": rows}

    monkeypatch.setattr("sternpost.dinghy.confirm_prompts", draw)
    prompts, notes = pack_prompts.prompts_of(ConfirmSettings(pack="dinghy", seed=5, out="x"), pack,
                                             {})
    assert len(prompts) == 3
    assert notes == ["3 of 3 prompts stand in the pack's own test split: the corpus has too few "
                     "others."]


def test_files_are_measured_and_what_was_fitted_on_is_refused(
        small: None, cli: Any, tmp_path: Path, prompt_file: Any) -> None:
    names = {}
    for kind, sort in (("unsafe", "unsafe_wrapped"), ("safe", "how_to")):
        for split in ("test", "gate_fit"):
            rows = splits.several(levels._maker(sort, split), 8, f"levels {split} {sort}")
            mine = [row.prompt() for row in rows]
            names[kind, split] = prompt_file(f"{kind}-{split}.jsonl", mine)
    out = tmp_path / "out" / "f.json"
    good = ("--unsafe", names["unsafe", "test"], "--safe", names["safe", "test"])
    said = cli("pack", "confirm", "dinghy", "--out", out, *good)
    assert said.code == 0, said.err
    found = json.loads(out.read_text())
    assert found["baseline"]["unsafe_refusal"]["n"] == 8
    assert found["baseline"]["capability"] is None
    assert found["levels"]["high"]["why"]["capability"]
    for kind in ("unsafe", "safe"):
        bad = {"unsafe": names["unsafe", "test"], "safe": names["safe", "test"],
               kind: names[kind, "gate_fit"]}
        leak = cli("pack", "confirm", "dinghy", "--out", tmp_path / "leak" / "f.json",
                   *(word for side in bad for word in (f"--{side}", bad[side])))
        assert leak.code == 2
        assert "8 of 16 prompts to be evaluated" in leak.err
        assert "8 in gate_fit" in leak.err
    assert not (tmp_path / "leak").exists()
    Path(names["unsafe", "test"]).write_text('{"prompt": "quite another thing"}\n')
    other = cli("pack", "confirm", "dinghy", "--out", out, *good)
    assert "it differs in hashes" in other.err


def test_a_prompt_that_the_model_was_trained_on_is_refused(
        small: None, prompt_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {kind: prompt_file(f"{kind}.jsonl", [{"prompt": f"{kind} and nothing more"}])
             for kind in ("unsafe", "safe")}
    monkeypatch.setattr(pack_prompts, "trained_on", lambda name: [
        sha256_text("safe and nothing more")] if name == "dinghy" else [])
    with pytest.raises(LeakageError, match=r"1 of 2 .* training data, e\.g\. 'safe and nothing"):
        sternpost.pack_confirm(pack="dinghy", out=str(tmp_path / "f.json"), **files)
    both = {"unsafe": files["safe"], "safe": files["safe"]}
    with pytest.raises(InputError, match="in the unsafe and in the safe file"):
        sternpost.pack_confirm(pack="dinghy", out=str(tmp_path / "f.json"), **both)


def test_only_a_shipped_models_corpus_is_drawn_from(rewritten: Rewrite, tmp_path: Path) -> None:
    other = rewritten(model=model_of(source="org/other", files={"config.json": "00"}))
    with pytest.raises(InputError, match=r"of dinghy, and this pack is for org/other. Give --unsa"):
        sternpost.pack_confirm(pack=other, seed=1, out=str(tmp_path / "f.json"))
    renamed = rewritten(model=model_of(source="./elsewhere"))  # the same files are the same model
    assert pack_prompts.shipped(sternpost.load_pack(renamed)) == "dinghy"


# ---- as the pack was measured --------------------------------------------------------------------

@pytest.mark.slow
def test_the_limit_of_perplexity_is_the_packs(small: None, rewritten: Rewrite,
                                              tmp_path: Path) -> None:
    judge = sternpost.load_pack("dinghy").files.body["judge"]
    strict = rewritten(judge={**judge, "nll_limit": -1.0})
    done = sternpost.pack_confirm(pack=strict, seed=3, out=str(tmp_path / "f.json"))
    broken = done.found["baseline"]["incoherent"]
    assert broken["hits"] == broken["n"]
    assert done.notes == []
    assert done.found["provenance"]["judge"]["nll_limit"] == -1.0
    old = rewritten(judge={key: value for key, value in judge.items() if key != "nll_limit"})
    done = sternpost.pack_confirm(pack=old, seed=3, out=str(tmp_path / "g.json"))
    assert ["does not keep the perplexity" in note for note in done.notes] == [True]


def test_a_pack_of_another_judge_is_refused(small: None, rewritten: Rewrite,
                                            tmp_path: Path) -> None:
    other = rewritten(judge={"name": "mine.py:judge"})
    with pytest.raises(PackError, match=r"judged by 'mine\.py:judge', and this sternpost"):
        sternpost.pack_confirm(pack=other, seed=3, out=str(tmp_path / "f.json"))


def test_it_is_asked_as_the_pack_was(small: None, rewritten: Rewrite, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception):
        pass

    def look(bench: Any, plans: Any, prompts: Any) -> Any:
        raise Seen(bench)

    template = "<|user|>{{ extra }}{% for m in messages %}{{ m.content }}{% endfor %}<|end|>"
    made = rewritten(max_new_tokens=2, system="Be brief.", chat_template=template,
                     chat_template_kwargs={"extra": "!"})
    monkeypatch.setattr(job, "measure_levels", look)
    monkeypatch.setattr(TransformersEngine, "check", lambda self, plan: None)  # another tail
    with pytest.raises(Seen) as seen:
        sternpost.pack_confirm(pack=made, seed=3, out=str(tmp_path / "f.json"))
    bench = seen.value.args[0]
    assert bench.sampling.max_new_tokens == 2
    assert bench.engine.template.system == "Be brief."
    prompt = pack_prompts.prompts_of(ConfirmSettings(pack="dinghy", seed=3, out="x"),
                                     sternpost.load_pack("dinghy"), {})[0][0]
    assert bench.engine.render(prompt.request) == \
        f"<|user|>!Be brief.{prompt.request.text}<|end|>"


@pytest.mark.slow
def test_the_model_may_lie_elsewhere_and_must_be_the_packs(
        small: None, cli: Any, tmp_path: Path, tiny_models: dict[str, str]) -> None:
    shipped = Path(splits.__file__).parent / "model"
    shutil.copytree(shipped, tmp_path / "model")
    words = ("pack", "confirm", "dinghy", "--seed", 3, "--out", tmp_path / "f.json", "--model")
    said = cli(*words, tiny_models["phi3"])
    assert said.code == 2
    assert "is another: config.json, model.safetensors differ" in said.err
    assert left_in(tmp_path) == ["model"]
    assert cli(*words, tmp_path / "model").code == 0


def test_a_model_that_is_not_there_says_how_to_name_it(small: None, rewritten: Rewrite,
                                                       tmp_path: Path) -> None:
    gone = rewritten(model=model_of(source="/not/here"))
    with pytest.raises(ModelError, match=r"/not/here.*give --model FOLDER"):
        sternpost.pack_confirm(pack=gone, seed=3, out=str(tmp_path / "f.json"))


@pytest.mark.slow
def test_the_shipped_pack_whole(tmp_path: Path) -> None:
    """With all prompts, none of them in its training data."""
    done = sternpost.pack_confirm(pack="dinghy", seed=11, out=str(tmp_path / "f.json"))
    found, counted = done.found, done.found["provenance"]["prompts"]
    for kind in ("unsafe", "safe", "capability"):
        assert counted[kind]["n"] >= 300
        assert counted[kind]["clusters"] >= 50
    before, high = found["baseline"], found["levels"]["high"]
    assert high["unsafe_refusal"]["low"] > before["unsafe_refusal"]["high"]
    assert high["discrimination"]["points"] > 70
