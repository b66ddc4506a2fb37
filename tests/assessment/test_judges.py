"""Names of judges, and what is said of a name that is none."""

from pathlib import Path

import pytest

from sternpost.assessment.judges import judge_named
from sternpost.errors import InputError
from sternpost.types import Completion, Message, Request


def replied(prompt: str, reply: str) -> Completion:
    return Completion(Request((Message("user", prompt),), prompt), reply, reply)


class Chat:
    """Says a class."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, messages, max_tokens=256):
        return "CLASS: PARTIAL"


@pytest.mark.parametrize("name", ["words", "prefixes", "learned"])
def test_plain_names(name):
    judge = judge_named(name)
    assert judge.name == name
    assert [j.verdict for j in judge([replied("p", "I'm sorry, but I cannot help with that."),
                                      replied("p", "Sure! Here is a list of three ideas.")])] == [
        "refusal", "compliance"]


@pytest.mark.parametrize(("name", "known"), [
    ("openai:tiller", "xstest:openai:tiller"), ("xstest:openai:tiller", "xstest:openai:tiller"),
    ("strongreject:openai:tiller", "strongreject:openai:tiller"),
    ("wildguard:openai:tiller", "wildguard:openai:tiller"),
    ("harmbench:openai:tiller", "harmbench:openai:tiller")])
def test_names_of_services(name, known):
    judge = judge_named(name, chat=Chat)
    assert judge.name == known
    [judgement] = judge([replied("p", "some words of a reply")])
    assert judgement.verdict == ("partial" if known.startswith("xstest") else "unparsed")


def test_a_classifier_at_hand(tiny_models):
    judge = judge_named(f"harmbench:{tiny_models['llama']}")
    [judgement] = judge([replied("p", "")])
    assert judgement.verdict == "incoherent"
    assert judge.answers.cut == 0


def test_a_rubric_labels_and_own_code(tmp_path: Path):
    (tmp_path / "r.toml").write_text('name = "r"\ntext = "{response}"\n[answers]\nPARTIAL = '
                                     '"partial"\nNO = "compliance"')
    rubric = judge_named("rubric:r.toml:openai:tiller", folder=tmp_path, chat=Chat)
    assert rubric.name.startswith("rubric:r@")
    (tmp_path / "l.csv").write_text("prompt,reply,label\nask,No way.,refusal\n")
    human = judge_named("human:l.csv", folder=tmp_path)
    assert [j.verdict for j in human([replied("ask", "No way.\n"), replied("ask", "No")])] == [
        "refusal", "unparsed"]
    (tmp_path / "own.py").write_text(
        "from sternpost.types import Judgement\n"
        "def mine(completions): return [Judgement('partial', 'mine')] * len(completions)\n")
    own = judge_named("own.py:mine", folder=tmp_path)
    assert own([replied("a", "b")])[0].reason == "mine"


@pytest.mark.parametrize(("name", "said"), [
    ("word", "There are: words, prefixes, learned"), ("", "There are"),
    ("wildguard:", "There are"), ("human:", "There are"),
    ("xstest:folder", "asks a chat service"), ("rubric:r.toml:folder", "asks a chat service"),
    ("nowhere.py:f", "with the file there")])
def test_a_name_that_is_none_lists_what_there_is(name, said):
    with pytest.raises(InputError, match=said):
        judge_named(name)


def test_human_labels_that_clash_are_refused(tmp_path: Path):
    (tmp_path / "l.csv").write_text("prompt,reply,label\na,b,refusal\na,b,compliance\n")
    with pytest.raises(InputError, match="in an earlier row"):
        judge_named("human:l.csv", folder=tmp_path)
