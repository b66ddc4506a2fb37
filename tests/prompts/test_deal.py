from collections import Counter

import pytest

from sternpost.prompts.deal import dealt, language_of
from sternpost.types import Kind, LabelledPrompt, Message, Request


def prompt(text, kind: Kind = "unsafe", **labels):
    return LabelledPrompt(Request((Message("user", text),), text), kind, **labels)


ROWS = [prompt(f"{kind} number {i}", kind) for kind in ("unsafe", "safe") for i in range(20)]


def test_each_kind_is_dealt_the_same_cards_once():
    cards = dealt(ROWS, seed=0, each=3)
    for part in (cards[:20], cards[20:]):
        assert Counter(card for hand in part for card in hand) == Counter(range(60))


def test_file_order_does_not_matter_and_the_seed_does():
    cards = dealt(ROWS, seed=0, each=1)
    assert dealt(ROWS[::-1], seed=0, each=1) == cards[::-1]
    assert dealt(ROWS, seed=1, each=1) != cards


def test_languages_are_dealt_to_apart():
    both = [*ROWS[:4], *(prompt(f"第{i}个问题", language="zh") for i in range(4))]
    assert sorted(card for hand in dealt(both, 0, 1) for card in hand) == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(("text", "language", "wanted"), [
    ("How do I sail?", None, "en"), ("怎么开船？", None, "zh"), ("怎么用 sail？", None, "en"),
    ("Comment naviguer ?", "fr", "en"), ("sail", "zh-CN", "zh"), ("怎么开船？", "en", "en"),
    ("123 + 4", None, "en")])
def test_the_language_of_a_prompt(text, language, wanted):
    assert language_of(prompt(text, language=language)) == wanted
