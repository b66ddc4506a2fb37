import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sternpost.errors import InputError, LeakageError, PromptFileError
from sternpost.prompts import groups, key, near_record, split_prompts
from sternpost.types import SPLITS, Kind, LabelledPrompt, Message, Request

SHARES = {"unsafe": (30, 30, 0, 40), "safe": (20, 20, 25, 35)}


def prompt(text, kind: Kind = "unsafe", **labels):
    return LabelledPrompt(Request((Message("user", text),), text), kind, **labels)


def many(kind, n, start=0, **labels):
    """n prompts, no two of which are near-duplicates."""
    return [prompt(f"{kind} {i} say {kind} {i}", kind, **labels) for i in range(start, start + n)]


def where(splits):
    return {p.request.sha256: name for name in SPLITS for p in getattr(splits, name)}


def counts(splits, kind):
    return [sum(p.kind == kind for p in getattr(splits, name)) for name in SPLITS]


@settings(max_examples=40, deadline=None)
@given(st.integers(60, 260), st.integers(60, 260), st.integers(0, 20), st.integers(0, 9))
def test_shares_are_met_to_within_a_row(n_unsafe, n_safe, n_capability, seed):
    splits = split_prompts(many("unsafe", n_unsafe), many("safe", n_safe),
                           many("capability", n_capability), seed)
    for kind, n in (("unsafe", n_unsafe), ("safe", n_safe)):
        for got, share in zip(counts(splits, kind), SHARES[kind], strict=True):
            assert abs(got - share * n / 100) < 1
        assert sum(counts(splits, kind)) == n
    assert counts(splits, "capability") == [0, 0, 0, n_capability]
    assert splits.warnings == ()


@st.composite
def tangled(draw):
    """Unsafe, safe and capability rows with clusters over the files and one-word changes."""
    rng = random.Random(draw(st.integers(0, 10_000)))
    named = [f"k{i}" for i in range(draw(st.integers(1, 60)))]
    clusters = [None] * draw(st.integers(0, 60)) + named
    sides = {}
    fewest: dict[Kind, int] = {"unsafe": 60, "safe": 60, "capability": 0}
    for kind, low in fewest.items():
        n = draw(st.integers(low, low + 40))
        sides[kind] = [prompt(f"{kind} {rng.randrange(40)} say {i} to {rng.randrange(9)}", kind,
                              cluster=rng.choice(clusters), category=rng.choice([None, "a", "b"]))
                       for i in range(n)]
    return sides, rng


@settings(max_examples=60, deadline=None)
@given(tangled())
def test_groups_stay_whole_whatever_the_rows(case):
    sides, rng = case
    prompts = [p for side in sides.values() for p in side]
    try:
        splits = split_prompts(**sides, seed=3)
    except InputError as error:
        assert "groups stay whole" in str(error)
        return
    place = where(splits)
    assert sum(len(getattr(splits, name)) for name in SPLITS) == len(prompts) == len(place)
    for group in groups(prompts):
        assert len({place[prompts[i].request.sha256] for i in group}) == 1
    assert all(p.kind == "safe" for p in splits.gate_calibration)
    assert all(place[p.request.sha256] == "test" for p in sides["capability"])
    for side in sides.values():
        rng.shuffle(side)
    assert where(split_prompts(**sides, seed=3)) == place


def test_a_seed_makes_the_split():
    sides = many("unsafe", 80), many("safe", 80)
    one, again, other = (where(split_prompts(*sides, seed=seed)) for seed in (1, 1, 2))
    assert one == again != other


def test_order_within_a_split_is_the_files():
    unsafe, safe = many("unsafe", 80), many("safe", 80)
    place = {p.request.text: i for i, p in enumerate([*unsafe, *safe])}
    for name in SPLITS:
        order = [place[p.request.text] for p in getattr(split_prompts(unsafe, safe), name)]
        assert order == sorted(order)


def test_every_category_is_spread():
    unsafe = [prompt(f"unsafe {i} say unsafe {i}", category=f"c{i % 25}") for i in range(100)]
    safe = [prompt(f"safe {i} say safe {i}", "safe", category=f"c{i % 10}") for i in range(100)]
    splits = split_prompts(unsafe, safe, seed=4)
    for c in {p.category for p in unsafe}:  # 4 rows: 1.2, 1.2, 0, 1.6
        got = [sum(p.category == c and p.kind == "unsafe" for p in getattr(splits, name))
               for name in SPLITS]
        assert got[0] >= 1 and got[1] >= 1 and got[3] >= 1
    for c in {p.category for p in safe}:  # 10 rows: 2, 2, 2.5, 3.5
        got = [sum(p.category == c and p.kind == "safe" for p in getattr(splits, name))
               for name in SPLITS]
        assert all(abs(g - s) < 2 for g, s in zip(got, (2, 2, 2.5, 3.5), strict=True))


def test_clusters_of_one_size_meet_the_shares_too():
    unsafe = [prompt(f"unsafe {i} say unsafe {i}", cluster=f"u{i // 4}") for i in range(200)]
    safe = [prompt(f"safe {i} say safe {i}", "safe", cluster=f"s{i // 4}") for i in range(200)]
    splits = split_prompts(unsafe, safe)
    for kind, shares in SHARES.items():
        for got, share in zip(counts(splits, kind), shares, strict=True):
            assert abs(got - 2 * share) <= 4


def test_single_rows_make_up_for_a_large_cluster():
    unsafe = many("unsafe", 30, cluster="big") + many("unsafe", 70, 30)
    splits = split_prompts(unsafe, many("safe", 60))
    assert counts(splits, "unsafe") == [30, 30, 0, 40]


def test_contrast_pairs_over_both_files_stay_together():
    unsafe = [prompt(f"unsafe {i} say unsafe {i}", cluster=str(i)) for i in range(60)]
    safe = [prompt(f"safe {i} say safe {i}", "safe", cluster=str(i)) for i in range(60)]
    splits = split_prompts(unsafe, [*safe, *many("safe", 60, 100)])
    for name in SPLITS:
        pairs = Counter(p.cluster for p in getattr(splits, name) if p.cluster)
        assert set(pairs.values()) <= {2}
    assert counts(splits, "safe")[2] > 0


def test_without_free_safe_rows_nothing_is_left_for_calibration_and_that_is_said():
    unsafe = [prompt(f"unsafe {i} say unsafe {i}", cluster=str(i)) for i in range(60)]
    safe = [prompt(f"safe {i} say safe {i}", "safe", cluster=str(i)) for i in range(60)]
    splits = split_prompts(unsafe, safe)
    assert any("gate_calibration has no safe prompts" in w for w in splits.warnings)
    assert any("in place of 25 %" in w for w in splits.warnings)


def test_too_few_prompts():
    with pytest.raises(InputError, match="Got 59 different unsafe prompts; 60 are needed"):
        split_prompts(many("unsafe", 59) + many("unsafe", 1), many("safe", 60))
    with pytest.raises(InputError, match="Got 0 different safe prompts"):
        split_prompts(many("unsafe", 60), [])


def test_one_giant_cluster_starves_a_split():
    with pytest.raises(InputError, match="holds 60 unsafe prompts"):
        split_prompts(many("unsafe", 60, cluster="all"), many("safe", 60))


@pytest.mark.parametrize("other", ["safe", "capability"])
def test_a_prompt_of_two_kinds(other):
    sides = {"unsafe": many("unsafe", 60), "safe": many("safe", 60), "capability": []}
    sides[other] = [*sides[other], prompt("unsafe 7 say unsafe 7", other)]
    with pytest.raises(PromptFileError, match=rf"in the unsafe and in the {other} file: .unsafe 7"):
        split_prompts(**sides)


# ---- splits that the files give --------------------------------------------------------------

def given_splits(kind, n=60):
    return [prompt(f"{kind} {i} say {kind} {i}", kind, split=SPLITS[i % 4]) for i in range(n)]


def test_given_splits_are_obeyed():
    unsafe, safe = given_splits("unsafe"), given_splits("safe")
    capability = [prompt("what is 1 + 1", "capability", answer="2", split="search")]
    splits = split_prompts(unsafe, safe, capability)
    place = where(splits)
    assert all(place[p.request.sha256] == p.split for p in (*unsafe, *safe))
    assert place[capability[0].request.sha256] == "test"
    assert len(splits.warnings) == 1 and "test only" in splits.warnings[0]


def test_given_splits_count_only_on_both_sides():
    splits = split_prompts(given_splits("unsafe"), many("safe", 60))
    assert counts(splits, "unsafe") == [18, 18, 0, 24]
    assert "60 of 120 have none" in splits.warnings[0]


def test_given_splits_that_leak():
    unsafe = given_splits("unsafe")
    twin = prompt(unsafe[0].request.text, split="test")
    with pytest.raises(LeakageError, match="search and test: 'unsafe 0 say unsafe 0'"):
        split_prompts([*unsafe, twin], given_splits("safe"))


def test_given_splits_with_near_duplicates_are_warned_of():
    unsafe = [*given_splits("unsafe"), prompt("UNSAFE 0 say unsafe 0!", split="test")]
    splits = split_prompts(unsafe, given_splits("safe"))
    assert "2 prompts that are near-duplicates" in splits.warnings[0]


@pytest.mark.parametrize("name", ["search", "test"])
def test_given_splits_that_leave_one_empty(name):
    safe = [p for p in given_splits("safe", 100) if p.split != name]
    with pytest.raises(InputError, match=f"No safe prompt is in {name}"):
        split_prompts(given_splits("unsafe"), safe)


# ---- splits.json -----------------------------------------------------------------------------

def test_as_dict():
    splits = split_prompts(many("unsafe", 60), many("safe", 60), many("capability", 3))
    train = prompt("a story of a ship")
    body = splits.as_dict(train=[train, "ab" * 32])
    assert list(body) == ["train", *SPLITS, "near"]
    assert body["train"] == [train.request.sha256, "ab" * 32]
    assert body["near"]["train"] == [near_record(train)]
    for name in SPLITS:
        part = getattr(splits, name)
        assert body[name] == [p.request.sha256 for p in part]
        assert [r["key"] for r in body["near"][name]] == [key(p.request.text) for p in part]
    assert splits.as_dict()["train"] == []
