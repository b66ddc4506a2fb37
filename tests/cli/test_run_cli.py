"""`sternpost run` on a FakeEngine: dry runs, repeated runs, recipes, spellings of options."""

import json
from pathlib import Path
from typing import Any

import pytest


def rewritten(folder: Path) -> dict[str, tuple[int, int]]:
    """Each file's inode and time: both change when it is written anew."""
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in folder.rglob("*") if path.is_file()}


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def test_a_dry_run_prints_the_plan_and_writes_nothing(fake_cli: Any, fake: Any) -> None:
    before = sorted(fake.out.parent.rglob("*"))
    said = fake_cli(*fake.words("--dry-run"))
    assert said.code == 0, said.err
    assert sorted(fake.out.parent.rglob("*")) == before
    assert "search: 18 unsafe, 12 safe" in said.out
    assert "test: 24 unsafe, 21 safe" in said.out
    assert "replies, at most" in said.out
    as_json = json.loads(fake_cli(*fake.words("--dry-run", "--json")).out)
    assert as_json["prompts"]["gate_calibration"] == {"safe": 15}
    assert as_json["sae"]["d_sae"] == 32


def test_a_dry_run_on_a_model_says_what_it_would_train_and_why(cli: Any, fake: Any,
                                                               tiny_models: Any) -> None:
    said = cli("run", "--model", tiny_models["phi3"], "--unsafe", fake.unsafe, "--safe", fake.safe,
               "--out", fake.out, "--dry-run")
    assert said.code == 0, said.err
    assert "output of block 1" in said.out  # the one nearest to 0.2 of 4
    assert "d_sae=256, k=8, tokens=500000" in said.out
    assert "8 x d_model = 8 x 32" in said.out
    assert not fake.out.exists()


def test_a_run_prints_its_table_headline_and_report(fake_cli: Any, fake: Any) -> None:
    said = fake_cli(*fake.words())
    assert said.code == 0, said.err
    assert "baseline" in said.out
    assert "Clamping feature 0 at 2.0 raised unsafe refusal" in said.out
    assert f"report: {fake.out / 'report.html'}" in said.out
    assert "Which feature makes it refuse" in said.err
    assert {p.name for p in fake.out.iterdir()} == {
        "run.json", "results.json", "samples.jsonl", "search.jsonl", "splits.json", "report.html",
        "sae", "diffmean.safetensors"}


def test_a_finished_run_again_shows_its_table_and_rewrites_nothing(fake_cli: Any,
                                                                   fake: Any) -> None:
    first = fake_cli(*fake.words())
    before = rewritten(fake.out)
    for more in ((), ("--resume",)):
        again = fake_cli(*fake.words(*more))
        assert again.code == 0
        assert again.out == first.out
        assert rewritten(fake.out) == before
    as_json = fake_cli(*fake.words("--json"))
    assert json.loads(as_json.out) == results(fake.out)


def test_what_an_interrupted_tidying_left_is_tidied(fake_cli: Any, fake: Any) -> None:
    fake_cli(*fake.words())
    (fake.out / "stages").mkdir()
    (fake.out / "stages" / "own-search.json").write_text("{}")
    assert fake_cli(*fake.words()).code == 0
    assert not (fake.out / "stages").exists()


def test_another_run_in_the_folder_is_refused_by_what_differs(fake_cli: Any, fake: Any) -> None:
    fake_cli(*fake.words())
    before = rewritten(fake.out)
    said = fake_cli(*fake.words("--seed", "3", "--max-new-tokens", "9"))
    assert said.code == 2
    assert "holds another run: it differs in max_new_tokens, seed" in said.err
    assert "--force" in said.err
    assert rewritten(fake.out) == before


def test_the_same_settings_on_another_prompt_file_are_another_run(fake_cli: Any,
                                                                  fake: Any) -> None:
    fake_cli(*fake.words())
    with Path(fake.safe).open("a", encoding="utf-8") as file:
        file.write('{"prompt": "one line more"}\n')
    said = fake_cli(*fake.words("--resume"))
    assert said.code == 2
    assert "differs in hashes" in said.err


def test_force_replaces_the_run_and_keeps_what_is_not_ours(fake_cli: Any, fake: Any) -> None:
    fake_cli(*fake.words())
    (fake.out / "mine.txt").write_text("mine")
    said = fake_cli(*fake.words("--seed", "3", "--force"))
    assert said.code == 0, said.err
    assert results(fake.out)["provenance"]["seed"] == 3
    assert (fake.out / "mine.txt").read_text() == "mine"


def test_an_unfinished_run_needs_to_be_told(fake_cli: Any, fake: Any,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(fake.engine, "residuals", stop)
        assert fake_cli(*fake.words()).code == 130
    said = fake_cli(*fake.words())
    assert said.code == 2
    assert "unfinished" in said.err
    assert "--resume" in said.err
    assert fake_cli(*fake.words("--resume")).code == 0


def test_resume_where_there_is_nothing_begins(fake_cli: Any, fake: Any) -> None:
    assert fake_cli(*fake.words("--resume")).code == 0


def test_results_of_a_newer_version_are_refused(fake_cli: Any, fake: Any) -> None:
    fake_cli(*fake.words())
    (fake.out / "results.json").write_text('{"schema_version": 99}')
    said = fake_cli(*fake.words())
    assert said.code == 2
    assert "schema_version 99" in said.err


def test_a_recipe_with_changes_and_options_that_win(fake_cli: Any, fake: Any,
                                                    tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    body = {"model": "fake", "unsafe": fake.unsafe, "safe": fake.safe, "sae": fake.sae,
            "out": str(fake.out)}
    recipe.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in body.items()) +
                      "feature = [0]\nvalues = [2.0, 4.0]\nseed = 1\nmax-new-tokens = 20\n")
    said = fake_cli("run", recipe, "--set", "seed=3", "--set", "values=[5]", "--set",
                    "system=Be kind.", "--max-new-tokens", 9)
    assert said.code == 0, said.err
    provenance = results(fake.out)["provenance"]
    assert provenance["seed"] == 3
    assert provenance["settings"]["max_new_tokens"] == 9
    assert provenance["settings"]["system"] == "Be kind."
    assert [c["value"] for c in results(fake.out)["conditions"] if c["name"] == "clamp"] == [5]


@pytest.mark.parametrize("words", [("--feature", "1", "2"), ("--feature", "1,2"),
                                   ("--feature", "1", "--feature", "2"), ("--feature=1,2",),
                                   ("--feature", "1", "2", "--seed", "0")])
def test_features_may_be_written_in_several_ways(fake_cli: Any, fake: Any,
                                                 words: tuple[str, ...]) -> None:
    base = fake.words("--dry-run", "--json")
    at = base.index("--feature")
    del base[at:at + 2]
    one = json.loads(fake_cli(*base, "--feature", "1").out)["replies"]["search"]
    said = fake_cli(*base, *words)
    assert said.code == 0, said.err
    assert json.loads(said.out)["replies"]["search"] == 2 * one


def test_a_recipe_after_a_list_of_features_is_the_recipe(fake_cli: Any, fake: Any,
                                                         tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("seed = 5\n")
    said = fake_cli(*fake.words("--dry-run", "--feature", "1", "2", str(tmp_path / "r.toml")))
    assert said.code == 0, said.err


def test_the_recorded_command_repeats_the_run(fake_cli: Any, fake: Any, comparable: Any) -> None:
    import shlex

    fake_cli(*fake.words("--system", "It's fine; \"really\".", "--archetype", "a zorble", "b c"))
    command = results(fake.out)["provenance"]["command"]
    other = fake.out.with_name("other")
    words = shlex.split(command.replace(str(fake.out), str(other)))
    assert words[0] == "sternpost"
    said = fake_cli(*words[1:])
    assert said.code == 0, said.err
    assert comparable(other) == comparable(fake.out)
