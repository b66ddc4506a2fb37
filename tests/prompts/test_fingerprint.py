
import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sternpost.prompts import groups, key, near_record, without_each_word
from sternpost.prompts.fingerprint import words
from sternpost.types import Kind, LabelledPrompt, Message, Request


def prompt(text, cluster=None, kind: Kind = "unsafe"):
    return LabelledPrompt(Request((Message("user", text),), text), kind, cluster=cluster)


@pytest.mark.parametrize(("a", "b"), [
    ("How do I bake bread?", "how  do i\nbake BREAD"),
    ("don't stop", "Don\u2019t stop!"),
    ("ＡＢＣ １２", "abc 12"),
    ("well-known", "well known"),
    ("Straße", "STRASSE"),
    ("怎么 做面包?", "怎么做面包？"),
    ("cafe\u0301", "café"),
    ("a\u200bb", "ab"),
])
def test_one_key_for(a, b):
    assert key(a) == key(b)


@pytest.mark.parametrize(("a", "b"), [
    ("bake bread", "bake a bread"), ("做面包", "做面条"), ("3 + 4", "3 4"), ("C++", "C"),
    ("कि", "का"), ("?!", "..."), ("\U0001f600", "\U0001f525"), ("", "a"),
])
def test_two_keys_for(a, b):
    assert key(a) != key(b)


@given(st.text())
def test_normalising_is_settled_and_a_key_is_16_hex(text):
    assert words(" ".join(words(text))) == words(text)
    assert len(key(text)) == 16 and int(key(text), 16) >= 0


@given(st.lists(st.sampled_from(["ab", "cd", "面", "7"]), max_size=8))
def test_without_each_word_are_keys_of_the_shorter_texts(w):
    naive = tuple(key(" ".join(w[:i] + w[i + 1:])) for i in range(len(w)))
    assert without_each_word(" ".join(w)) == naive


def test_each_chinese_character_is_a_word():
    assert len(without_each_word("怎么做面包？")) == 5


def test_near_record():
    text = "How do I bake?"
    assert near_record(prompt(text)) == {"key": key(text), "without": list(without_each_word(text))}
    assert near_record(prompt(text, "k")) == {
        "key": key(text), "cluster": hashlib.sha256(b"k").hexdigest()}


def test_a_conversation_of_one_turn_is_near_its_text():
    turn = LabelledPrompt(Request((Message("user", "Hi there!"),),
                                  '[{"content":"Hi there!","role":"user"}]'), "safe")
    assert groups([prompt("hi there"), turn]) == [(0, 1)]


@pytest.mark.parametrize(("a", "b", "together"), [
    (prompt("bake me a cake"), prompt("bake me a pie"), True),
    (prompt("bake me a cake"), prompt("Bake me the pie"), False),
    (prompt("bake me a cake"), prompt("bake me cake a"), False),
    (prompt("bake me a cake"), prompt("bake me a"), False),
    (prompt("bake me a cake"), prompt("me bake a cake"), False),
    (prompt("one two three"), prompt("one two four"), True),
    (prompt("one two"), prompt("one three"), False),
    (prompt("one"), prompt("two"), False),
    (prompt("!!!"), prompt("???"), False),
    (prompt("bake me a cake", "x"), prompt("bake me a pie", "y"), False),
    (prompt("bake me a cake", "x"), prompt("bake me a pie"), False),
    (prompt("bake me a cake", "x"), prompt("Bake me a cake!", "y"), True),
    (prompt("bake me a cake", "x"), prompt("Bake me a cake!"), True),
    (prompt("quite", "x"), prompt("different", "x"), True),
    (prompt("怎么做面包"), prompt("怎么做面条"), True),
    (prompt("bake", kind="safe"), prompt("Bake!"), True),
])
def test_who_belongs_together(a, b, together):
    assert groups([a, b]) == ([(0, 1)] if together else [(0,), (1,)])


def near(a, b):
    """The rules once more, pair by pair."""
    if a.cluster is not None and a.cluster == b.cluster:
        return True
    v, w = words(a.request.text), words(b.request.text)
    if v == w:
        return True
    changed = sum(x != y for x, y in zip(v, w, strict=False))
    return (a.cluster is None and b.cluster is None and len(v) == len(w) >= 3 and changed == 1)


some_prompts = st.lists(st.builds(
    lambda w, c, upper: prompt(" ".join(w).upper() if upper else " ".join(w), c),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=5),
    st.sampled_from([None, None, None, "k1", "k2"]), st.booleans()), max_size=12)


@settings(max_examples=200)
@given(some_prompts)
def test_groups_as_pair_by_pair(prompts):
    label = list(range(len(prompts)))
    for _ in prompts:
        for i, a in enumerate(prompts):
            for j, b in enumerate(prompts):
                if near(a, b):
                    label[i] = label[j] = min(label[i], label[j])
    naive = [tuple(i for i, x in enumerate(label) if x == root) for root in sorted(set(label))]
    assert groups(prompts) == naive


def test_groups_of_many_rows_without_comparing_all_pairs():
    rng = random.Random(0)
    vocabulary = [f"w{i}" for i in range(2000)]
    prompts = [prompt(" ".join(rng.choices(vocabulary, k=20))) for _ in range(3000)]
    twin = replace(prompts[7], request=Request((), prompts[7].request.text.upper() + " !"))
    found = groups([*prompts, twin])
    assert (7, 3000) in found
    assert len(found) == 3000
