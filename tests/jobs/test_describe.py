"""`features describe`, `search` and `atlas` on a tiny model, and labels from a scripted service."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from loopback import Answer, Loopback, broken_json, failing, good, instead, last_user, slowly
from sternpost.errors import EndpointError, InputError, OutputError, PromptFileError
from sternpost.features.gather import HELD_OUT
from sternpost.files import read_json
from sternpost.sae import SAE, save_sae
from sternpost.types import Hookpoint

D_SAE = 40
NOW = {"Retry-After": "0"}
SOME = [3, 9, 16, 18, 29, 33]
"""Features with held-out texts, and held-out texts without them."""


@pytest.fixture(scope="module")
def told(tiny_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A random SAE of a random model, and prompts of two categories with a letter each."""
    folder = tmp_path_factory.mktemp("describe")
    g = torch.Generator().manual_seed(0)
    W = torch.randn(D_SAE, 32, generator=g)
    W = W / W.norm(dim=1, keepdim=True)
    b_enc = torch.zeros(D_SAE)
    b_enc[-1] = -1e4  # never active
    save_sae(SAE(W, W.clone(), b_enc, torch.zeros(32), Hookpoint(1), k=4), folder / "sae")
    for kind in ("unsafe", "safe"):
        rows = [{"prompt": f"tell me {'XQ'[i % 2] if kind == 'unsafe' else 'of'} {i} now",
                 "category": ("weapons", "drugs")[i % 2] if kind == "unsafe" else None}
                for i in range(40)]
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"model": tiny_models["llama"], "sae": str(folder / "sae"), "max_new_tokens": 4,
            **{kind: str(folder / f"{kind}.jsonl") for kind in ("unsafe", "safe")}}


@pytest.fixture(scope="module")
def done(told: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("described") / "out"
    return sternpost.features_describe(**told, out=str(out))


def test_every_feature_has_an_entry(done: Any) -> None:
    entries = done.features
    assert [entry["feature"] for entry in entries] == list(range(D_SAE))
    assert done.about["texts"] == 80
    dead = entries[-1]
    assert (dead["label"], dead["contexts"], dead["density"]) == ("never active", [], 0)
    for entry in entries:
        assert len(entry["histogram"]["edges"]) == len(entry["histogram"]["counts"]) + 1
        assert sum(entry["histogram"]["counts"]) == round(entry["density"] * done.about["tokens"])
        assert all(f != entry["feature"] for f, _ in entry["near"]["cosine"])
        for c in entry["contexts"]:
            assert len(c["tokens"]) == len(c["acts"])
            assert c["acts"][c["at"]] == pytest.approx(c["activation"], abs=2e-3)
    live = [entry for entry in entries if entry["contexts"]]
    assert len(live) > D_SAE / 2
    for entry in live:
        strongest = [c["activation"] for c in entry["contexts"] if c["quantile"] == 1.0]
        assert strongest == sorted(strongest, reverse=True)
        assert sum(entry["parts"].values()) == pytest.approx(1, abs=1e-3)


def test_the_model_itself_says_where_a_feature_is_active(done: Any, told: dict[str, Any]) -> None:
    """A context's activation, read again from its own text."""
    sae = sternpost.load_sae(told["sae"])
    model, tokenizer = sternpost.load_model(told["model"])
    entry = next(e for e in done.features if any(
        "<user>" in c["tokens"] for c in e["contexts"][:1]))
    c = entry["contexts"][0]
    start = c["tokens"].index("<user>")
    assert start == 0 or c["tokens"][0] == "<user>"
    ids = tokenizer("".join(c["tokens"]), add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        h = model(ids, output_hidden_states=True).hidden_states[sae.hookpoint.layer + 1][0]
    assert float(sae.encode(h).dense()[c["at"], entry["feature"]]) == pytest.approx(
        c["activation"], rel=1e-3)


def test_a_category_is_linked_to_the_taxonomy(done: Any) -> None:
    """Some feature reads the letter that stands in one category only."""
    linked = [row for entry in done.features for row in entry["categories"]
              if row["category"] in entry["concepts"] and row["category"] == "weapons"]
    assert linked
    assert all(row["lift"] >= 2 and row["q"] <= 0.05 for row in linked)
    assert all(row["concept"] == "indiscriminate_weapons" for row in linked)


def test_words_find_the_linked_features(done: Any) -> None:
    out = str(done.path.parent)
    found = sternpost.features_search(words="weapons", folder=out)
    assert "weapons" in found.found[0].entry["concepts"]
    assert [m.score for m in found.found] == sorted((m.score for m in found.found), reverse=True)
    by_model = sternpost.features_search(words="weapons", folder=out, embedder="model")
    assert by_model.found
    assert sternpost.features_search(words="zzzzqqqq", folder=out).found == ()
    with pytest.raises(InputError, match="takes words"):
        sternpost.features_search(words=" ", folder=out)
    with pytest.raises(InputError, match="features describe"):
        sternpost.features_search(words="weapons", folder=str(done.path / "none"))
    for wrong in ({"words": 5}, {"limit": "5"}, {"folder": None}, {"embedder": None}):
        with pytest.raises(InputError):
            sternpost.features_search(**{"words": "a", "folder": out, **wrong})
    with pytest.raises(InputError, match="embedder is words, model"):
        sternpost.features_search(words="weapons", folder=out, embedder="gone/away")


def test_it_is_shown_again_and_another_run_is_refused(done: Any, told: dict[str, Any]) -> None:
    out = str(done.path.parent)
    assert sternpost.features_describe(**told, out=out).about == done.about
    with pytest.raises(OutputError, match="another run"):
        sternpost.features_describe(**{**told, "seed": 3}, out=out)


def test_what_does_not_fit_is_told(told: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="out of range"):
        sternpost.features_describe(**told, out=str(tmp_path / "a"), feature=[D_SAE])
    with pytest.raises(InputError, match="feature is a whole number"):
        sternpost.features_describe(**told, out=str(tmp_path / "a"), feature="abc")
    with pytest.raises(InputError, match="openai:MODEL"):
        sternpost.features_describe(**told, out=str(tmp_path / "b"), labeller="gpt")
    sae = sternpost.load_sae(told["sae"])
    save_sae(replace(sae, W_enc=sae.W_enc[:, :16], W_dec=sae.W_dec[:, :16], b_dec=sae.b_dec[:16]),
             tmp_path / "narrow")
    with pytest.raises(InputError, match="d_model=16"):
        sternpost.features_describe(**{**told, "sae": str(tmp_path / "narrow")},
                                    out=str(tmp_path / "c"))
    with pytest.raises(InputError, match="give the same prompts"):
        sternpost.features_describe(**{**told, "safe": told["unsafe"]}, out=str(tmp_path / "a"))
    some = (Path(told["safe"]).read_text() + Path(told["unsafe"]).read_text().splitlines()[3])
    (tmp_path / "some.jsonl").write_text(some)
    with pytest.raises(PromptFileError, match="in the unsafe and in the safe file: 'tell me Q 3"):
        sternpost.features_describe(**{**told, "safe": str(tmp_path / "some.jsonl")},
                                    out=str(tmp_path / "b"))
    assert not any((tmp_path / name).exists() for name in "abc")  # nothing is left behind


def test_the_command_line_describes_finds_and_writes_pages(
        cli: Any, told: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [word for name, value in told.items()
             for word in (f"--{name.replace('_', '-')}", value)]
    said = cli("features", "describe", *words, "--out", out)
    assert said.code == 0, said.err
    assert "40 features" in said.out
    said = cli("features", "search", "weapons", "--from", out, "--json", "--limit", 2)
    found = json.loads(said.out)
    assert 1 <= len(found) <= 2
    assert set(found[0]) == {"feature", "score", "label"}
    assert "No feature's label" in cli("features", "search", "zzqqxx", "--from", out).out
    assert "No descriptions in" in cli("features", "search", "a", "--from", tmp_path).err
    said = cli("features", "atlas", "--out", out)
    assert said.code == 0, said.err
    assert (out / "atlas" / "index.html").is_file()
    assert len(list((out / "atlas").glob("feature-*.html"))) == D_SAE
    assert cli("features", "atlas").code == 2


# ---- labels from a service -------------------------------------------------------------------

def wise(body: dict[str, Any]) -> str:
    """Names the marked token that stands most often in the texts; then tells by it."""
    text = last_user(body)
    if text.startswith("Texts:"):
        marks = re.findall(r"<<(.)>>", text) or ["?"]
        return f'"the sign {max(marks, key=marks.count)}"'
    sign = text.split("described so: the sign ")[1][0]
    lines = re.findall(r"^\d+\. (.*)$", text, flags=re.M)
    if "are marked" in text:
        return str([int(f"<<{sign}>>" in line) for line in lines])
    return "Here: " + str([int(sign in line) for line in lines]) + " as I see it."


def label(told: dict[str, Any], out: Path, script: Any, monkeypatch: pytest.MonkeyPatch,
          **more: Any) -> tuple[Any, Loopback]:
    with Loopback(script) as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        found = sternpost.features_describe(**told, out=str(out), labeller="openai:wise",
                                            **{"feature": SOME, **more})
        return found, service


def shares(found: Any, name: str) -> list[float]:
    rates = [entry["score"][name] for entry in found.features if entry["label_by"] != "words"]
    return [rate["hits"] / rate["n"] for rate in rates if rate]


def test_good_labels_score_well_and_carry_date_and_model(
        told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, service = label(told, tmp_path / "out", good(wise), monkeypatch)
    mine = [entry for entry in found.features if entry["label_by"] != "words"]
    assert len(mine) == 6
    assert all(entry["label"].startswith("the sign") for entry in mine)
    assert all(entry["label_by"] == "openai:wise" and entry["label_date"] for entry in mine)
    wise_ones, blind = shares(found, "fuzzing"), label(
        told, tmp_path / "blind", good(lambda b: wise(b) if last_user(b).startswith("Texts:")
                                       else str([1] * len(re.findall(r"^\d+\.", last_user(b),
                                                                     flags=re.M)))),
        monkeypatch)[0]
    assert sum(wise_ones) / len(wise_ones) > 0.7
    assert sum(shares(blind, "detection")) / len(shares(blind, "detection")) == pytest.approx(
        0.5, abs=0.01)
    assert found.about["labels"]["counts"]["answered"] == len(service.requests) == 18
    assert "sk-secret" not in (found.path / "descriptions.json").read_text()


def test_scores_are_made_on_held_out_text(told: dict[str, Any], tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    _, service = label(told, tmp_path / "out", good(wise), monkeypatch)
    said = [last_user(asked.body) for asked in service.requests]
    of: dict[str, set[str]] = {"label": set(), "score": set()}
    for text in said:
        plain = re.sub(r"<<|>>", "", text)
        of["label" if text.startswith("Texts:") else "score"].update(
            re.findall(r"(?:X|Q|of) (\d+) now", plain))
    unsafe = [i for i in range(40) if i % HELD_OUT == HELD_OUT - 1]
    assert {int(n) for n in of["score"]} <= set(unsafe)
    assert of["label"]
    assert of["label"].isdisjoint(of["score"])


def test_trouble_is_retried_counted_and_survived(told: dict[str, Any], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    script = failing(429, 2, failing(500, 1, broken_json(1, slowly(0.05, 2, good(wise))),
                                     headers=NOW), headers=NOW)
    found, service = label(told, tmp_path / "out", script, monkeypatch)
    counts = found.about["labels"]["counts"]
    assert counts == {"asked": 18, "answered": 18, "retried": 4, "failed": 0}
    assert len(service.requests) == 22
    assert sum(entry["label_by"] == "openai:wise" for entry in found.features) == 6


def test_what_was_answered_is_kept_and_only_the_rest_is_asked_again(
        told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def moody(body: dict[str, Any], number: int) -> Answer:
        if "are marked" in last_user(body):
            return Answer(400, json.dumps({"error": {"message": "no marks today"}}))
        return good(wise)(body, number)

    with pytest.raises(EndpointError, match="--resume"):
        label(told, tmp_path / "out", moody, monkeypatch)
    assert not (tmp_path / "out" / "descriptions" / "descriptions.json").exists()
    with pytest.raises(OutputError, match="--resume"):
        label(told, tmp_path / "out", good(wise), monkeypatch)
    found, service = label(told, tmp_path / "out", good(wise), monkeypatch, resume=True)
    assert all("are marked" in last_user(asked.body) for asked in service.requests)
    assert sum(entry["label_by"] == "openai:wise" for entry in found.features) == 6
    assert read_json(found.path / "descriptions.json")["labels"]["labelled"] == 6


def test_a_service_that_never_answers_ends_it_soon(told: dict[str, Any], tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EndpointError, match="Check the key"):
        label(told, tmp_path / "out", failing(401, 999, good(wise)), monkeypatch)


def test_an_answer_that_is_no_list_counts_as_wrong(told: dict[str, Any], tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = label(told, tmp_path / "out", good(
        lambda b: wise(b) if last_user(b).startswith("Texts:") else "I cannot say."), monkeypatch)
    for entry in found.features:
        if entry["label_by"] == "openai:wise" and entry["score"]["detection"]:
            assert entry["score"]["detection"]["hits"] == 0
            assert "counted as wrong" in entry["score"]["why"]["detection"]


def test_all_that_is_asked_is_sent_as_it_is(told: dict[str, Any], tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    _, service = label(told, tmp_path / "out", instead(Answer(
        text=json.dumps({"choices": []})), 1, good(wise)), monkeypatch, feature=[1, 2])
    kinds = {last_user(asked.body)[:5] for asked in service.requests}
    assert kinds == {"Texts", "A fea"}
    assert all(asked.body["temperature"] == 0 for asked in service.requests)


def test_who_always_says_the_same_has_half_right(told: dict[str, Any], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (0, 1):
        found, _ = label(told, tmp_path / str(answer), good(
            lambda b, answer=answer: wise(b) if last_user(b).startswith("Texts:") else str(
                [answer] * len(re.findall(r"^\d+\.", last_user(b), flags=re.M)))), monkeypatch)
        for name in ("detection", "fuzzing"):
            assert shares(found, name)
            assert set(shares(found, name)) == {0.5}


def test_a_model_that_thinks_aloud_is_read_after_its_thoughts(
        told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = label(told, tmp_path / "out", good(
        lambda b: f"<think>\nlet me see [0, 1]\n</think>\n{wise(b)}"), monkeypatch, feature=[16])
    (mine,) = [entry for entry in found.features if entry["label_by"] != "words"]
    assert mine["label"].startswith("the sign")
    assert mine["score"]["fuzzing"]["hits"]
    blank, _ = label(told, tmp_path / "blank", good(lambda b: "<think>hm"), monkeypatch,
                     feature=[16])
    assert all(entry["label_by"] == "words" for entry in blank.features)


def test_a_category_may_be_called_unsafe(told: dict[str, Any], tmp_path: Path) -> None:
    rows = [json.loads(line) | {"category": "unsafe"}
            for line in Path(told["unsafe"]).read_text().splitlines()]
    (tmp_path / "unsafe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = sternpost.features_describe(**{**told, "unsafe": str(tmp_path / "unsafe.jsonl")},
                                        out=str(tmp_path / "out"))
    sizes = {row["category"]: row["n"] for entry in found.features for row in entry["categories"]}
    assert sizes == {"unsafe": 40, "safe": 40}


def test_another_sae_in_the_same_folder_is_another_run(told: dict[str, Any],
                                                       tmp_path: Path) -> None:
    sae = sternpost.load_sae(told["sae"])
    save_sae(sae, tmp_path / "sae")
    mine = {**told, "sae": str(tmp_path / "sae"), "out": str(tmp_path / "out")}
    sternpost.features_describe(**mine)
    save_sae(replace(sae, W_dec=sae.W_dec.flip(0)), tmp_path / "sae")
    with pytest.raises(OutputError, match="another run"):
        sternpost.features_describe(**mine)


def test_ranks_are_those_that_lie_there_now(done: Any) -> None:
    """What `features find` wrote after the description, is on the pages too."""
    out = done.path.parent
    change = {"unsafe_refusal": {"points": 9.0, "low": 1.0, "high": 20.0},
              "over_refusal": {"points": 0.0, "low": -1.0, "high": 1.0}}
    (out / "features.json").write_text(json.dumps({
        "schema_version": 1, "harm": [{"feature": 2}], "methods": {
            "paper": [{"feature": 5}, {"feature": 7}],
            "causal_grid": [{"feature": 7, "value": 3.0, "change": change}]}}))
    try:
        entries = done.features
        assert entries[7]["found"]["methods"] == {"paper": 2, "causal_grid": 1}
        assert entries[7]["found"]["effect"]["unsafe_refusal"]["points"] == 9.0
        assert entries[2]["found"] == {"methods": {"harm": 1}, "effect": None}
        assert entries[1]["found"] is None
        sternpost.features_atlas(out=str(out))
        assert "9.0" in (out / "atlas" / "feature-7.html").read_text()
    finally:
        (out / "features.json").unlink()
