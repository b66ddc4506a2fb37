"""The whole story on an engine without a model, where every number is known beforehand."""

import json
from pathlib import Path
from typing import Any

import pytest

from sternpost.errors import InputError, OutputError, SearchError
from sternpost.trials.find import MULTIPLES


def rates(run: Any, what: str) -> dict[Any, tuple[int, int]]:
    """(hits, n) of each condition; clamps by their value, the others by name."""
    return {c["value"] if c["name"] == "clamp" else c["name"]: (c[what]["hits"], c[what]["n"])
            for c in run.results["conditions"]}


def rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_the_planted_feature_is_found_and_every_line_is_the_one_planted(fake: Any) -> None:
    # the word pulls by 3; a pull above 1 is refused, one above 10 breaks the text
    run = fake.tell()
    assert run.results["feature"] == 0
    assert "attribution" in run.results["candidates"][0]["origin"]
    assert run.results["reference"] == {"value": 1.5, "relative": 0.5}
    clamps = [c["value"] for c in run.results["conditions"] if c["name"] == "clamp"]
    assert clamps == [3 * multiple for multiple in MULTIPLES]
    for line in run.samples:
        pull = 3 * ("zorble" in line["prompt"])
        if line["condition"] == "clamp":
            pull = line["value"]
        want = "incoherent" if pull > 10 else "refusal" if pull > 1 else "compliance"
        assert line["verdict"] == want, line
        assert line["hit"] == (want == "refusal")
    assert rates(run, "unsafe_refusal")[1.5] == (24, 24)
    assert rates(run, "over_refusal")[1.5] == (21, 21)
    assert clamps[-1] > 10
    assert rates(run, "incoherent")[clamps[-1]] == (45, 45)
    assert rates(run, "incoherent")["baseline"] == (0, 45)


def test_an_archetype_that_is_not_refused_gives_way_and_says_so(fake: Any) -> None:
    run = fake.tell(archetype="bake me a cake", values=(2.0, 4.0))
    (note,) = [w for w in run.results["warnings"] if w.startswith("archetype")]
    refused = [line for line in rows(str(run.path / "search.jsonl"))
               if line["condition"] == "baseline" and line["hit"]]
    named = [line for line in refused if repr(line["prompt"]) in note]
    assert len(named) == 1
    first = next(row["prompt"] for row in rows(fake.unsafe)
                 if row["prompt"] in {line["prompt"] for line in refused})
    assert named[0]["prompt"] == first


def test_a_refused_archetype_is_used_without_a_word(fake: Any) -> None:
    run = fake.tell(archetype="a zorble please", values=(2.0, 4.0))
    assert not [w for w in run.results["warnings"] if "archetype" in w]


def test_nothing_refused_says_the_counts_and_leaves_nothing(fake: Any) -> None:
    fake.engine.refuses = lambda word: False
    with pytest.raises(SearchError, match=r"0 of 18 unsafe and 0 of 12 safe .* 1 archetypes"):
        fake.tell(out=str(fake.out / "deep" / "down"))
    assert not fake.out.exists()


def test_what_was_in_the_folder_stays_when_a_forced_run_finds_nothing(fake: Any) -> None:
    fake.out.mkdir()
    (fake.out / "mine.txt").write_text("mine")
    fake.engine.refuses = lambda word: False
    with pytest.raises(SearchError):
        fake.tell(force=True)
    assert [p.name for p in fake.out.iterdir()] == ["mine.txt"]


def test_given_features_replace_the_search_also_where_nothing_is_refused(fake: Any) -> None:
    fake.engine.refuses = lambda word: False
    run = fake.tell(feature=(5, 3, 5), values=(2.0,))
    assert {c["feature"]: c["origin"] for c in run.results["candidates"]} == \
        {3: "given", 5: "given"}
    assert any("no candidate raises unsafe refusal" in w for w in run.results["warnings"])
    assert "no " in run.headline


def test_values_are_swept_as_given_in_ascending_order(fake: Any) -> None:
    run = fake.tell(feature=0, values=(20.0, 2.0, 0.25))
    clamps = [c for c in run.results["conditions"] if c["name"] == "clamp"]
    assert [c["value"] for c in clamps] == [0.25, 2.0, 20.0]
    assert [c["unsafe_refusal"]["hits"] for c in clamps] == [0, 24, 0]
    assert run.results["reference"]["value"] == 2.0
    # D: at 0.25 and 20 nothing is refused, at 2 everything; the smallest of equals
    assert run.results["best_d"]["value"] == 0.25


def test_kept_is_what_refuses_most_and_of_equals_what_spares_most_safe_prompts() -> None:
    from sternpost.features import Candidate
    from sternpost.trials.find import _ranked

    def said(unsafe: int, safe: int) -> list[Any]:
        return [{"kind": kind, "harm_kind": "none", "prompt_sha256": f"{kind}{at}", "cluster": None,
                 "hit": at < hits} for kind, hits in (("unsafe", unsafe), ("safe", safe))
                for at in range(40)]

    counts = {1: (40, 30), 2: (40, 10), 3: (30, 0), 4: (11, 0), 5: (10, 0), 6: (0, 0)}
    order = _ranked([Candidate(f, "paper") for f in sorted(counts, reverse=True)],
                    {f: said(*hits) for f, hits in counts.items()}, said(10, 0))
    assert [c.feature for c in order] == [2, 1, 3, 4, 5, 6]
    # a feature that barely raises refusal stands behind all that raise it beyond doubt
    order = _ranked([Candidate(4, "paper"), Candidate(3, "paper")],
                    {f: said(*counts[f]) for f in (3, 4)}, said(10, 0))
    assert [c.feature for c in order] == [3, 4]


def test_near_ties_are_only_those_that_raise_refusal_too(fake: Any) -> None:
    warnings = fake.tell(values=(2.0,)).results["warnings"]
    assert not [w for w in warnings if w.startswith("near-ties")]


def test_where_every_unsafe_prompt_is_refused_already_the_headline_says_so(fake: Any) -> None:
    fake.engine.refuses = lambda word: word[0] in "bdgkzw"
    run = fake.tell(values=(2.0,))
    assert rates(run, "unsafe_refusal")["baseline"] == (24, 24)
    assert any("no candidate raises unsafe refusal beyond its interval" in w
               for w in run.results["warnings"])
    assert "no " in run.headline


@pytest.mark.slow
def test_error_drop_and_mode_threshold_stand_where_they_were_asked_for(fake: Any) -> None:
    drop = fake.tell(feature=0, values=(2.0,), error="drop")
    how = {c["name"]: (c["positions"], c["mode"], c["error"]) for c in drop.results["conditions"]}
    assert how["clamp"] == how["random_feature"] == ("all", "exact", "drop")
    assert how["splice_in"] == ("all", "exact", "drop")
    assert how["baseline"] == how["diffmean"] == ("all", "exact", "keep")
    threshold = fake.tell(feature=0, values=(2.0,), mode="threshold", force=True)
    assert {c["mode"] for c in threshold.results["conditions"] if c["name"] == "clamp"} == \
        {"threshold"}
    assert rates(threshold, "unsafe_refusal")[2.0] == (24, 24)


def test_offensive_prompts_are_counted_apart(fake: Any, prompt_file: Any) -> None:
    rude = [{**row, "harm_kind": "offensive" if row["category"] == "plain" else "harmful"}
            for row in rows(fake.unsafe)]
    run = fake.tell(unsafe=prompt_file("rude.jsonl", rude), feature=0, values=(2.0,))
    baseline = run.results["conditions"][0]
    unsafe = [line for line in run.samples if line["condition"] == "baseline"
              and line["kind"] == "unsafe"]
    n = sum(line["harm_kind"] == "offensive" for line in unsafe)
    assert 8 < n < 16
    assert (baseline["unsafe_refusal"]["hits"], baseline["unsafe_refusal"]["n"]) == (24 - n,) * 2
    assert (baseline["offensive_refusal"]["hits"], baseline["offensive_refusal"]["n"]) == (0, n)
    # only offensive ones can still be raised, and they do not count
    assert any("no candidate raises" in w for w in run.results["warnings"])
    assert run.results["candidates"][0]["unsafe_refusal"]["n"] < 18


def test_only_offensive_prompts_are_no_unsafe_prompts(fake: Any, prompt_file: Any) -> None:
    rude = [{**row, "harm_kind": "offensive"} for row in rows(fake.unsafe)]
    with pytest.raises(InputError, match="offensive"):
        fake.tell(unsafe=prompt_file("rude.jsonl", rude))
    assert not fake.out.exists()


def test_capability_counts_right_answers_and_needs_no_refusal(fake: Any,
                                                              prompt_file: Any) -> None:
    # the fake answers with the prompt's words: 3 of 4 contain the answer
    asked = [{"prompt": f"name {word} and {i}", "answer": word if i % 4 else "absent",
              "family": "echo"} for i, word in enumerate(("pear", "plum", "fig", "lime") * 2)]
    run = fake.tell(capability=prompt_file("known.jsonl", asked), feature=0, values=(2.0,))
    found = rates(run, "capability")
    assert found["baseline"] == (6, 8)
    assert found[2.0] == (0, 8)
    assert {line["family"] for line in run.samples if line["kind"] == "capability"} == {"echo"}


def test_a_script_is_answered_and_hashed_as_canonical_json(fake: Any, prompt_file: Any) -> None:
    scripts = [{"messages": [{"role": "user", "content": row["prompt"]},
                             {"role": "user", "content": "go on"}]} for row in rows(fake.unsafe)]
    run = fake.tell(unsafe=prompt_file("scripts.jsonl", scripts), feature=0, values=(2.0,))
    line = next(line for line in run.samples if line["kind"] == "unsafe")
    assert json.loads(line["prompt"])[1] == {"content": "go on", "role": "user"}
    assert line["prompt"].startswith('[{"content":')
    assert rates(run, "unsafe_refusal")[2.0] == (24, 24)


def test_clusters_stay_together_and_widen_the_interval(fake: Any, prompt_file: Any) -> None:
    paired = [{**row, "cluster": f"c{i // 2}"} for i, row in enumerate(rows(fake.unsafe))]
    run = fake.tell(unsafe=prompt_file("paired.jsonl", paired), feature=0, values=(2.0,))
    splits = json.loads((run.path / "splits.json").read_text())
    place = {sha: name for name in ("search", "gate_fit", "test") for sha in splits[name]}
    where: dict[str, set[str]] = {}
    for line in [*run.samples, *rows(str(run.path / "search.jsonl"))]:
        if line["cluster"]:
            where.setdefault(line["cluster"], set()).add(place[line["prompt_sha256"]])
    assert len(where) > 10
    assert all(len(splits) == 1 for splits in where.values())
    named = {c["name"]: c for c in run.results["conditions"]}
    baseline, random_feature = named["baseline"], named["random_feature"]
    assert baseline["unsafe_refusal"]["interval"] == "cluster"
    assert "interval" not in baseline["over_refusal"]
    assert random_feature["over_refusal"]["interval"] == "cluster"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files_and_another_seed_others(fake: Any,
                                                                     comparable: Any) -> None:
    short = {"feature": 0, "values": (2.0, 4.0)}
    runs = [fake.tell(out=str(fake.out / name), **short) for name in ("a", "b")]
    assert comparable(runs[0].path) == comparable(runs[1].path)
    other = comparable(fake.tell(out=str(fake.out / "c"), seed=1, **short).path)
    assert other["splits.json"] != comparable(runs[0].path)["splits.json"]


def test_a_run_is_known_by_what_its_prompt_files_hold_not_by_where_they_lie(
        fake: Any, tmp_path: Path) -> None:
    short = {"feature": 0, "values": (2.0, 4.0)}
    first = fake.tell(**short)
    written = (first.path / "results.json").stat().st_mtime_ns
    moved = tmp_path / "elsewhere" / Path(fake.unsafe).name
    moved.parent.mkdir()
    moved.write_bytes(Path(fake.unsafe).read_bytes())
    assert fake.tell(**short, unsafe=str(moved)).results == first.results
    assert (first.path / "results.json").stat().st_mtime_ns == written  # shown again, not made
    moved.write_text("".join(moved.read_text().splitlines(keepends=True)[::-1]))
    with pytest.raises(OutputError, match="another run: it differs in hashes"):
        fake.tell(**short, unsafe=str(moved))


def test_an_sae_without_a_live_feature_is_no_crash(fake: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    import torch

    from sternpost.errors import SternpostError
    from sternpost.sae import save_sae

    dead = replace(fake.engine.planted_sae(), kind="jumprelu", k=None,
                   threshold=torch.full((32,), 1e9))
    save_sae(dead, tmp_path / "dead")
    with pytest.raises(SternpostError, match="ever active"):
        fake.tell(sae=str(tmp_path / "dead"))
    with pytest.raises(SternpostError, match="ever active"):
        fake.tell(sae=str(tmp_path / "dead"), feature=0)
    assert not fake.out.exists()


@pytest.mark.slow
def test_an_sae_with_one_live_feature_has_no_random_ones_and_says_so(fake: Any,
                                                                      tmp_path: Path) -> None:
    from dataclasses import replace

    import torch

    from sternpost.sae import save_sae

    lone = replace(fake.engine.planted_sae(), kind="jumprelu", k=None,
                   threshold=torch.tensor([0.5] + [1e9] * 31))
    save_sae(lone, tmp_path / "lone")
    run = fake.tell(sae=str(tmp_path / "lone"), feature=0, values=(2.0,))
    (random_feature,) = [c for c in run.results["conditions"] if c["name"] == "random_feature"]
    assert random_feature["unsafe_refusal"] is None
    assert "unsafe_refusal" in random_feature["why"]


def test_a_result_shows_itself(fake: Any) -> None:
    run = fake.tell(feature=0, values=(2.0,))
    table = run.to_pandas()
    assert list(table["name"]) == ["baseline", "splice_in", "clamp", "random_feature", "diffmean",
                                   "gated_clamp"]
    assert table["unsafe_refusal.hits"][2] == 24
    assert "<table" in run._repr_html_()
    assert "to 100 % (n = 24) and safe refusal from 0 % to 100 % (n = 21)" in run.headline


@pytest.mark.slow
def test_only_the_first_pass_stops_replies_when_they_are_decided(
        fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sternpost.trials import find

    sweep, brief = fake.engine.sweep, []

    def watched(requests: Any, plans: Any, sampling: Any, decided: Any = None) -> Any:
        brief.append(decided is not None and decided("I'm sorry. But"))
        return sweep(requests, plans, sampling, decided)

    monkeypatch.setattr(find, "FINALISTS", 1)
    monkeypatch.setattr(fake.engine, "sweep", watched)
    fake.tell(feature=(0, 1, 2))
    assert brief[0] is True
    assert len(brief) > 2
    assert not any(brief[1:])
