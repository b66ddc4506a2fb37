import tomllib
from collections import Counter
from importlib import resources

import pytest

from sternpost.errors import InputError, LeakageError
from sternpost.prompts import check_disjoint, families, led_in, split_prompts, wrapped, wrapper
from sternpost.prompts.rows import conversation
from sternpost.types import Kind, LabelledPrompt, Message, Request

LANGUAGES = ("en", "zh")
ASKED_FOR = {"role_play", "prefix_injection", "obfuscation", "translation", "payload_split",
             "many_shot"}
WORDS = {"en": "Where may one buy {} today", "zh": "今天在哪里可以买到{}"}


def prompt(text, kind: Kind = "unsafe", **labels):
    return LabelledPrompt(Request((Message("user", text),), text), kind, **labels)


def prompts(n: int, language: str = "en", kinds: tuple[Kind, ...] = ("unsafe", "safe")):
    return [prompt(WORDS[language].format(f"{kind}{i} rope"), kind, language=language)
            for kind in kinds for i in range(n)]


def eighty():
    """Of each kind, without a near-duplicate."""
    return [prompt(f"{kind} {i} of {kind} {i}", kind) for kind in ("unsafe", "safe")
            for i in range(80)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_family_is_worded_in_every_language(language):
    assert families(language) == families()
    assert set(families()) > ASKED_FOR
    for name in families():
        one = wrapper(name, language)
        assert one.name == name and one.about
        assert len(set(one.wordings)) == len(one.wordings) >= 5
        chinese = any("\u4e00" <= c <= "\u9fff" for wording in one.wordings for c in wording)
        assert chinese == (language == "zh")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_words_stand_verbatim_where_the_family_says_so(language):
    rows = prompts(1, language, ("unsafe",))
    for name in families():
        every = wrapped(rows, [name], each=5)
        for row in every:
            assert (rows[0].request.text in row.request.text) == wrapper(name, language).verbatim
            assert "{" not in row.request.text.replace('{"', "")
        assert len({row.request.text for row in every}) == len(every)


def test_no_wording_stands_in_two_families():
    text = resources.files("sternpost.prompts").joinpath("wrappers.toml").read_text("utf-8")
    wordings = Counter(wording for known in tomllib.loads(text).values()
                       for name, entry in known.items() for wording in entry["wordings"])
    bare = {"{leetspeak}", "{typos}", "{spacing}"}
    assert {wording for wording, n in wordings.items() if n > 1} <= bare


@pytest.mark.parametrize("language", LANGUAGES)
def test_safe_prompts_stand_in_the_same_wrappers_as_unsafe_ones(language):
    """The same frames, as often: only the request itself tells the kinds apart."""
    rows = prompts(40, language)
    got = {kind: Counter(w.family for w in wrapped(rows, each=3) if w.kind == kind)
           for kind in ("unsafe", "safe")}
    assert got["unsafe"] == got["safe"]
    assert set(got["safe"]) == set(families())
    assert max(got["safe"].values()) - min(got["safe"].values()) <= 1
    frames = {kind: Counter(w.request.text.replace(p.request.text, "") for w, p in
                            zip(wrapped(rows, ["role_play", "story"]), rows, strict=True)
                            if p.kind == kind) for kind in ("unsafe", "safe")}
    assert frames["unsafe"] == frames["safe"]


def test_what_is_known_of_a_prompt_is_kept():
    row = prompt("How much is 3 + 4?", "capability", category="none", language="en",
                 harm_kind="none", task="question", answer="7", group="g", source="sums",
                 viewpoint_pair="v", family="sums", cluster="c9", split="test")
    (out,) = wrapped([row], ["authority"])
    assert out.family == "authority"
    assert out.request.messages == (Message("user", out.request.text),)
    for name in ("kind", "category", "language", "harm_kind", "task", "answer", "group", "source",
                 "viewpoint_pair", "cluster", "split"):
        assert getattr(out, name) == getattr(row, name), name


def test_a_seed_gives_the_same_rows_whatever_the_file_order():
    rows = prompts(20)
    first = wrapped(rows, seed=3, each=2)
    assert wrapped(rows, seed=3, each=2) == first
    assert set(wrapped(rows[::-1], seed=3, each=2)) == set(first)
    assert wrapped(rows, seed=4, each=2) != first
    assert [row.cluster for row in first] == [p.request.sha256 for p in rows for _ in range(2)]


def test_one_prompt_gets_different_wrappers():
    (row, *_) = prompts(1)
    every = wrapped([row], each=30)
    assert len({one.request.text for one in every}) == 30
    assert len({one.family for one in every[:len(families())]}) == len(families())


def test_a_prompt_and_its_wrapped_forms_are_split_together():
    plain = eighty()
    rows = [*plain, *wrapped(plain, each=2)]
    splits = split_prompts([p for p in rows if p.kind == "unsafe"],
                           [p for p in rows if p.kind == "safe"])
    where = {p.request.sha256: name for name in ("search", "gate_fit", "gate_calibration", "test")
             for p in getattr(splits, name)}
    assert set(where.values()) == {"search", "gate_fit", "gate_calibration", "test"}
    for p, first, second in zip(plain, rows[160::2], rows[161::2], strict=True):
        assert len({where[one.request.sha256] for one in (p, first, second)}) == 1


@pytest.mark.parametrize("fitted", ["plain", "wrapped", "by_hash"])
def test_the_leakage_check_knows_a_wrapped_prompt(fitted):
    plain = eighty()
    rows = wrapped(plain) if fitted == "wrapped" else plain
    splits = split_prompts(rows[:80], rows[80:])
    body = splits.as_dict(train=["0" * 64])
    if fitted == "by_hash":
        body = {**body, "train": body["gate_fit"], "gate_fit": [],
                "near": {**body["near"], "gate_fit": []}}
    other = plain if fitted == "wrapped" else wrapped(plain)
    seen = {p.cluster or p.request.sha256 for p in splits.gate_fit}
    evaluated = [p for p in other if (p.cluster or p.request.sha256) in seen]
    with pytest.raises(LeakageError, match=f"{len(seen)} of {len(seen)} prompts"):
        check_disjoint(body, evaluated)
    held = {p.cluster or p.request.sha256 for p in splits.test}
    check_disjoint(body, [p for p in other if (p.cluster or p.request.sha256) in held])


def test_the_last_turn_of_a_conversation_is_wrapped():
    turns = (Message("system", "Be short."), Message("user", "Hello"), Message("assistant", "Yes?"),
             Message("user", "Where is the rope?"))
    (out,) = wrapped([LabelledPrompt(conversation(turns), "safe")], ["hypothetical"])
    assert out.request.messages[:3] == turns[:3]
    assert "Where is the rope?" in out.request.messages[3].content != "Where is the rope?"
    assert out.request == conversation(out.request.messages)
    alone = LabelledPrompt(conversation(turns[3:]), "safe")
    assert wrapped([alone], ["story"])[0].request.text.startswith('[{"content"')


def test_curly_brackets_of_a_request_are_its_own():
    text = "What does f'{q} {first}' print? {0}"
    for row in wrapped([prompt(text)], each=len(families())):
        assert (text in row.request.text) == wrapper(row.family).verbatim


def test_a_disguise_that_changes_nothing_is_not_used():
    for seed in range(40):
        (out,) = wrapped([prompt("Мы?", language="ru")], ["obfuscation"], seed)
        assert "Мы?" not in out.request.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_lead_in_ends_with_the_requests_own_words(language):
    rows = prompts(30, language)
    out = led_in(rows, each=2)
    for at, row in enumerate(out):
        text = rows[at // 2].request.text
        assert row.request.text.endswith(text) and row.request.text != text
    assert {row.family for row in out} == {
        name for name in families() if wrapper(name, language).verbatim}


@pytest.mark.parametrize(("call", "message"), [
    (lambda: wrapped(prompts(1), ["role_paly"]), "no wrapper family role_paly.*role_play"),
    (lambda: wrapper("rope"), "no wrapper family rope"),
    (lambda: families("fr"), "worded in en, zh; got 'fr'"),
    (lambda: wrapped(prompts(1), each=0), "got each=0"),
    (lambda: wrapped(prompts(1), ["story"], each=6), "1 to 5 .*got each=6"),
    (lambda: led_in(prompts(1), ["payload_split", "story"]), "No wording of payload_split"),
    (lambda: wrapped(wrapped(prompts(1))), "already.*prompts whose family is empty"),
    (lambda: wrapped([LabelledPrompt(Request((), "text"), "corpus")]), "Only a request of a user"),
    (lambda: wrapped([prompt("?")], ["payload_split"]), "cannot be put around"),
])
def test_what_cannot_be_wrapped_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
