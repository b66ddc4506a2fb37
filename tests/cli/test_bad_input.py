"""Wrong input through the command line: exit 2, one message, nothing left behind."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def bad(cli: Any, fake: Any, tiny_models: Any) -> Callable[..., str]:
    """Runs `sternpost run` on a tiny Llama with some words changed (None: left out), expects it
    to be refused, and gives what it said."""
    def call(*more: Any, **changes: Any) -> str:
        options = {"model": tiny_models["llama"], "unsafe": fake.unsafe, "safe": fake.safe,
                   "max_new_tokens": 2, "out": fake.out, **changes}
        words = [word for name, value in options.items() if value is not None
                 for word in (f"--{name.replace('_', '-')}", value)]
        before = sorted(fake.out.parent.rglob("*"))
        said = cli("run", *words, *more)
        assert said.code == 2, (said.out, said.err)
        assert len(re.findall(r"^Error: ", said.err, re.MULTILINE)) == 1
        assert "Traceback" not in said.err + said.out
        assert said.out == ""
        assert sorted(fake.out.parent.rglob("*")) == before
        return said.err.partition("Error: ")[2]

    return call


@pytest.mark.parametrize("side", ["unsafe", "safe"])
def test_a_missing_file(bad: Any, side: str) -> None:
    assert "nowhere.jsonl does not exist" in bad(**{side: "nowhere.jsonl"})


def test_no_prompt_column(bad: Any, tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("text,label\nhello,1\n")
    message = bad(unsafe=tmp_path / "odd.csv")
    assert "no prompt column" in message
    assert "text, label" in message
    assert "odd.csv#COLUMN" in message


def test_a_column_that_is_not_there(bad: Any, fake: Any) -> None:
    assert "has no column 'ask'" in bad(unsafe=f"{fake.unsafe}#ask")


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl"])
def test_an_empty_file(bad: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert "is empty" in bad(safe=tmp_path / name)


def test_a_header_without_rows(bad: Any, tmp_path: Path) -> None:
    (tmp_path / "head.csv").write_text("prompt\n")
    assert "has no rows" in bad(safe=tmp_path / "head.csv")


def test_a_file_that_is_not_utf8(bad: Any, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("prompt\ncaf\xe9\n".encode("latin-1"))
    message = bad(unsafe=tmp_path / "latin.csv")
    assert "not UTF-8" in message
    assert "iconv" in message


def test_too_few_prompts(bad: Any, prompt_file: Any) -> None:
    few = prompt_file("few.jsonl", [{"prompt": f"say number {i} {i * i}"} for i in range(11)])
    message = bad(unsafe=few)
    assert "11 different unsafe prompts" in message
    assert "60 are needed" in message
    assert "Add 49" in message


SPLITS = ("search", "gate_fit", "gate_calibration", "test")


@pytest.mark.parametrize(("side", "says"), [
    ("unsafe", "at least 5 clusters a side; the gate_fit split has 1 unsafe"),
    ("safe", "the gate_calibration split; it has none"),
    (None, None)])
def test_prompts_that_no_gate_can_be_made_of(bad: Any, prompt_file: Any, side: str | None,
                                             says: str) -> None:
    """Said before the model is asked anything, which refuses nothing and would end the run."""
    def rows(kind: str) -> list[dict[str, Any]]:
        made = [{"prompt": f"{kind} number {i} {i * i}", "split": SPLITS[i % 4]}
                for i in range(100)]
        if kind == "unsafe":
            made = [row for row in made if row["split"] != "gate_calibration"]
        if kind == side == "unsafe":
            made = [{**row, "cluster": "one" if row["split"] == "gate_fit" else row["prompt"]}
                    for row in made]
        if kind == side == "safe":
            for row in made:
                row["split"] = row["split"].replace("calibration", "fit")
        return made

    files = {kind: prompt_file(f"{kind}.jsonl", rows(kind)) for kind in ("unsafe", "safe")}
    message = bad(**files)
    if side is None:
        assert "gate" not in message
    else:
        assert says in message
        assert "--no-gate" in message
        assert "gate" not in bad("--no-gate", **files)


def test_a_limit_below_what_is_needed(bad: Any) -> None:
    assert "60 are needed" in bad(limit=20)


def test_a_chat_template_that_is_no_jinja(bad: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.jinja").write_text("{% for m in messages %}{{ m.content ")
    message = bad(chat_template=tmp_path / "broken.jinja")
    assert "chat template fails" in message
    assert "--chat-template" in message


def test_a_chat_template_that_is_not_there_or_empty(bad: Any, tmp_path: Path) -> None:
    assert "No readable chat template" in bad(chat_template=tmp_path / "none.jinja")
    (tmp_path / "empty.jinja").write_text(" \n")
    assert "is empty" in bad(chat_template=tmp_path / "empty.jinja")


def test_a_chat_template_that_takes_no_system_message(bad: Any, tmp_path: Path) -> None:
    (tmp_path / "strict.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}{{ m.content }}{% endfor %}")
    message = bad(chat_template=tmp_path / "strict.jinja", system="Be kind.")
    assert "no system role" in message
    assert "leave --system out" in message


def test_a_chat_template_that_drops_the_message(bad: Any, tmp_path: Path) -> None:
    (tmp_path / "deaf.jinja").write_text("hello there")
    assert "leaves the user's message out" in bad(chat_template=tmp_path / "deaf.jinja")


def test_template_arguments_that_are_no_object(bad: Any) -> None:
    assert "JSON object" in bad(chat_template_kwargs="[1]")
    assert "JSON object" in bad(chat_template_kwargs="{oops")


def test_a_model_folder_that_is_none(bad: Any, tmp_path: Path) -> None:
    (tmp_path / "things").mkdir()
    assert "no config.json" in bad(model=tmp_path / "things")
    assert "No model folder" in bad(model=tmp_path / "nowhere")
    assert "Cannot load" in bad(model="no-such-model-anywhere")


def test_a_model_with_broken_weights(bad: Any, tiny_models: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in Path(tiny_models["llama"]).iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(data[:99] if "safetensors" in file.name else data)
    assert "Cannot load a causal language model" in bad(model=broken)


def test_an_sae_of_another_width(bad: Any, fake: Any) -> None:
    message = bad(sae=fake.sae)
    assert "d_model=16" in message
    assert "has 32" in message


def test_an_sae_folder_that_is_none(bad: Any, tmp_path: Path) -> None:
    assert "No SAE folder" in bad(sae=tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    assert "holds no SAE" in bad(sae=tmp_path / "bare")


def test_an_sae_beside_sizes_of_one(bad: Any, fake: Any) -> None:
    assert "--sae brings its own size" in bad(sae=fake.sae, k=4)


def test_layers_and_features_out_of_range(bad: Any, tmp_path: Path, tiny_models: Any) -> None:
    import torch

    from sternpost.sae import SAE, save_sae
    from sternpost.types import Hookpoint

    assert "Layer 4 is out of range" in bad(layer=4)
    assert "0 to 3" in bad(layer=99)
    assert "from 0 up" in bad(layer=-1)
    assert "Feature 256 is out of range" in bad(feature=256)  # 8 x d_model would be trained
    assert "Feature 7 is out of range" in bad(feature=7, d_sae=7, k=2)
    assert "from 0 up" in bad(feature=-1)
    rows = torch.eye(32)[:5]
    save_sae(SAE(rows, rows, torch.zeros(5), torch.zeros(32), Hookpoint(9), k=2), tmp_path / "five")
    assert "Layer 9 is out of range" in bad(sae=tmp_path / "five")
    assert "features 0 to 4" in bad(sae=tmp_path / "five", layer=1, feature=5)


@pytest.mark.parametrize(("option", "value", "says"), [
    ("values", "1,nan", "finite"), ("values", "inf", "finite"), ("values", "2,4,2", "twice"),
    ("values", "two", "takes numbers"), ("feature", "1.5", "takes numbers"),
    ("k", 300, "--k of at most 256"), ("tokens", 0, "from 1 up"), ("limit", -1, "from 1 up"),
    ("batch_size", "many", "'auto' or a whole number"), ("batch_size", 0, "from 1 up"),
    ("max_new_tokens", 0, "from 1 up"), ("positions", "middle", "Unknown position"),
    ("error", "lose", "keep"), ("mode", "fuzzy", "exact"), ("seed", "x", "not a valid integer"),
    ("dtype", "int3", "dtype is auto")])
def test_values_that_make_no_sense(bad: Any, option: str, value: Any, says: str) -> None:
    assert says in bad(**{option: value})


def test_error_drop_needs_mode_exact(bad: Any) -> None:
    assert "needs mode 'exact'" in bad(error="drop", mode="relu")


def test_an_unknown_device(bad: Any) -> None:
    assert "device" in bad(device="abacus").lower()


def test_what_must_be_given(bad: Any) -> None:
    assert "missing safe" in bad(safe=None)
    assert "missing out" in bad(out=None)
    assert "No such option" in bad("--fast")


@pytest.mark.parametrize("below", ["", "run", "deep/run"])
def test_an_out_folder_that_is_or_lies_under_a_file(bad: Any, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file" in bad(out=tmp_path / "file" / below)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_out_folder_that_holds_something_else(bad: Any, fake: Any) -> None:
    fake.out.mkdir()
    (fake.out / "mine.txt").write_text("mine")
    message = bad()
    assert "not empty and holds no run" in message
    assert "--force" in message


def test_a_recipe_that_is_missing_or_wrong(cli: Any, tmp_path: Path) -> None:
    def said(text: str | None, *more: str) -> str:
        path = tmp_path / "recipe.toml"
        if text is not None:
            path.write_text(text)
        answer = cli("run", path, *more)
        assert answer.code == 2
        assert "Traceback" not in answer.err
        return answer.err

    assert "No recipe at" in said(None)
    assert "not a TOML recipe" in said("model = ")
    message = said('model = "m"\nunsafe = "u"\nsafe = "s"\nout = "o"\nspeed = 3')
    assert "unknown setting 'speed'" in message
    assert "Known: model, unsafe" in message
    assert "missing out" in said('model = "m"\nunsafe = "u"\nsafe = "s"')
    assert "--set takes key=value" in said("", "--set", "seed")
    whole = 'model = "m"\nunsafe = "u"\nsafe = "s"\nout = "o"\n'
    assert "seed is a whole number" in said(whole + 'seed = "one"')
    assert "seed is a whole number" in said(whole, "--set", "seed=true")
    assert "model is a text" in said("model = 3\n" + whole.partition("\n")[2])
    assert "force is true or false" in said(whole + 'force = "yes"')
    assert "values are finite numbers" in said(whole + 'values = ["2"]')
    assert "archetype is a prompt" in said(whole + "archetype = [1]")


def test_set_without_a_recipe(cli: Any) -> None:
    said = cli("run", "--set", "seed=3")
    assert said.code == 2
    assert "--set changes a recipe" in said.err


@pytest.mark.parametrize("name", ["phi3", "llama", "gpt2"])
def test_a_model_that_refuses_nothing_is_told_the_counts(bad: Any, tiny_models: Any, fake: Any,
                                                         name: str) -> None:
    message = bad(model=tiny_models[name], max_new_tokens=4, out=fake.out / "a" / "b")
    assert "refuses nothing: 0 of 18 unsafe and 0 of 12 safe search prompts" in message
    assert "--archetype" in message


def test_the_wrong_number_of_per_row_edit_lists(tiny_models: Any) -> None:
    import torch

    import sternpost
    from sternpost.errors import EditError
    from sternpost.sae import SAE
    from sternpost.types import Hookpoint

    model, _ = sternpost.load_model(tiny_models["llama"])
    eye = torch.eye(32)
    sae = SAE(eye, eye, torch.zeros(32), torch.zeros(32), Hookpoint(1), k=4)
    ids = torch.ones(3, 4, dtype=torch.long)
    lists = [[sternpost.Clamp(1, 2.0)], []]
    with sternpost.steer(model, sae, lists), pytest.raises(EditError, match=r"2 lists .* 3 rows"):
        model(input_ids=ids)
    with sternpost.steer(model, sae, lists), pytest.raises(EditError, match=r"2 lists .* 3 rows"):
        model.generate(input_ids=ids, max_new_tokens=1)


def test_debug_shows_the_traceback(cli: Any, fake: Any) -> None:
    from sternpost.errors import PromptFileError

    with pytest.raises(PromptFileError):
        cli(*fake.words("--unsafe", "nowhere.csv", "--debug"))


def test_a_bug_is_no_bad_input(fake_cli: Any, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake.engine, "generate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # Python prints it and exits 1
        fake_cli(*fake.words())


@pytest.mark.slow
def test_in_a_process_of_its_own(fake: Any, tmp_path: Path) -> None:
    words = fake.words("--unsafe", str(tmp_path / "nowhere.csv"))
    done = subprocess.run([sys.executable, "-c", "from sternpost.cli import main; main()", *words],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "nowhere.csv does not exist" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not fake.out.exists()


def test_doctor_and_chat_refuse_bad_input_too(cli: Any, tiny_models: Any, fake: Any) -> None:
    llama = tiny_models["llama"]
    for words, says in [
            (("doctor", "--model", "nowhere/at/all"), "No model folder"),
            (("doctor", "--model", llama, "--sae", "nowhere/x/y"), "No SAE folder"),
            (("chat", "--model", llama, "--clamp", "3=4"), "--sae"),
            (("chat", "--model", llama, "--sae", fake.sae, "--clamp", "three"), "FEATURE=VALUE"),
            (("chat", "--model", llama, "--sae", fake.sae, "--clamp", "1=2"), "d_model")]:
        said = cli(*words)
        assert (said.code, "Traceback" in said.err) == (2, False), words
        assert says in said.err, words


def test_doctor_json_is_json_even_when_a_check_fails(cli: Any, tiny_models: Any) -> None:
    said = cli("doctor", "--model", tiny_models["llama"], "--layer", 9, "--json")
    assert said.code == 2
    checks = json.loads(said.out)["checks"]
    assert not all(check["ok"] for check in checks)
