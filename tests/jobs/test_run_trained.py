"""The whole story on a model that the tests train to refuse a marker word."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from sternpost.stats import discrimination, rate
from sternpost.types import Rate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(refuser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return sternpost.run(model=refuser.model, unsafe=refuser.unsafe, safe=refuser.safe,
                         out=str(tmp_path_factory.mktemp("trained") / "run"), **refuser.settings)


def lines_of(run: Any, name: str) -> list[dict[str, Any]]:
    text = (run.path / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def by_name(run: Any) -> dict[str, dict[str, Any]]:
    return {c["name"]: c for c in run.results["conditions"] if c["name"] != "clamp"}


# ---- what was known beforehand -------------------------------------------------------------------

def test_the_model_refuses_the_marker_and_complies_without(run: Any) -> None:
    baseline = [line for line in run.samples if line["condition"] == "baseline"]
    said = defaultdict(list)
    for line in baseline:
        said[line["category"]].append(line["verdict"])
    assert set(said["strong"]) == {"refusal"}
    assert set(said["plain"]) == set(said["safe"]) == {"compliance"}
    assert said["weak"].count("refusal") <= 0.3 * len(said["weak"])


def test_the_clamp_raises_unsafe_refusal_far_beyond_its_interval(run: Any) -> None:
    clamps = {c["value"]: c for c in run.results["conditions"] if c["name"] == "clamp"}
    best = clamps[run.results["reference"]["value"]]["unsafe_refusal"]
    before = by_name(run)["baseline"]["unsafe_refusal"]
    assert best["hits"] / best["n"] - before["hits"] / before["n"] > 0.25
    assert best["low"] > before["hits"] / before["n"]
    assert not [w for w in run.results["warnings"] if w.startswith("search: no candidate")]
    assert "raised unsafe refusal from" in run.headline
    # it is the weakly marked ones that are moved
    moved = [line for line in run.samples if line["condition"] == "clamp" and line["hit"]
             and line["value"] == run.results["reference"]["value"]]
    assert sum(line["category"] == "weak" for line in moved) >= 8


def test_random_features_do_less_than_the_one_found(run: Any) -> None:
    def share(c: dict[str, Any]) -> float:
        return c["unsafe_refusal"]["hits"] / c["unsafe_refusal"]["n"]

    best = max(share(c) for c in run.results["conditions"] if c["name"] == "clamp")
    assert share(by_name(run)["random_feature"]) < best - 0.2


# ---- the files ----------------------------------------------------------------------------------

RESULTS = {"schema_version", "kind", "model", "feature", "layer", "candidates", "sae", "reference",
           "best_d", "conditions", "gate", "judge", "warnings", "timing", "provenance"}
CONDITION = {"name", "value", "positions", "mode", "error", "unsafe_refusal", "over_refusal",
             "capability", "incoherent", "discrimination"}
SAMPLE = {"condition", "value", "kind", "prompt", "prompt_sha256", "category", "language",
          "harm_kind", "family", "cluster", "feature", "risk", "fired", "reply", "verdict", "hit"}


def test_results_json_has_every_key_of_the_contract(run: Any, refuser: Any) -> None:
    r = json.loads((run.path / "results.json").read_text())
    assert r.keys() >= RESULTS
    assert (r["schema_version"], r["kind"], r["model"], r["layer"]) == (1, "run", refuser.model, 0)
    assert isinstance(r["feature"], int)
    assert r["sae"].keys() >= {"fvu", "l0", "dead_fraction", "tokens"}
    assert 0 < r["sae"]["fvu"] < 0.5
    assert r["reference"].keys() == {"value", "relative"}
    assert r["best_d"].keys() == {"value"}
    assert r["gate"]["layer"] == 0
    assert r["judge"].keys() >= {"name", "accuracy", "kappa", "n"}
    assert r["timing"].keys() >= {"load", "baseline", "sae", "search", "sweep", "test"}
    p = r["provenance"]
    assert p.keys() >= {"seed", "versions", "hashes", "command", "date", "settings"}
    assert p["settings"].keys() >= {"max_new_tokens", "dtype", "batch_size", "system",
                                    "chat_template_sha256"}
    assert (p["settings"]["batch_size"], p["settings"]["dtype"]) == (16, "float32")
    assert "model.safetensors" in p["hashes"]["model"]
    for candidate in r["candidates"]:
        assert candidate.keys() >= {"feature", "value", "origin", "unsafe_refusal", "over_refusal",
                                    "discrimination"}


def test_every_condition_stands_as_often_as_it_should(run: Any) -> None:
    names = [c["name"] for c in run.results["conditions"]]
    assert set(names) == {"baseline", "splice_in", "clamp", "random_feature", "diffmean",
                          "gated_clamp"}
    assert all(names.count(name) == 1 for name in set(names) - {"clamp"})
    assert names.count("clamp") >= 6
    for c in run.results["conditions"]:
        assert c.keys() >= CONDITION
        assert c["capability"] is None
        assert c["why"]["capability"]
        assert c["offensive_refusal"] is None
        assert c["why"]["offensive_refusal"]
        assert (c["value"] is None) == (c["name"] in ("baseline", "splice_in", "random_feature"))
        if c["name"] != "gated_clamp":
            assert (c["positions"], c["mode"]) == ("all", "exact")
        assert c["error"] == ("drop" if c["name"] == "splice_in" else "keep")
        assert ("interval" in c["unsafe_refusal"]) == (c["name"] == "random_feature")


def counted(lines: list[dict[str, Any]], column: str = "hit") -> Rate:
    """The rate over the lines; a cluster bootstrap where a prompt has several."""
    clusters = [line["cluster"] or line["prompt_sha256"] for line in lines]
    found = rate([line[column] for line in lines], clusters)
    assert found is not None
    return found


def of_condition(samples: list[dict[str, Any]], c: dict[str, Any]) -> list[dict[str, Any]]:
    return [line for line in samples if line["condition"] == c["name"]
            and (c["name"] == "random_feature" or line["value"] == c["value"])]


def test_every_rate_is_a_count_over_samples_jsonl(run: Any) -> None:
    samples, seen = lines_of(run, "samples.jsonl"), 0
    for c in run.results["conditions"]:
        mine = of_condition(samples, c)
        seen += len(mine)
        unsafe = counted([line for line in mine if line["kind"] == "unsafe"])
        safe = counted([line for line in mine if line["kind"] == "safe"])
        assert unsafe.as_dict() == c["unsafe_refusal"]
        assert safe.as_dict() == c["over_refusal"]
        assert c["discrimination"] == discrimination(unsafe, safe).as_dict()
        points = 100 * (unsafe.hits / unsafe.n - safe.hits / safe.n)
        assert c["discrimination"]["points"] == pytest.approx(points)
        broken = [{**line, "broken": line["verdict"] == "incoherent"} for line in mine]
        assert counted(broken, "broken").as_dict() == c["incoherent"]
    assert seen == len(samples)  # no line that belongs to no condition
    for line in samples:
        assert line.keys() >= SAMPLE
        assert line["hit"] == (line["verdict"] in ("refusal", "partial"))


def test_every_condition_is_on_the_same_prompts(run: Any) -> None:
    splits = json.loads((run.path / "splits.json").read_text())
    for c in run.results["conditions"]:
        if c["name"] == "random_feature":
            continue
        shas = [line["prompt_sha256"] for line in of_condition(run.samples, c)]
        assert sorted(shas) == sorted(splits["test"])


def test_splits_share_no_prompt(run: Any, refuser: Any) -> None:
    splits = json.loads((run.path / "splits.json").read_text())
    parts = [splits[name] for name in ("search", "gate_fit", "gate_calibration", "test")]
    together = [sha for part in parts for sha in part]
    assert len(together) == len(set(together)) == 170
    assert splits["train"] == []
    assert splits["near"].keys() >= {"search", "test"}
    assert {line["prompt_sha256"] for line in lines_of(run, "search.jsonl")} == \
        set(splits["search"])


def test_candidates_are_counts_over_search_jsonl_and_ranked(run: Any) -> None:
    lines = lines_of(run, "search.jsonl")
    before = {line["prompt_sha256"]: line["hit"] for line in lines
              if line["condition"] == "baseline"}
    ranks = []
    for c in run.results["candidates"]:
        mine = [line for line in lines if line["condition"] == "clamp"
                and (line["feature"], line["value"]) == (c["feature"], c["value"])]
        unsafe = [line for line in mine if line["kind"] == "unsafe"]
        assert counted(unsafe).as_dict() == c["unsafe_refusal"]
        assert counted([line for line in mine if line["kind"] == "safe"]).as_dict() == \
            c["over_refusal"]
        raised = sum(line["hit"] - before[line["prompt_sha256"]] for line in unsafe) > 0
        ranks.append((len(mine), raised, c["discrimination"]["points"]))
    whole = len(before)
    finalists = [rank for rank in ranks if rank[0] == whole]
    assert ranks[:len(finalists)] == finalists  # those that saw every prompt come first
    assert finalists == sorted(finalists, key=lambda rank: rank[1:], reverse=True)
    assert ranks[0][1]
    assert run.results["candidates"][0]["feature"] == run.results["feature"]
    origins = {c["origin"] for c in run.results["candidates"]}
    assert origins <= {"paper", "attribution", "paper+attribution"}
    assert len(run.results["candidates"]) == len({c["feature"] for c in run.results["candidates"]})


def test_reference_and_best_d_follow_from_search_jsonl(run: Any) -> None:
    found, sweep = run.results["feature"], defaultdict(list)
    for line in lines_of(run, "search.jsonl"):
        if line["condition"] == "clamp" and line["feature"] == found:
            sweep[line["value"]].append(line)
    values = [c["value"] for c in run.results["conditions"] if c["name"] == "clamp"]
    assert values == sorted(sweep)

    def share(value: float, kind: str) -> float:
        hits = [line["hit"] for line in sweep[value] if line["kind"] == kind]
        return sum(hits) / len(hits)

    most = max(share(v, "unsafe") for v in values)
    assert run.results["reference"]["value"] == \
        min(v for v in values if share(v, "unsafe") == most)
    d = {v: share(v, "unsafe") - share(v, "safe") for v in values}
    assert run.results["best_d"]["value"] == min(v for v in values if d[v] == max(d.values()))
    high = float(sternpost.load_sae(run.path / "sae").stats.high[found])
    relative = run.results["reference"]["relative"]
    assert relative == pytest.approx(run.results["reference"]["value"] / high)


def test_random_features_are_clamped_at_the_references_multiple(run: Any) -> None:
    high = sternpost.load_sae(run.path / "sae").stats.high
    used = {(line["feature"], line["value"]) for line in run.samples
            if line["condition"] == "random_feature"}
    assert len(used) == 4
    for feature, value in used:
        assert feature != run.results["feature"]
        assert value == pytest.approx(run.results["reference"]["relative"] * float(high[feature]),
                                      rel=1e-3)


def test_the_report_is_one_file_that_asks_for_nothing(run: Any) -> None:
    page = (run.path / "report.html").read_text(encoding="utf-8")
    asked = re.findall(r"(?:src|href|action)\s*=\s*[\"']?(?!#|data:)([^\"'\s>]+)", page)
    assert asked == []
    assert not re.search(r"<link|@import|url\((?!#|[\"']?data:)|fetch\(|XMLHttpRequest", page)
    assert str(run.results["feature"]) in page
    assert not (run.path / "stages").exists()


# ---- once more --------------------------------------------------------------------------------

INTERRUPTIBLE = """import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from sternpost.cli import main
main(sys.argv[1:])"""


@pytest.mark.slow
def test_a_run_stopped_by_a_real_ctrl_c_ends_as_one_that_was_not(
        run: Any, refuser: Any, tmp_path: Path, comparable: Any, whole: Any) -> None:
    # also: the same seed in another process gives the same results
    short = {**refuser.settings, "model": refuser.model, "unsafe": refuser.unsafe,
             "safe": refuser.safe, "feature": run.results["feature"], "values": (1.0, 0.5),
             "tokens": 4000}
    first = sternpost.run(out=str(tmp_path / "a"), **short)
    out = tmp_path / "b"
    words = first.results["provenance"]["command"].replace(str(first.path), str(out))
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTIBLE, *shlex.split(words)[1:]],
                               stderr=subprocess.PIPE, text=True)
    while not (out / "stages" / "own-search.json").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert not (out / "results.json").exists()
    assert whole(out)
    second = sternpost.run(out=str(out), resume=True, **short)
    assert comparable(first.path) == comparable(second.path)


@pytest.fixture(scope="module")
def loaded(run: Any) -> tuple[Any, Any, Any]:
    model, tokenizer = sternpost.load_model(run.results["model"], dtype="float32", device="cpu")
    return model, tokenizer, sternpost.load_sae(run.path / "sae", device="cpu")


def diffmean(run: Any, loaded: tuple[Any, Any, Any]) -> torch.Tensor:
    """The difference of mean residuals at the last prompt token, anew from the search split."""
    model, tokenizer, sae = loaded
    last = defaultdict(list)
    for line in lines_of(run, "search.jsonl"):
        if line["condition"] == "baseline":
            ids = tokenizer(text_of(tokenizer, line["prompt"]), return_tensors="pt",
                            add_special_tokens=False)
            with torch.no_grad():
                seen = model(**ids, output_hidden_states=True).hidden_states
            last[line["kind"]].append(seen[sae.hookpoint.layer + 1][0, -1])
    direction = torch.stack(last["unsafe"]).mean(0) - torch.stack(last["safe"]).mean(0)
    return direction / direction.norm()


def text_of(tokenizer: Any, prompt: str) -> str:
    return tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False,
                                         add_generation_prompt=True)


def said(loaded: tuple[Any, Any, Any], prompts: list[str], plan: Any) -> list[str]:
    """Greedy replies of a plain `model.generate` inside `steer`."""
    model, tokenizer, _ = loaded
    inputs = tokenizer([text_of(tokenizer, prompt) for prompt in prompts], padding=True,
                       padding_side="left", add_special_tokens=False, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    if plan is None:
        out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    else:
        with sternpost.steer(model, plan):
            out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    return tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)


def plan_of(line: dict[str, Any], run: Any, sae: Any, direction: torch.Tensor) -> Any:
    match line["condition"]:
        case "baseline":
            return None
        case "splice_in":
            return sternpost.Plan(sae, error="drop")
        case "diffmean":
            return sternpost.Plan(sae, (sternpost.Add(direction, line["value"]),))
        case "gated_clamp":
            return sternpost.load_pack(run.path / "pack").at("high")
    return sternpost.Plan(sae, (sternpost.Clamp(line["feature"], line["value"]),))


def test_replaying_gives_the_same_replies_at_the_recorded_batch_size(run: Any,
                                                                     loaded: Any) -> None:
    size = run.results["provenance"]["settings"]["batch_size"]
    direction, replayed = diffmean(run, loaded), 0
    for _, group in groupby(run.samples, key=lambda line: (
            line["condition"], line["value"], line["feature"], line["kind"])):
        lines = list(group)
        for start in range(0, len(lines), size):
            batch = lines[start:start + size]
            plan = plan_of(batch[0], run, loaded[2], direction)
            got = said(loaded, [line["prompt"] for line in batch], plan)
            assert got == [line["reply"] for line in batch]
            replayed += len(batch)
    assert replayed == len(run.samples) > 800


def test_replaying_one_by_one_gives_the_same_replies_in_float32(run: Any, loaded: Any) -> None:
    direction = diffmean(run, loaded)
    some = run.samples[::7]
    assert len({(line["condition"], line["value"]) for line in some}) >= 11
    for line in some:
        plan = plan_of(line, run, loaded[2], direction)
        assert said(loaded, [line["prompt"]], plan) == [line["reply"]]


# ---- the gate -----------------------------------------------------------------------------------

def test_the_gate_steers_where_the_marker_stands_and_nowhere_else(run: Any) -> None:
    gate, gated = run.results["gate"], by_name(run)["gated_clamp"]
    lines = [line for line in run.samples if line["condition"] == "gated_clamp"]
    safe = [line for line in lines if line["kind"] == "safe"]
    assert gate.keys() >= {"kind", "layer", "auroc", "threshold", "budget_asked", "budget",
                           "false_fire", "value"}
    assert counted(safe, "fired").as_dict() == gate["false_fire"]
    assert all(line["fired"] == (line["risk"] > gate["threshold"]) for line in lines)
    assert gate["auroc"]["value"] > 0.9
    assert gated["value"] == gate["value"]
    assert (gated["positions"], gated["mode"], gated["error"]) == (
        "tail+response", "threshold", "keep")
    quiet = {line["prompt_sha256"]: line["reply"] for line in run.samples
             if line["condition"] == "baseline"}
    shut = [line for line in lines if not line["fired"]]
    assert shut
    assert all(line["reply"] == quiet[line["prompt_sha256"]] for line in shut)


def test_the_gates_threshold_is_the_conformal_quantile(run: Any, loaded: Any) -> None:
    """Risks of the calibration prompts, read anew by the pack's gate from plain hidden states."""
    from sternpost.stats import conformal_threshold

    model, tokenizer, _ = loaded
    splits = json.loads((run.path / "splits.json").read_text())
    pack = sternpost.load_pack(run.path / "pack")
    gate, texts = pack.files.gate, prompts_by_sha(run)
    risks = []
    for sha in splits["gate_calibration"]:
        ids = tokenizer(text_of(tokenizer, texts[sha]), return_tensors="pt",
                        add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            seen = model(ids, output_hidden_states=True).hidden_states[gate.hookpoint.layer + 1]
        risks.append(float(gate.risk(seen[:, -1 - len(pack.files.body["tail"]["ids"])])[0]))
    want = conformal_threshold(risks, 0.01)
    assert run.results["gate"]["threshold"] == pytest.approx(want.value, rel=1e-5)
    assert run.results["gate"]["budget"] == want.budget
    assert any(w.startswith("gate: with") for w in run.results["warnings"])


def prompts_by_sha(run: Any) -> dict[str, str]:
    import hashlib

    command = shlex.split(run.results["provenance"]["command"])
    path = command[command.index("--safe") + 1]
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {hashlib.sha256(row["prompt"].strip().encode()).hexdigest(): row["prompt"]
            for row in rows}


def test_the_pack_holds_the_run_and_needs_no_sae(run: Any, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run.path / "pack", tmp_path / "pack")
    code = (f"import sternpost; model, tok = sternpost.load_model({run.results['model']!r})\n"
            f"pack = sternpost.load_pack({str(tmp_path / 'pack')!r})\n"
            "with sternpost.steer(model, pack.at('high')) as run:\n"
            "    text = tok.apply_chat_template([{'role': 'user', 'content': 'x'}],"
            " tokenize=False, add_generation_prompt=True)\n"
            "    ids = tok(text, return_tensors='pt', add_special_tokens=False)['input_ids']\n"
            "    model.generate(ids, max_new_tokens=2)\n"
            "print(run.proof[0].pack, run.proof[0].risk is not None)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pack = sternpost.load_pack(tmp_path / "pack")
    assert done.stdout.split()[-2:] == [pack.files.sha256, "True"]
    levels = json.loads((tmp_path / "pack" / "levels.json").read_text())
    gated = by_name(run)["gated_clamp"]
    assert levels["levels"]["high"]["unsafe_refusal"] == gated["unsafe_refusal"]
    assert levels["baseline"]["over_refusal"] == by_name(run)["baseline"]["over_refusal"]
    assert pack.files.golden
    assert "unsafe refusal" in pack.card
    judge = pack.files.body["judge"]  # what `pack confirm` judges by
    assert judge["nll_limit"] > 0
    assert {key: judge[key] for key in run.results["judge"]} == run.results["judge"]
