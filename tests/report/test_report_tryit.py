"""What to type: exact commands, quoted, and an example that compiles."""

import ast
import shlex

import pytest

import sternpost
from sternpost.report import render_report
from sternpost.report.tryit import out_folder, snippets


def with_command(results, command):
    return results | {"provenance": {"command": command}}


@pytest.mark.parametrize(("command", "out"), [
    ("sternpost run --out runs/first --seed 7", "runs/first"), ("run --out=a/b/", "a/b"),
    ("run --out 'my runs/x'", "my runs/x"), ("run --out", None), ("run --out 'open", None),
    ("run --seed 1", None), ("", None)])
def test_out_folder_is_read_from_the_command(command, out):
    assert out_folder(command) == out


def test_a_run_with_a_gate_is_used_through_its_pack(fake_results):
    again, chat, python = snippets(fake_results(full=True))
    assert again.code == fake_results()["provenance"]["command"]
    assert chat.code == "sternpost chat --pack runs/first/pack"
    assert 'sternpost.load_pack("runs/first/pack").at("high")' in python.code
    assert 'load_model("tiny-chat-instruct")' in python.code
    assert "sternpost.steer(model, plan) as run" in python.code


def test_a_run_without_gate_is_used_through_its_sae(fake_results):
    _, chat, python = snippets(fake_results())
    assert chat.code == ("sternpost chat --model tiny-chat-instruct --sae runs/first/sae "
                         "--clamp 597=6.0")
    assert "sternpost.Clamp(feature=597, value=6.0)" in python.code
    assert "pack" not in chat.code + python.code


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("out", ["runs/first", "it's here", 'a "b" c\\d'])
def test_example_compiles_and_names_only_what_there_is(fake_results, full, out):
    command = f"sternpost run --out {shlex.quote(out)}"
    _, chat, python = snippets(with_command(fake_results(full=full), command))
    tree = ast.parse(python.code)
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
             and isinstance(node.value, ast.Name) and node.value.id == "sternpost"}
    assert named <= set(sternpost.__all__) and {"steer", "load_model"} <= named
    paths = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    wanted = f"{out}/{'pack' if full else 'sae'}"
    assert wanted in paths and wanted in shlex.split(chat.code)
    assert f"run.proof[0].{'risk' if full else 'after'})" in python.code
    assert len(tree.body) == 6  # the import, and five statements


def test_without_an_out_folder_there_is_no_more_than_the_command(fake_results):
    only = snippets(with_command(fake_results(full=True), "sternpost run --seed 3"))
    assert [s.code for s in only] == ["sternpost run --seed 3"]
    assert snippets({}) == []
    no_value = fake_results() | {"best_d": {"value": None}}
    assert len(snippets(no_value)) == 1


def test_page_has_each_with_a_copy_button(fake_results):
    html = render_report(fake_results(full=True), [])
    assert 'id="try"' in html and html.count('class="copy needs-js" hidden') == 3
    assert "load_pack(&#34;runs/first/pack&#34;)" in html
    assert 'id="try"' not in render_report({"model": "m", "conditions": []}, [])
