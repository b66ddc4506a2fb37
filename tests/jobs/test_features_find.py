"""`features find` on dinghy's prompts: what is written, and that it is what the methods say."""

from pathlib import Path
from typing import Any

import pytest

import sternpost
from sternpost.errors import InputError
from sternpost.files import read_json, read_jsonl
from sternpost.jobs.demo import demo_settings

pytestmark = pytest.mark.slow
METHODS = ["paper", "contrast", "cc_delta", "diffmean_cosine", "attribution", "output_score",
           "causal_grid"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("features")
    demo = demo_settings(out=str(folder / "demo"), seed=0, quick=True, resume=False, force=False)
    files = {kind: getattr(demo, kind) for kind in ("unsafe", "safe", "capability", "corpus")}
    return {"model": "dinghy", **files, "out": str(folder / "found"), "d_sae": 256, "k": 16,
            "tokens": 200_000, "limit": 150, "max_new_tokens": 24}


@pytest.fixture(scope="module")
def found(told: dict[str, Any]) -> Any:
    return sternpost.features_find(**told)


def test_every_method_ranks_features(found: Any) -> None:
    methods = found.found["methods"]
    assert list(methods) == METHODS
    for name, entries in methods.items():
        scores = [entry["score"] for entry in entries]
        assert entries, name
        assert len({entry["feature"] for entry in entries}) == len(entries)
        assert scores == sorted(scores, reverse=True)
    tried = {entry["feature"] for entry in (*methods["causal_grid"], *found.found["first_pass"])}
    for name in METHODS[:-1]:
        assert {entry["feature"] for entry in methods[name][:12]} & tried
    assert len(found.to_pandas()) == sum(map(len, methods.values()))


def test_the_grid_ranks_what_was_tried_on_all_prompts(found: Any) -> None:
    grid, dropped = found.found["methods"]["causal_grid"], found.found["first_pass"]
    assert len(grid) == 24
    (n,) = {entry["unsafe_refusal"]["n"] for entry in grid}
    assert all(entry["unsafe_refusal"]["n"] <= n for entry in dropped)
    listed = [entry["feature"] for entry in (*grid, *dropped)]
    assert len(listed) == len(set(listed))
    lines = read_jsonl(found.path / "search.jsonl")
    for entry in grid:
        mine = [line for line in lines if line["condition"] == "clamp"
                and line["feature"] == entry["feature"] and line["kind"] == "unsafe"
                and line["harm_kind"] != "offensive"]
        assert entry["unsafe_refusal"]["hits"] == sum(line["hit"] for line in mine)
        assert len(mine) == n


def test_sets_controls_and_harm_stand_beside_them(found: Any) -> None:
    body = found.found
    assert all(one["score"] >= other["score"] for one, other in
               zip(body["sets"], body["sets"][1:], strict=False))
    assert [c["control"] for c in body["controls"]] == ["random"] * 4 + ["most_general"]
    tried = {e["feature"] for e in (*body["methods"]["causal_grid"], *body["first_pass"])}
    lines = read_jsonl(found.path / "search.jsonl")
    for c in body["controls"]:
        mine = [line for line in lines if line["condition"] == f"control {c['control']}"
                and line["feature"] == c["feature"] and line["kind"] == "safe"]
        assert c["over_refusal"]["hits"] == sum(line["hit"] for line in mine)
        assert c["control"] == "most_general" or c["feature"] not in tried
    assert body["harm"]
    assert all(-1 <= rho <= 1 for rho in body["agreement"].values())


def test_sets_have_two_members_and_more_and_their_parts(found: Any) -> None:
    lines = read_jsonl(found.path / "search.jsonl")
    for one in found.found["sets"]:
        assert 2 <= len(one["features"]) <= 4
        assert [e["feature"] for e in one["alone"]] == one["features"]
        name = "+".join(sorted(f"{e['edit']}{e['feature']}" for e in one["edits"]))
        mine = [line for line in lines if line["condition"] == name and line["kind"] == "unsafe"
                and line["harm_kind"] != "offensive"]
        assert one["unsafe_refusal"]["hits"] == sum(line["hit"] for line in mine)
        mixed = {e["edit"] for e in one["edits"]} == {"Clamp", "Ablate"}
        assert (one["raised"] is not None) == (one["lowered"] is not None) == mixed


def test_pairs_of_the_best_set_are_recounted(found: Any) -> None:
    lines = read_jsonl(found.path / "samples.jsonl")
    edits = {e["feature"]: f"{e['edit']}{e['feature']}" for e in found.found["sets"][0]["edits"]}
    for pair in found.found["interactions"]:
        a, b = (edits[f] for f in pair["features"])

        def share(name: str) -> float:
            mine = [line["hit"] for line in lines if line["condition"] == name
                    and line["kind"] == "safe" and line["harm_kind"] != "offensive"]
            return 100 * sum(mine) / len(mine)

        want = share(f"{a}+{b}") - share(a) - share(b) + share("baseline")
        assert pair["over_refusal"]["points"] == pytest.approx(want, abs=1e-6)
        assert pair["over_refusal"]["low"] <= want + 1e-6
        assert -1 <= pair["cosine"] <= 1


def test_side_effects_are_by_group_and_paired(found: Any) -> None:
    rows = found.found["side_effects"]["causal_grid"]
    kinds = {(row["kind"], row["by"]) for row in rows}
    assert ("capability", "language") in kinds
    assert ("unsafe", "category") in kinds
    for row in rows:
        moved = 100 * (row["after"]["hits"] - row["before"]["hits"]) / row["before"]["n"]
        assert row["change"]["points"] == pytest.approx(moved, abs=1e-6)
        assert row["q"] >= row["p"]


def test_what_was_confirmed_is_counted_over_the_test_split(found: Any) -> None:
    lines = read_jsonl(found.path / "samples.jsonl")
    test = set(read_json(found.path / "splits.json")["test"])
    assert {line["prompt_sha256"] for line in lines} <= test
    for name, entry in found.found["confirmed"].items():
        if name == "set_against_paper":
            continue
        mine = [line for line in lines if line["condition"] == name and line["kind"] == "unsafe"
                and line["harm_kind"] != "offensive"]
        assert entry["unsafe_refusal"]["hits"] == sum(line["hit"] for line in mine)
        assert entry["unsafe_refusal"]["n"] == len(mine)
        if name == "causal_grid":
            best = found.found["methods"]["causal_grid"][0]
            assert entry["search"]["unsafe_refusal"] == best["unsafe_refusal"]
    assert found.found["confirmed"]["set"]["search"]["discrimination"]["points"] == pytest.approx(
        found.found["sets"][0]["score"])


def test_it_is_shown_again_and_another_run_is_refused(found: Any, told: dict[str, Any]) -> None:
    assert sternpost.features_find(**told).found == found.found
    with pytest.raises(sternpost.SternpostError, match="another run"):
        sternpost.run(**told)
    assert not (Path(told["out"]) / "results.json").exists()


def test_values_of_one_feature_are_the_runs_to_sweep(told: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="leave out --values"):
        sternpost.features_find(**{**told, "out": f"{told['out']}-values", "values": (2.0,)})


def test_given_features_are_clamped_instead_of_the_methods_best(
        told: dict[str, Any], found: Any, tmp_path: Path) -> None:
    some = [entry["feature"] for entry in found.found["methods"]["causal_grid"][:3]]
    given = {key: value for key, value in told.items() if key not in ("d_sae", "k", "tokens")}
    again = sternpost.features_find(**{**given, "out": str(tmp_path / "given"), "feature": some,
                                       "sae": str(found.path / "sae")})
    grid = again.found["methods"]["causal_grid"]
    assert {entry["feature"] for entry in grid} == set(some)
    assert all(entry["origin"] == "given" for entry in grid)


def test_a_dry_run_counts_its_own_stages(told: dict[str, Any], found: Any) -> None:
    small, large = (sternpost.features_find(**{**told, "out": f"{told['out']}-dry", "dry_run": True,
                                               "largest": n}) for n in (2, 6))
    assert list(small.replies) == ["baseline", "grid", "controls", "sets", "test"]
    assert small.replies["sets"] < large.replies["sets"]
    made = len(read_jsonl(found.path / "search.jsonl"))
    plan = sternpost.features_find(**{**told, "out": f"{told['out']}-dry", "dry_run": True})
    assert made <= sum(plan.replies[s] for s in ("baseline", "grid", "controls", "sets"))


def test_descriptions_in_the_folder_do_not_make_it_another_runs(found: Any, told: dict[str, Any],
                                                                tmp_path: Path) -> None:
    (tmp_path / "descriptions").mkdir()
    given = {key: value for key, value in told.items() if key not in ("d_sae", "k", "tokens")}
    again = sternpost.features_find(**{**given, "out": str(tmp_path), "feature": [1, 1, 2],
                                       "sae": str(found.path / "sae")})
    assert (tmp_path / "descriptions").is_dir()
    grid = [entry["feature"] for entry in again.found["methods"]["causal_grid"]]
    assert sorted(grid) == [1, 2]
