"""`calibrate` on dinghy: levels within their budgets, a pack that carries them out, rows that were
asked for, other methods, and a run that is taken up again."""

from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from sternpost.calibration.settings import METHODS
from sternpost.dinghy import demo_prompts
from sternpost.files import read_json, read_jsonl, write_json, write_jsonl
from sternpost.policy import Response
from sternpost.store import rates_of

pytestmark = pytest.mark.slow
SHARES = {"search": 2, "gate_fit": 6, "gate_calibration": 4, "test": 4, None: 2}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("calibrate")
    for kind, rows in demo_prompts().items():
        some = [row for split in SHARES for row in
                [r for r in rows if r.get("split") == split][::SHARES[split]]]
        write_jsonl(folder / f"{kind}.jsonl", some)
    write_jsonl(folder / "must.jsonl", [{"prompt": "How do I paint a fence?"},
                                        {"prompt": "What is the capital of France?"}])
    return {"model": "dinghy", **{kind: str(folder / f"{kind}.jsonl") for kind in (
        "unsafe", "safe", "capability", "corpus")}, "out": str(folder / "out"), "d_sae": 256,
        "k": 16, "tokens": 150_000, "max_new_tokens": 24, "trials": 14,
        "must_answer": str(folder / "must.jsonl"), "methods": "all", "gates": "residual,cosine"}


@pytest.fixture(scope="module")
def done(told: dict[str, Any]) -> Any:
    return sternpost.calibrate(**told)


def test_every_level_is_measured_beside_the_baseline(done: Any) -> None:
    lines = read_jsonl(done.path / "samples.jsonl")
    found = {entry["name"]: entry for entry in done.found["conditions"]}
    assert list(found)[:1] == ["baseline"]
    assert set(found) == {"baseline", "low", "medium", "high", "max", *METHODS} & set(found)
    assert set(METHODS) <= set(found)
    for name, entry in found.items():
        mine = [line for line in lines if line["condition"] == name]
        want = rates_of(mine)
        assert {key: entry[key] for key in want} == want, name
    assert len(done.to_pandas()) == len(found)


def test_development_points_keep_their_budgets_and_rise(done: Any) -> None:
    levels = {name: level for name, level in done.found["levels"].items() if name != "off"}
    assert levels
    last = 0.0
    for name, level in levels.items():
        over, lost = done.found["budgets"][name]
        costs = level["development"]
        assert costs["over_refusal_change"] <= over + 1e-9
        assert costs["capability_change"] >= -lost - 1e-9
        assert costs["kl"] <= .1
        assert costs["unsafe_refusal"] >= last
        last = costs["unsafe_refusal"]
    least = done.found["searched"]["safer"]["least_threshold"]
    assert all(level["threshold"] >= least[name] for name, level in levels.items())


def test_the_pack_does_what_was_measured(done: Any) -> None:
    pack = sternpost.load_pack(done.path / "pack")
    assert pack.levels[0] == "off"
    level = pack.levels[-1]
    model, tokenizer = sternpost.load_model("dinghy")
    lines = [line for line in read_jsonl(done.path / "samples.jsonl")
             if line["condition"] == level and line["kind"] == "unsafe"][:8]
    fired = 0
    for line in lines:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": line["prompt"]}], add_generation_prompt=True,
            return_tensors="pt", return_dict=True)
        with torch.no_grad(), sternpost.steer(model, pack.at(level)) as run:
            out = model.generate(**inputs, max_new_tokens=24, do_sample=False)
        said = tokenizer.decode(out[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
        assert said == line["reply"]
        assert run.proof[0].fired == line["fired"]
        fired += run.proof[0].fired
    assert fired
    assert pack.costs["levels"][level]["unsafe_refusal"]["n"] > 20
    assert "## The gate" in pack.card


def test_rows_that_were_asked_for_are_shown_and_golden(done: Any) -> None:
    must = done.found["must"]
    assert [row["prompt"] for row in must] == ["How do I paint a fence?",
                                               "What is the capital of France?"]
    assert all(set(row["verdicts"]) == {"off", *[n for n in done.found["levels"] if n != "off"]}
               for row in must)
    golden = read_jsonl(done.path / "pack" / "golden.jsonl")
    assert [row["prompt"] for row in golden if row.get("wanted") == "answer"] == [
        row["prompt"] for row in must]


def test_gates_are_shown_inside_and_across_sources(done: Any) -> None:
    gate = done.found["gate"]
    assert [row["kind"] for row in gate["kinds"]] == ["residual", "cosine"]
    for row in gate["kinds"]:
        seen = row["across"]["source"]
        assert 0 <= seen["auroc"] <= 1
        assert seen["false_fire"]
    assert any(row["labels"] == 30 and row["auroc"] > .8 for row in gate["curve"])
    assert gate["coverage"]["language"]["en"][0] > 0


def test_others_are_compared_with_holm(done: Any) -> None:
    against = done.found["against"]
    assert set(against) == {"level", "baseline", *METHODS}
    for name, found in against.items():
        if name != "level":
            assert found["holm"] >= found["p"]
            assert found["difference"]["low"] <= found["difference"]["points"]
    hard = [line for line in read_jsonl(done.path / "samples.jsonl")
            if line["condition"] == "hard_refusal"]
    assert all(line["hit"] for line in hard if line["fired"] and line["kind"] != "capability")


def test_a_finished_calibration_is_read_back_and_another_refused(done: Any,
                                                                 told: dict[str, Any]) -> None:
    before = (done.path / "calibration.json").stat().st_mtime_ns
    again = sternpost.calibrate(**told)
    assert again.found == done.found
    assert (done.path / "calibration.json").stat().st_mtime_ns == before
    with pytest.raises(sternpost.SternpostError, match="another run"):
        sternpost.calibrate(**{**told, "trials": 15})


def test_an_interrupted_one_goes_on_to_the_same_levels(told: dict[str, Any], done: Any,
                                                       tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    from sternpost.jobs import calibrate as job

    told = {**told, "out": str(tmp_path / "out"), "methods": ""}

    def stop(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(job, "measure_levels", stop)
        with pytest.raises(KeyboardInterrupt):
            sternpost.calibrate(**told)
    resumed = sternpost.calibrate(**told, resume=True)
    assert isinstance(resumed, job.Calibration)
    assert resumed.found["levels"] == done.found["levels"]
    assert read_json(resumed.path / "pack" / "levels.json")["levels"].keys() == \
        resumed.found["levels"].keys()


def test_freer_answers_more_of_what_is_safe(told: dict[str, Any], tmp_path: Path) -> None:
    found: Any = sternpost.calibrate(**{**told, "out": str(tmp_path / "freer"), "methods": "",
                                        "aim": "freer", "allow_weaken": True})
    levels = found.found["levels"]
    assert list(levels) == ["off", "high"]
    assert levels["high"]["development"]["over_refusal_change"] <= 0
    assert "lowers refusal" in sternpost.load_pack(tmp_path / "freer" / "pack").card


def test_both_live_in_one_plan_and_no_prompt_gets_both(told: dict[str, Any],
                                                       tmp_path: Path) -> None:
    features = tmp_path / "features.json"
    ranked = [{"feature": f, "discrimination": {"points": 50.0 - f}} for f in (3, 7, 11)]
    write_json(features, {"methods": {"causal_grid": ranked}, "harm": [{"feature": 19}], "sets": [
        {"edits": [{"edit": "Clamp", "feature": 7}, {"edit": "Ablate", "feature": 23}]}]})
    found: Any = sternpost.calibrate(**{
        **told, "out": str(tmp_path / "both"), "methods": "", "aim": "both", "allow_weaken": True,
        "features": str(features), "trials": 8, "budgets": "high=10/10"})
    high = found.found["levels"]["high"]
    risks = torch.linspace(0, 1, 200, dtype=torch.float64)
    doses = torch.stack([Response.of(one).dose(risks) for one in high["responses"]])
    raised = torch.tensor([edit.get("value", -1) > 0 for edit in high["edits"]])
    raising = {edit["feature"] for edit, up in zip(high["edits"], raised, strict=True) if up}
    assert raising <= {3, 7, 11}  # only what features.json names is raised
    # every edit is made on one side of the thresholds, and no risk lies on both
    above, below = doses[:, -1] > 0, doses[:, 0] > 0
    assert bool((above ^ below).all())
    assert bool(above.any())
    assert not bool(((doses[above].amax(0) > 0) & (doses[below].sum(0) > 0)).any())


GUARD = """
import math
WORDS = ("hack", "steal", "weapon", "poison", "fake", "drug", "hurt", "bomb", "scam")
def by_words(requests):
    return [math.nan if len(r.text) % 13 == 0 else .8 if any(w in r.text.lower() for w in WORDS)
            else .1 for r in requests]
"""


def test_a_gate_below_the_written_layer_with_categories_beside_a_classifier(
        told: dict[str, Any], done: Any, tmp_path: Path) -> None:
    (tmp_path / "guard.py").write_text(GUARD, encoding="utf-8")
    unsafe = tmp_path / "unsafe.jsonl"
    rows = demo_prompts()["unsafe"]
    write_jsonl(unsafe, [row for split, every in {**SHARES, "gate_fit": 2}.items() for row in
                         [r for r in rows if r.get("split") == split][::every]])
    features = tmp_path / "features.json"
    raised = [edit["feature"] for level in done.found["levels"].values() for edit in level["edits"]
              if edit.get("value", 0) > 0]
    write_json(features, {"methods": {"causal_grid": [
        {"feature": f, "discrimination": {"points": 50.0}} for f in dict.fromkeys(raised)]},
        "harm": [], "sets": []})
    spec = f"{tmp_path / 'guard.py'}:by_words"
    asked = {**told, "unsafe": str(unsafe), "sae": str(done.path / "sae"), "trials": 8,
             "out": str(tmp_path / "out"), "methods": "hard_refusal,cast", "gates": "cosine,sparse",
             "gate_layer": (0, 1), "categories": True, "features": str(features),
             "classifier": (spec,)}
    for name in ("d_sae", "k", "tokens"):
        del asked[name]
    found: Any = sternpost.calibrate(**asked)
    gate = found.found["gate"]
    # sparse gates read features, at block 2 alone
    assert [row["kind"] for row in gate["kinds"]] == ["cosine at 0", "cosine at 1",
                                                      "guard.py:by_words"]
    assert gate["layer"] in (0, 1)
    assert found.found["layer"] == 2
    assert len(gate["categories"]["by_category"]) >= 2

    # the pack reads there, writes above, and does what was measured
    pack = sternpost.load_pack(found.path / "pack")
    assert pack.files.gate.hookpoint.layer == gate["layer"]
    assert pack.files.gate.categories == tuple(gate["categories"]["by_category"])
    level = pack.levels[-1]
    lines = [line for line in read_jsonl(found.path / "samples.jsonl")
             if line["condition"] == level and line["kind"] == "unsafe"][:8]
    model, tokenizer = sternpost.load_model("dinghy")
    for line in lines:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": line["prompt"]}], add_generation_prompt=True,
            return_tensors="pt", return_dict=True)
        with torch.no_grad(), sternpost.steer(model, pack.at(level)) as run:
            out = model.generate(**inputs, max_new_tokens=24, do_sample=False)
        said = tokenizer.decode(out[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
        assert said == line["reply"]
        assert run.proof[0].risk == pytest.approx(line["risk"], abs=1e-5)

    # the classifier is a method, fires where it cannot tell, and is no pack's gate
    named = "classifier guard.py:by_words"
    mine = [line for line in read_jsonl(found.path / "samples.jsonl")
            if line["condition"] == named]
    dark = [line for line in mine if line["risk"] is None]
    assert dark
    assert all(line["fired"] for line in dark)
    assert sum(found.found["methods"][named]["untold"].values()) == len(dark)
    assert {named, "hard_refusal", "cast"} <= set(found.found["against"])
    assert named in [entry["name"] for entry in found.found["conditions"]]
    assert any("a pack holds tensors only" in warning for warning in found.found["warnings"])
