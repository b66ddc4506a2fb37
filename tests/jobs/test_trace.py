"""Planted truth: an SAE on a random model, one feature of which writes the goal's token and one of
which reads a letter that harmless prompts never have. The trace must say so of each."""

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import sternpost
from sternpost.cli.features_trace import trace as verb
from sternpost.discovery.trace_settings import TraceSettings
from sternpost.discovery.trace_tokens import chosen, pieces
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, OutputError, PackError, SternpostError
from sternpost.jobs.trace import Trace, features_trace
from sternpost.sae import SAE, FeatureStats, save_sae
from sternpost.trials.settings import arranged
from sternpost.types import Hookpoint, Message, Request, Sampling, Transcript

WRITES, READS, D_SAE, AT = 7, 23, 40, Hookpoint(3)
PROMPT, REPLY = "tell me of Z", "N"
GOAL = 'name = "nay"\nabout = "the reply says N"\npatterns = ["N"]\n'


@dataclass(frozen=True)
class Planted:
    """A model, SAEs of it, a goal and harmless prompts, on disk."""

    settings: dict[str, Any]
    plain: str
    """The SAE without statistics."""
    rescaled: str
    """One that normalises each token."""

    def __call__(self, out: Path, **changes: Any) -> Trace:
        return features_trace(**{**self.settings, "out": str(out), **changes})


@pytest.fixture(scope="module")
def planted(tiny_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Planted:
    root = tmp_path_factory.mktemp("planted")
    model, tokenizer = sternpost.load_model(tiny_models["llama"], device="cpu")
    engine = TransformersEngine(model, Template(tokenizer))
    (root / "goal.toml").write_text(GOAL, encoding="utf-8")
    benign = [{"prompt": f"what is {letter * 2} good for"} for letter in "abcdefghij"]
    (root / "benign.jsonl").write_text("".join(json.dumps(row) + "\n" for row in benign),
                                       encoding="utf-8")
    sae = planted_sae(engine)
    high = torch.full((D_SAE,), 3.0)
    save_sae(sae, root / "plain")
    save_sae(SAE(**{**vars(sae), "stats": FeatureStats(high, high / 100)}), root / "sae")
    save_sae(SAE(**{**vars(sae), "per_token": "constant_norm_rescale"}), root / "rescaled")
    return Planted({"model": tiny_models["llama"], "sae": str(root / "sae"), "prompt": PROMPT,
                    "reply": REPLY, "goal": str(root / "goal.toml"), "device": "cpu",
                    "benign": str(root / "benign.jsonl"), "max_new_tokens": 3},
                   str(root / "plain"), str(root / "rescaled"))


def planted_sae(engine: TransformersEngine) -> SAE:
    """Weak rows, so that the last norm is near linear in them, in few of which is any meaning."""
    ids = engine.encode(engine.template.render([Message("user", PROMPT)]))
    (row,) = engine.residuals([Transcript(ids=tuple(ids))], AT)
    letter = ids.index(engine.encode("Z")[0])
    g = torch.Generator().manual_seed(0)
    W_enc = torch.randn(D_SAE, engine.d_model, generator=g)
    W_dec = torch.nn.functional.normalize(torch.randn(D_SAE, engine.d_model, generator=g), dim=1)
    for feature, at in ((WRITES, -1), (READS, letter)):
        others = torch.cat([row.values[:at], row.values[at + 1:]]) if at >= 0 else row.values[:-1]
        W_enc[feature] = alone(row.values[at], others)
    token = engine.encode(REPLY)[0]
    unembedding = engine.model.get_output_embeddings().weight[token].detach()
    W_dec[WRITES] = 3 * torch.nn.functional.normalize(unembedding, dim=0)
    threshold = torch.full((D_SAE,), 0.3)
    threshold[[WRITES, READS]] = 1.5
    return SAE(W_enc, 1e-3 * W_dec, torch.zeros(D_SAE), torch.zeros(engine.d_model), AT,
               kind="jumprelu", threshold=threshold)


def alone(one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """A row that is 3 on one token and near 0 on the others."""
    x = torch.cat([one[None], others]).double()
    y = torch.zeros(len(x)).double()
    y[0] = 3.0
    return torch.linalg.lstsq(x, y[:, None], driver="gelsd").solution[:, 0].float()


@pytest.fixture(scope="module")
def traced(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return planted(tmp_path_factory.mktemp("out") / "trace", feature=(READS,))


def entries(trace: dict[str, Any], feature: int) -> list[dict[str, Any]]:
    return [e for token in trace["tokens"] for e in token["features"] if e["feature"] == feature]


# ---- what it says ------------------------------------------------------------------------------

def test_the_writer_contributes_most_and_ablation_agrees(traced: Trace) -> None:
    checked = traced.trace["checked"]
    assert checked[0]["feature"] == WRITES
    assert checked[0]["contribution"] > 0
    for entry in checked[:3]:
        assert entry["contribution"] == pytest.approx(entry["ablation"], rel=0.05)
    found = traced.trace["agreement"]
    assert found["pearson"] > 0.99
    assert found["largest_gap"] == pytest.approx(max(
        abs(e["contribution"] - e["ablation"]) for e in checked), rel=1e-3)


def test_so_it_is_where_an_sae_normalises_each_token(planted: Planted, tmp_path: Path) -> None:
    checked = planted(tmp_path / "out", sae=planted.rescaled, benign=None).trace["checked"]
    assert len(checked) == 8
    for entry in checked[:3]:
        assert entry["contribution"] == pytest.approx(entry["ablation"], rel=0.05)


def test_sums_are_sums(traced: Trace) -> None:
    tokens = traced.trace["tokens"]
    prompt = [t for t in tokens if t["part"] != "response"]
    assert all(t["contribution"] is None and t["risk"] is None for t in tokens[len(prompt):])
    for feature in traced.trace["features"]:
        seen = [e["contribution"] for t in prompt for e in t["features"]
                if e["feature"] == feature["feature"]]
        if feature["feature"] == READS:  # it is shown at every token
            assert sum(seen) == pytest.approx(feature["contribution"], abs=1e-6)
    last = prompt[-1]
    assert last["features"][0]["feature"] == WRITES
    assert last["features"][0]["contribution"] <= last["contribution"] * 1.5


def test_what_no_harmless_prompt_shows_is_the_most_unusual(traced: Trace) -> None:
    reference, tokens = traced.trace["reference"], traced.trace["tokens"]
    assert reference["source"] == "benign.jsonl"
    assert reference["prompts"] == 10
    letter = next(t for t in tokens if t["text"] == "Z")
    most = math.log10(reference["tokens"] + 1)
    (own,) = [e for e in letter["features"] if e["feature"] == READS]
    assert own["surprise"] == letter["surprise"] == pytest.approx(most, rel=1e-3)
    assert own["relative"] == pytest.approx(1, abs=0.05)
    assert max(t["surprise"] for t in tokens) <= most * (1 + 1e-3)
    others = [e["surprise"] for e in entries(traced.trace, READS) if not e["activation"]]
    assert set(others) == {0.0}


def test_the_file_is_what_is_given_back_and_has_its_shape(traced: Trace) -> None:
    read = json.loads((traced.path / "trace.json").read_text("utf-8"))
    assert read == traced.trace
    assert read["schema_version"] == 1
    assert read["kind"] == "trace"
    assert (read["verdict"], read["shown"], read["reply_given"]) == ("shown", True, True)
    assert read["logit"]["source"] == "reply"
    assert read["logit"]["text"] == REPLY
    assert read["logit"]["difference"] <= 0
    tokens = read["tokens"]
    assert [t["at"] for t in tokens] == list(range(len(tokens)))
    parts = [t["part"] for t in tokens]
    assert parts == sorted(parts, key=["prompt", "t_inst", "tail", "response"].index)
    assert parts.count("t_inst") == 1
    assert "".join(t["text"] for t in tokens if t["part"] == "response") == REPLY
    assert tokens[parts.index("t_inst")]["text"] == "Z"
    for entry in (e for t in tokens for e in t["features"]):
        assert set(entry) == {"feature", "activation", "relative", "surprise", "contribution"}
    assert all(len(t["features"]) <= 9 for t in tokens)
    for entry in read["checked"]:
        assert set(entry) == {"feature", "contribution", "ablation", "contrast"}
    assert read["gate"] is None
    assert "--pack P" in read["why"]["gate"]
    assert {"path", "trace"} == {f.name for f in fields(traced)}
    assert (traced.path / "trace.html").read_text("utf-8").startswith("<!doctype html>")


def test_it_reads_as_a_table(traced: Trace) -> None:
    table = traced.to_pandas()
    assert len(table) == sum(len(t["features"]) for t in traced.trace["tokens"])
    assert {"at", "text", "part", "feature", "contribution"} <= set(table.columns)
    assert "<table" in traced._repr_html_()


# ---- what it is told -----------------------------------------------------------------------------

def test_without_a_reply_that_shows_the_goal_it_says_what_to_type(planted: Planted,
                                                                   tmp_path: Path) -> None:
    body = planted(tmp_path / "out", reply="yes", archetype=("a",), benign=None).trace
    assert body["logit"] is None
    assert body["checked"] == []
    assert body["agreement"] is None
    assert "--archetype" in body["why"]["logit"]
    assert "own reply" in body["why"]["logit"]
    assert body["reference"] is None
    assert "--benign" in body["why"]["surprise"]
    for token in body["tokens"]:
        assert token["contribution"] is token["surprise"] is None
        for entry in token["features"]:
            assert entry["contribution"] is entry["surprise"] is None
            assert entry["relative"] is not None


def test_statistics_are_measured_where_an_sae_has_none(planted: Planted, tmp_path: Path) -> None:
    without = planted(tmp_path / "a", sae=planted.plain, benign=None).trace
    assert all(e["relative"] is None for t in without["tokens"] for e in t["features"])
    assert "--benign" in without["why"]["relative"]
    measured = planted(tmp_path / "b", sae=planted.plain).trace
    seen = [e["relative"] for t in measured["tokens"] for e in t["features"]]
    assert all(value is not None and value > 0 for value in seen)
    assert measured["checked"] == without["checked"]


def test_labels_are_shown_where_there_are_some(planted: Planted, tmp_path: Path) -> None:
    folder = tmp_path / "described"
    folder.mkdir()
    assert planted(tmp_path / "a", labels=str(folder)).trace["labels"] == {}
    (folder / "descriptions").mkdir()
    lines = [{"feature": WRITES, "label": "says <b>N</b>"}, {"feature": 39, "label": "x"}]
    (folder / "descriptions" / "features.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = planted(tmp_path / "b", **{"from": str(folder)})
    assert done.trace["labels"][str(WRITES)] == "says <b>N</b>"
    assert "says &lt;b&gt;N" in (done.path / "trace.html").read_text("utf-8")


def test_the_gate_says_what_it_says_when_it_steers(tmp_path: Path) -> None:
    model, tokenizer = sternpost.load_model("dinghy", device="cpu")
    g = torch.Generator().manual_seed(0)
    save_sae(SAE(torch.randn(64, 128, generator=g), torch.randn(64, 128, generator=g),
                 torch.zeros(64), torch.zeros(128), Hookpoint(4), k=4), tmp_path / "sae")
    done = features_trace(model="dinghy", sae=str(tmp_path / "sae"), pack="dinghy", device="cpu",
                          prompt="What is the capital of France?", out=str(tmp_path / "out"),
                          max_new_tokens=4)
    engine = TransformersEngine(model, Template(tokenizer))
    (said,) = engine.generate([Request((Message("user", done.trace["prompt"]),), "")],
                              sternpost.load_pack("dinghy").at("high"), Sampling(1))
    gate, tokens = done.trace["gate"], done.trace["tokens"]
    assert said.proof is not None
    assert gate["risk"] == pytest.approx(said.proof.risk, rel=1e-3)
    assert gate["fired"] is said.proof.fired is False
    assert gate["layer"] == 4
    (at,) = [t for t in tokens if t["part"] == "t_inst"]
    assert at["risk"] == gate["risk"]
    assert [t["risk"] is None for t in tokens] == [t["part"] == "response" for t in tokens]
    assert "golden" in done.trace["reference"]["source"]


# ---- folders and bad input -----------------------------------------------------------------------

def test_the_same_trace_is_shown_again_and_another_is_refused(planted: Planted,
                                                              tmp_path: Path) -> None:
    first = planted(tmp_path / "out")
    date = first.trace["provenance"]["date"]
    (tmp_path / "out" / "trace.html").write_text("untouched", encoding="utf-8")
    again = planted(tmp_path / "out")
    assert again.trace["provenance"]["date"] == date
    assert (tmp_path / "out" / "trace.html").read_text("utf-8") == "untouched"
    with pytest.raises(OutputError, match="differs in prompt"):
        planted(tmp_path / "out", prompt="something else")
    other = planted(tmp_path / "out", prompt="something else", force=True)
    assert other.trace["prompt"] == "something else"
    assert "untouched" not in (tmp_path / "out" / "trace.html").read_text("utf-8")


@pytest.mark.parametrize(("changes", "error", "says"), [
    ({"feature": (D_SAE,)}, InputError, f"Feature {D_SAE} is out of range.*0 to {D_SAE - 1}"),
    ({"feature": (-1,)}, InputError, "feature is a whole number from 0 up"),
    ({"prompt": " \n"}, InputError, "prompt is a text that is not empty"),
    ({"prompt": "\udcff"}, InputError, "prompt is UTF-8 text"),
    ({"prompt": "ab" * 200}, InputError, "has 40. tokens; at most 256"),
    ({"reply": ""}, InputError, "reply is a text that is not empty"),
    ({"top": 0}, InputError, "top is a whole number from 1 up"),
    ({"benign": "no-such.jsonl"}, InputError, "no-such.jsonl does not exist"),
    ({"goal": "no-such.toml"}, InputError, "No goal file at no-such.toml"),
    ({"pack": "no-such-pack"}, PackError, "No pack at no-such-pack"),
    ({"labels": "no-such-folder"}, InputError, "No folder at no-such-folder"),
    ({"pack": "dinghy"}, PackError, "is for dinghy"),
    ({"colour": 1}, InputError, "unknown setting 'colour'")])
def test_bad_input_is_refused_and_leaves_nothing(planted: Planted, tmp_path: Path,
                                                 changes: dict[str, Any], error: type[Exception],
                                                 says: str) -> None:
    with pytest.raises(error, match=says):
        planted(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_an_sae_of_another_model_is_refused(planted: Planted, tmp_path: Path) -> None:
    wide = torch.randn(5, 7)
    save_sae(SAE(wide, wide, torch.zeros(5), torch.zeros(7), AT, k=2), tmp_path / "wide")
    with pytest.raises(SternpostError, match=r"has d_model=7, the model .* has 32"):
        planted(tmp_path / "out", sae=str(tmp_path / "wide"))
    assert not (tmp_path / "out").exists()


def test_the_function_takes_what_its_settings_are() -> None:
    assert list(inspect.signature(features_trace).parameters) == [
        spec.name for spec in arranged(TraceSettings)]
    assert all(spec.metadata["help"].endswith(".") for spec in fields(TraceSettings))


# ---- the verb ------------------------------------------------------------------------------------

@pytest.fixture
def words(planted: Planted, tmp_path: Path) -> Callable[..., list[str]]:
    def make(*more: str) -> list[str]:
        flags = {name: value for name, value in planted.settings.items() if name != "prompt"}
        return [PROMPT, *more, "--out", str(tmp_path / "out"),
                *(word for name, value in flags.items()
                  for word in (f"--{name.replace('_', '-')}", str(value)))]

    return make


def test_the_verb_shows_it(words: Callable[..., list[str]]) -> None:
    said = CliRunner().invoke(verb, words(), catch_exceptions=False)
    assert said.exit_code == 0
    assert "adds" in said.stdout
    assert "The reply that was given shows nay" in said.stdout
    body = CliRunner().invoke(verb, words("--json"), catch_exceptions=False)
    assert json.loads(body.stdout)["checked"][0]["feature"] == WRITES


def test_a_swallowed_prompt_is_missed(words: Callable[..., list[str]]) -> None:
    said = CliRunner().invoke(verb, words()[1:])
    assert said.exit_code == 2
    assert "Put it before the options" in said.stderr


# ---- pieces --------------------------------------------------------------------------------------

@pytest.mark.parametrize("text", ["plain words", "é, 水 and 🜂 split over tokens", "🜂🜂", "\ufffd a",
                                  "水" * 5])
def test_pieces_are_the_text_and_none_is_half_a_letter(text: str) -> None:
    raw = text.encode()

    def decode(ids: Any) -> str:
        return bytes(ids).decode("utf-8", errors="replace")

    found = pieces(list(raw), decode)
    assert len(found) == len(raw)
    assert "".join(found) == text


def test_a_tokens_features_are_taken_in_turn_from_both_orders() -> None:
    some = [{"feature": f, "activation": 1.0, "relative": None, "surprise": s, "contribution": c}
            for f, s, c in ((1, 0.1, 5.0), (2, 0.2, -4.0), (3, 3.0, 0.0), (4, 2.0, 0.1))]
    assert [e["feature"] for e in chosen(some, 2, ())] == [1, 3]
    assert [e["feature"] for e in chosen(some, 3, ())] == [1, 2, 3]
    assert [e["feature"] for e in chosen(some, 1, (4,))] == [1, 4]
    for entry in some:
        entry["contribution"] = None
    assert [e["feature"] for e in chosen(some, 2, ())] == [3, 4]
