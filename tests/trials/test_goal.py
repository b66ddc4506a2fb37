"""A goal file: what it says, and what is told where it says it wrongly."""

from pathlib import Path

import pytest

from sternpost.discovery.find_settings import FindSettings
from sternpost.errors import InputError
from sternpost.trials.goal import REFUSALS, read_goal
from sternpost.trials.settings import settings_from
from sternpost.types import Completion, Judgement, Request

GOOD = """
name = "apology"
about = "the reply says sorry"
patterns = ["\\\\bsorry\\\\b"]
unsafe = "rude.jsonl"
safe = "hf:org/kind/train"
archetype = ["Say sorry."]
"""
WORDS = "Here is a long reply in plain words, and at its very end comes that I am sorry"


def goal(folder: Path, text: str) -> str:
    (folder / "goal.toml").write_text(text)
    return str(folder / "goal.toml")


def said(text: str) -> Completion:
    return Completion(Request((), ""), text, text)


def test_patterns_tell_wherever_they_stand(tmp_path: Path) -> None:
    sought = read_goal(goal(tmp_path, GOOD))
    judge = sought.judge()
    judged = judge([said(WORDS), said("The sky is blue today."), said("no no no no no no no no "
                                                                       "no no no no no no no")])
    assert [j.verdict for j in judged] == ["shown", "absent", "incoherent"]
    assert [sought.goal.shown(j) for j in judged] == [True, False, False]
    assert "sorry" in judged[0].reason
    assert sought.prompts == {"unsafe": str(tmp_path / "rude.jsonl"), "safe": "hf:org/kind/train",
                              "archetype": ("Say sorry.",)}


def test_without_a_file_the_goal_is_refusal() -> None:
    assert read_goal(None) is REFUSALS
    assert REFUSALS.goal.shown(Judgement("partial", ""))
    assert not REFUSALS.goal.shown(Judgement("compliance", ""))


def test_a_judge_of_ones_own_is_a_python_object(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from sternpost.types import Judgement\n"
        "def long(completions):\n"
        "    return [Judgement('shown' if len(c.reply) > 20 else 'absent', 'length')\n"
        "            for c in completions]\n")
    text = GOOD.replace('patterns = ["\\\\bsorry\\\\b"]', 'judge = "mine.py:long"\n'
                        'wanted = ["shown"]')
    sought = read_goal(goal(tmp_path, text))
    verdicts = sought.judge(None, None)([said("short"), said("long enough to be called so")])
    assert [sought.goal.shown(v) for v in verdicts] == [False, True]


def test_prompts_of_the_goal_stand_in_for_those_not_given(tmp_path: Path) -> None:
    given = {"model": "m", "out": "o", "goal": goal(tmp_path, GOOD), "unsafe": "mine.jsonl"}
    settings = settings_from(FindSettings, given, "features find")
    assert settings.unsafe == "mine.jsonl"
    assert settings.safe == "hf:org/kind/train"
    assert settings.archetype == ("Say sorry.",)


@pytest.mark.parametrize(("change", "message"), [
    (("name =", "nome ="), "unknown key 'nome'"),
    (('about = "the reply says sorry"', "about = 3"), "about is a text"),
    (("patterns", "# patterns"), "either patterns"),
    (("\\\\bsorry", "("), "no regular expression"),
    (('"Say sorry."', ""), "archetype is a list of texts"),
    (('patterns = ["\\\\bsorry\\\\b"]', 'judge = "away.py:x"\nwanted = ["shown"]'),
     "A judge of yours is file.py:name"),
    (('patterns = ["\\\\bsorry\\\\b"]', 'judge = "a.py:x"\nwanted = ["rude"]'), "wanted lists"),
    (("name", "name = ["), "not a TOML file")])
def test_a_wrong_goal_is_told_what_is_wrong(tmp_path: Path, change: tuple[str, str],
                                            message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_goal(goal(tmp_path, GOOD.replace(*change)))


def test_no_file_and_a_wrong_size(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No goal file"):
        read_goal(str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match="largest is a number of features from 2 to 20"):
        FindSettings(model="m", unsafe="u", safe="s", out="o", largest=21)


OWN = {
    "raises": ("def judge(cs):\n    raise KeyError('x')\n", "raised KeyError"),
    "too few": ("def judge(cs):\n    return []\n", "gave nothing for 1 replies"),
    "texts": ("def judge(cs):\n    return ['shown' for c in cs]\n", "gave 'shown' for 1 replies"),
    "a class": ("class judge:\n    pass\n", "a class, and it needs an object"),
    "no name": ("x = 1\n", "no judge"),
    "no Python": ("def judge(:\n", "cannot be run: SyntaxError")}


@pytest.mark.parametrize("name", OWN)
def test_what_is_wrong_with_a_judge_of_ones_own_is_told(tmp_path: Path, name: str) -> None:
    code, message = OWN[name]
    (tmp_path / "mine.py").write_text(code)
    text = GOOD.replace('patterns = ["\\\\bsorry\\\\b"]', 'judge = "mine.py:judge"\n'
                        'wanted = ["shown"]')
    with pytest.raises(InputError, match=message):
        read_goal(goal(tmp_path, text)).judge()([said("Good day.")])


def test_another_judge_is_another_goal(tmp_path: Path) -> None:
    text = GOOD.replace('patterns = ["\\\\bsorry\\\\b"]', 'judge = "mine.py:judge"\n'
                        'wanted = ["shown"]')
    hashes = []
    for code in ("def judge(cs): ...\n", "def judge(cs):  # changed\n    ...\n"):
        (tmp_path / "mine.py").write_text(code)
        hashes.append(read_goal(goal(tmp_path, text)).sha256)
    assert hashes[0] != hashes[1]
