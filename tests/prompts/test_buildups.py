from collections import Counter

import pytest

from sternpost.engines.transformers import turns_of
from sternpost.errors import InputError
from sternpost.prompts import build_ups, groups, harmful_turns, scripts, wrapped
from sternpost.prompts.rows import conversation
from sternpost.types import Kind, LabelledPrompt, Message, Request

WORDS = {"en": "How does one mend a {} and an old sail?", "zh": "怎么修理{}和旧帆？"}


def prompt(text, kind: Kind = "unsafe", **labels):
    return LabelledPrompt(Request((Message("user", text),), text), kind, **labels)


def prompts(n, language="en"):
    return [prompt(WORDS[language].format(f"{kind}{i}"), kind, language=language, source=kind)
            for kind in ("unsafe", "safe") for i in range(n)]


def said(row):
    return [message.content for message in row.request.messages]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_script_is_user_turns_and_asks_in_the_last_alone(language):
    assert scripts(language) == scripts() and len(scripts()) >= 6
    rows = prompts(20, language)
    for p, row in zip(rows, build_ups(rows), strict=True):
        *before, last = said(row)
        assert {message.role for message in row.request.messages} == {"user"}
        assert len(turns_of(row.request.messages)) == len(before) + 1 >= 3
        assert p.request.text in last
        assert not any(p.request.text in turn for turn in before)
        assert not any("{" in turn for turn in (*before, last))
        assert row.request == conversation(row.request.messages)
        assert harmful_turns(row) == ((len(before),) if p.kind == "unsafe" else ())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_script_has_its_benign_twin(language):
    rows = prompts(21, language)
    out = build_ups(rows, seed=5)
    got = {kind: Counter(row.family for row in out if row.kind == kind)
           for kind in ("unsafe", "safe")}
    assert got["unsafe"] == got["safe"]
    assert set(got["safe"]) == {f"build_up:{name}" for name in scripts()}


def test_twins_have_the_same_turns_but_for_topic_and_request():
    pair = [prompt("How does one sink a trawler?"), prompt("How does one mend a hammock?", "safe")]
    unsafe, safe = (said(row) for row in build_ups(pair, ["history"]))
    for text, topic, turns in (("How does one sink a trawler?", "sink, trawler", unsafe),
                               ("How does one mend a hammock?", "mend, hammock", safe)):
        assert topic in turns[0]
        turns[:] = [turn.replace(text, "").replace(topic, "") for turn in turns]
    assert unsafe == safe


@pytest.mark.parametrize(("text", "topic"), [
    ("Write a tutorial on how to splice ropes", "splice, ropes"),
    ("Which of the harbours, lighthouses and anchorages is the oldest?",
     "harbours, lighthouses, anchorages"),
    ("How do I do it?", "How"), ("怎么修理旧帆船？", "修理旧帆船"),
    ("请告诉我如何在很大很大的暴风雨里修理帆船", "在很大很大、暴风雨里修理帆船"), ("???", "???")])
def test_the_topic_is_of_content_words(text, topic):
    (row,) = build_ups([prompt(text)], ["lesson"])
    assert f"{topic}." in said(row)[1] or f"：{topic}。" in said(row)[1]


def test_what_is_known_is_kept_and_a_prompt_stays_with_its_build_up():
    rows = [prompt("Where does the rope go?", category="fraud", source="s", language="en"),
            prompt("Where is the anchor kept?", "safe", cluster="c1")]
    out = build_ups(rows, ["news"], seed=1)
    assert [row.cluster for row in out] == [rows[0].request.sha256, "c1"]
    assert (out[0].category, out[0].source, out[0].kind) == ("fraud", "s", "unsafe")
    assert groups([*rows, *out]) == [(0, 2), (1, 3)]


def test_the_seed_decides_and_file_order_does_not():
    rows = prompts(20)
    assert build_ups(rows, seed=1) == build_ups(rows, seed=1)
    assert set(build_ups(rows[::-1], seed=1)) == set(build_ups(rows, seed=1))
    assert build_ups(rows, seed=2) != build_ups(rows, seed=1)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: build_ups(prompts(1), ["curios"]), "no build-up script curios.*curious"),
    (lambda: scripts("de"), "worded in en, zh; got 'de'"),
    (lambda: build_ups(wrapped(prompts(1))), "of the family .* already"),
    (lambda: build_ups([LabelledPrompt(conversation(
        (Message("user", "a"), Message("user", "b"))), "safe")]), "a conversation already"),
])
def test_what_cannot_be_played_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
