"""What had been said when a reply was made, out of a run's own lines."""

import json
from typing import Any

import pytest

from sternpost.assessment.judge_replies import LOST, Talks
from sternpost.files import canonical_json
from sternpost.types import Message

A, B, C = ({"role": "user", "content": text} for text in "abc")
SYSTEM = {"role": "system", "content": "be kind"}
GIVEN = {"role": "assistant", "content": "given"}


def line(prompt: Any, reply: str = "r", **more: Any) -> dict[str, Any]:
    text = prompt if isinstance(prompt, str) else canonical_json(prompt)
    return {"condition": "baseline", "value": None, "suite": "smoke", "turn": None,
            "prompt": text, "reply": reply, "reason": "", **more}


def test_a_plain_prompt_is_itself():
    for text in ("ask", "user: ask", "[{", '[{"a": 1}]', '[{"role": "user"}]', "[]",
                 json.dumps([{"role": "user", "content": 3}]), "[{" * 10_000):
        assert Talks(()).shown(line(text)) == text
        assert Talks(()).before(line(text)) == (Message("user", text),)


@pytest.mark.parametrize(("turn", "shown"), [
    (0, "system: be kind\nuser: a"),
    (1, "system: be kind\nuser: a\nassistant: 0\nuser: b"),
    (2, "system: be kind\nuser: a\nassistant: 0\nuser: b\nassistant: 1\nuser: c"),
    (None, f"system: be kind\nuser: a\nassistant: {LOST}\nuser: b\nassistant: {LOST}\nuser: c")])
def test_a_build_up_is_shown_up_to_the_reply(turn, shown):
    script = [SYSTEM, A, B, C]
    lines = [line(script, str(at), turn=at) for at in range(3)]
    others = [line(script, "x", turn=at, condition="steered", value=8.0) for at in range(3)]
    assert Talks([*lines, *others]).shown(line(script, turn=turn)) == shown


def test_replies_that_the_prompt_gives_are_turns_too():
    script = [A, GIVEN, B, C]
    talks = Talks(line(script, str(at), turn=at) for at in range(3))
    assert talks.shown(line(script, turn=0)) == "user: a"
    assert talks.shown(line(script, turn=1)) == "user: a\nassistant: given\nuser: b"
    assert talks.shown(line(script, turn=2)).endswith("user: b\nassistant: 1\nuser: c")
    assert talks.shown(line([A, GIVEN, B])) == "user: a\nassistant: given\nuser: b"


def test_an_attack_is_what_the_attacker_asked():
    lines = [line("the aim", f"reply {at}", turn=at, asked=f"ask {at}") for at in range(2)]
    assert Talks(lines).shown(lines[1]) == "user: ask 0\nassistant: reply 0\nuser: ask 1"
    assert Talks(lines).shown(lines[0]) == "user: ask 0"


def test_a_judge_is_given_the_conversation_and_the_answer_alone():
    lines = [line([A, B], str(at), turn=at) for at in range(2)]
    said = Talks(lines).completion(lines[1])
    assert [turn.content for turn in said.messages] == ["a", "0", "b", "1"]
    assert [turn.content for turn in said.request.messages] == ["a", "b"]
    assert (said.request.text, said.reply, said.answer) == (lines[1]["prompt"], "1", "1")
    thought = Talks(()).completion(line("p", "<think>hm</think>yes"))
    assert (thought.reply, thought.answer) == ("<think>hm</think>yes", "yes")
    assert Talks(()).completion(line("p", "hm", reason="cut off while still thinking")) \
        .answer is None
