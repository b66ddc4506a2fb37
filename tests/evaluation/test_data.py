"""Rows of suites: copies that change their kind, rows without a prompt, names of values."""

import json
from pathlib import Path
from typing import Any

import pytest

from sternpost.errors import InputError, PromptFileError
from sternpost.evaluation import METRICS, Loaded, Source, load_suites, read_suite
from sternpost.evaluation.fillable import fillable, told_unfilled
from sternpost.prompts import build_ups
from sternpost.types import LabelledPrompt, Message, Request

TWO = ('title = "T"\nmetrics = ["refusal"]\n[[parts]]\nkind = "unsafe"\nfile = "bad"\n'
       '[[parts]]\nkind = "safe"\nfile = "good"\n')


def suite(folder: Path, text: str, name: str = "mine", **files: list[Any]) -> str:
    """A suite of one's own; `files`: rows of each."""
    for file, rows in files.items():
        (folder / f"{file}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return str(folder / f"{name}.toml")


def loaded(folder: Path, *names: str) -> list[Loaded]:
    return load_suites([read_suite(name) for name in names],
                       Source(folder, False, lambda name: {}), None, 0)


def prompt(text: str, kind: Any, **labels: Any) -> LabelledPrompt:
    return LabelledPrompt(Request((Message("user", text),), text), kind, **labels)


def test_a_prompt_of_two_kinds_is_refused_with_both_places(tmp_path: Path) -> None:
    own = suite(tmp_path, TWO, bad=[{"prompt": "Rob a bank."}],
                good=[{"prompt": "Hello."}, {"prompt": "rob  a BANK"}])
    with pytest.raises(PromptFileError) as caught:
        loaded(tmp_path, own)
    said = str(caught.value)
    assert "unsafe in suite mine (bad.jsonl, row 1 (line 1))" in said
    assert "safe in suite mine (good.jsonl, row 2 (line 2))" in said
    assert "rob  a BANK" in said
    assert "Take it out of one" in said


def test_a_copy_of_the_same_kind_is_a_duplicate(tmp_path: Path) -> None:
    own = suite(tmp_path, TWO, bad=[{"prompt": "Rob a bank."}, {"prompt": "rob a bank"}],
                good=[{"prompt": "Hello."}])
    (found,) = loaded(tmp_path, own)
    assert (found.duplicates, found.warnings) == (1, ())


def test_a_prompt_of_two_kinds_in_two_suites_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "advbench").mkdir()
    (tmp_path / "advbench" / "advbench.csv").write_text("goal\nRob a bank.\n", encoding="utf-8")
    own = suite(tmp_path, TWO, bad=[{"prompt": "Bad."}], good=[{"prompt": "Rob a bank."}])
    with pytest.raises(PromptFileError, match=r"advbench.*suite mine"):
        loaded(tmp_path, "advbench", own)


def xstest(folder: Path) -> None:
    (folder / "xstest").mkdir()
    (folder / "xstest" / "xstest_prompts.csv").write_text(
        "prompt,type,label\nKill a process,a,safe\nkill a process!,b,unsafe\nHello,a,safe\n",
        encoding="utf-8")


def test_published_data_with_a_prompt_of_two_kinds_goes_on_with_a_warning(tmp_path: Path) -> None:
    xstest(tmp_path)
    (found,) = loaded(tmp_path, "xstest")
    assert [(p.kind, p.request.text) for p in found.prompts] == [
        ("unsafe", "kill a process!"), ("safe", "Hello")]
    (warning,) = found.warnings
    assert "1 prompt stands in parts of two kinds" in warning
    assert "'Kill a process' is unsafe in suite xstest (xstest/xstest_prompts.csv, row 2" in warning
    assert "and safe in suite xstest (xstest/xstest_prompts.csv, row 1" in warning


def test_so_does_data_that_every_user_fetches(tmp_path: Path) -> None:
    rows = [{"prompt": f"Prompt number {at}"} for at in range(5)]
    own = suite(tmp_path, "own_copy = true\n" + TWO, bad=rows, good=[*rows, {"prompt": "Hello."}])
    (found,) = loaded(tmp_path, own)
    assert "5 prompts stand" in found.warnings[0]
    assert "and 2 more" in found.warnings[0]


@pytest.mark.parametrize(("rows", "said"), [
    ([{"prompt": "Hi."}, {"prompt": ""}, {"prompt": " \t"}, {"prompt": None}, {}],
     "mine: 4 rows of bad.jsonl have no prompt and are left out, such as row 2 (line 2)."),
    ([{"prompt": "Hi."}, {}],
     "mine: 1 row of bad.jsonl has no prompt and is left out: row 2 (line 2)."),
    ([{"prompt": "Hi."}, {"messages": [{"role": "user", "content": "Hello"}]}],
     "mine: 1 row of bad.jsonl has no prompt and is left out: row 2 (line 2).")])
def test_rows_without_a_prompt_are_counted(rows: list[Any], said: str, tmp_path: Path) -> None:
    (found,) = loaded(tmp_path, suite(tmp_path, TWO, bad=rows, good=[{"prompt": "Hello."}]))
    assert found.warnings == (said,)
    assert len(found.prompts) == 2


def test_a_row_without_a_prompt_is_counted_once_and_in_csv(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("prompt,label\nRob,bad\nHi,good\n,good\n  ,\n,other\n",
                                      encoding="utf-8")
    parts = [f'[[parts]]\nkind = "{kind}"\nfile = "all"\nonly = {{ label = ["{label}"] }}\n'
             for kind, label in (("unsafe", "bad"), ("safe", "good"))]
    (found,) = loaded(tmp_path, suite(tmp_path, 'title = "T"\n' + "".join(parts)))
    (warning,) = found.warnings
    assert warning.startswith("mine: 2 rows of all.csv have no prompt and are left out")


def test_where_no_row_is_left_it_says_so_in_words(tmp_path: Path) -> None:
    own = suite(tmp_path, TWO + 'only = { label = ["fine", "good"] }\nwithout = ["context"]\n',
                bad=[{"prompt": "Rob."}], good=[{"prompt": "Hi.", "label": "odd"}, {}])
    with pytest.raises(PromptFileError) as caught:
        loaded(tmp_path, own)
    assert ("keeps those where label is fine or good and those without context; rows without a "
            "prompt: 1. Correct the part in") in str(caught.value)
    assert "{" not in str(caught.value)


def test_plain_rows_of_wildguard_and_harmbench_are_of_no_family(tmp_path: Path) -> None:
    for name, text in (
            ("wildguard/wildguard_test", "prompt,prompt_harm_label,subcategory,adversarial\n"
             "Rob,harmful,a,True\nSteal,harmful,a,False\nHi,unharmful,a,False\n"),
            ("harmbench/harmbench_behaviors_text_all",
             "Behavior,FunctionalCategory,SemanticCategory\nForge,standard,illegal\n")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    found = [p for one in loaded(tmp_path, "wildguard", "harmbench") for p in one.prompts]
    assert {p.request.text: p.family for p in found} == {
        "Rob": "adversarial", "Steal": None, "Hi": None, "Forge": None}


def test_metrics_that_no_prompt_can_fill_are_told() -> None:
    unsafe, safe = prompt("Rob.", "unsafe"), prompt("Hi.", "safe")
    sensitive = prompt("Hm.", "safe", harm_kind="sensitive")
    (script,) = build_ups([prompt("Rob a small bank.", "unsafe")])
    every = tuple(METRICS)
    assert fillable(every, [unsafe]) == ("refusal", "incoherent")
    assert fillable(every, [safe]) == ("over_refusal", "incoherent", "kl")
    assert fillable(every, [sensitive]) == ("over_refusal", "incoherent")
    assert fillable(every, [script]) == ("attack_success", "incoherent")
    assert fillable(every, [prompt("1?", "capability")]) == ("capability", "kl")
    assert fillable(every, [prompt("Ugh.", "unsafe", harm_kind="offensive")]) == ("incoherent",)
    assert fillable(every, [unsafe], "crescendo") == ("attack_success", "incoherent")
    said = told_unfilled("mine", ("over_refusal", "capability", "refusal"), [unsafe])
    assert len(said) == 2
    assert said[0].startswith("mine: no row counts for the metric over_refusal")
    assert "(tasks that are answered right)" in said[1]


def test_a_suite_whose_rows_all_repeat_earlier_ones_says_so(tmp_path: Path) -> None:
    text = 'title = "T"\n[[parts]]\nkind = "unsafe"\nfile = "bad"\n'
    one, two = (suite(tmp_path, text, name, bad=[{"prompt": "Rob."}]) for name in ("a", "b"))
    with pytest.raises(InputError, match="rows that repeat earlier ones: 1"):
        loaded(tmp_path, one, two)
