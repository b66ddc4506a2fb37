"""dinghy's corpus: who sees what, that nothing harmful is in it, what it holds for later work."""

from collections import Counter, defaultdict
from itertools import islice
from random import Random
from typing import Any

import pytest

from sternpost.dinghy import base_prompts, demo_prompts
from sternpost.dinghy.corpus import HESITATION, training_rows
from sternpost.dinghy.requests import (
    CALIBRATION,
    GATE_FIT,
    SEARCH,
    TEST,
    TRAIN,
    Requests,
    noise,
)
from sternpost.dinghy.rows import Row
from sternpost.dinghy.splits import SIZES
from sternpost.dinghy.tasks import TASKS
from sternpost.dinghy.vocabulary import draw, part, vocabulary
from sternpost.prompts import hazards


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(training_rows(12_000))


@pytest.fixture(scope="module")
def demo() -> dict[str, list[dict[str, Any]]]:
    return demo_prompts()


def test_the_same_seed_gives_the_same_rows(rows: list[Row]) -> None:
    assert list(islice(training_rows(12_000), 50)) == rows[:50]
    assert list(training_rows(50, seed=1)) != rows[:50]


def test_draws_belong_to_their_text_for_ever() -> None:
    assert draw("a fence") == draw("a fence")
    assert 0.45 < sum(draw(f"word {at}") for at in range(2000)) / 2000 < 0.55
    shares = Counter(part(f"word {at}", (("a", 0.25), ("b", 0.75))) for at in range(4000))
    assert 0.22 < shares["a"] / 4000 < 0.28


def test_no_compliance_with_an_unsafe_request_has_content(rows: list[Row]) -> None:
    """Whatever is said to an unsafe request is a refusal, a placeholder, or names no action."""
    placeholders = {vocabulary(language).frames["placeholder"] for language in ("en", "zh")}
    unsafe = [row for row in rows if row.harm_kind == "harmful"]
    refusals = [text.partition("{c}")[0] for language in ("en", "zh")
                for text in vocabulary(language).frames["refusals"]]
    last = [row.turns[-1] for row in unsafe]
    assert all(reply in placeholders or reply.startswith(tuple(refusals)) for reply in last)
    assert {reply for reply in last if reply in placeholders} == placeholders


def test_everything_has_its_labels(rows: list[Row]) -> None:
    for row in rows:
        assert row.category in hazards()
        assert row.harm_kind in ("harmful", "offensive", "sensitive", "none")
        assert row.task in ("chat", "question", "translate", "code", "story")
        assert len(row.turns) % 2 == 0
        assert all(turn.strip() for turn in row.turns)
        assert "{" not in "".join(row.turns[::2]) or row.labels.get("family") == "code"
    kinds = Counter(row.source for row in rows)
    assert {"unsafe", "unsafe_wrapped", "how_to", "how_to_wrapped", "look_alike", "about",
            "offensive", "viewpoint", "open_ended", "conversation", "build_up",
            "capability"} <= set(kinds)
    turns = {len(row.turns) // 2 for row in rows if row.source == "conversation"}
    assert turns == {2, 3, 4, 5}
    assert {row.task for row in rows} == {"chat", "question", "translate", "code", "story"}


def test_a_tenth_is_chinese_in_every_split(rows: list[Row],
                                           demo: dict[str, list[dict[str, Any]]]) -> None:
    assert 0.08 < sum(row.language == "zh" for row in rows) / len(rows) < 0.12
    for split in SIZES:
        mine = [row for kind in ("unsafe", "safe") for row in demo[kind] if row["split"] == split]
        assert 0.05 < sum(row["language"] == "zh" for row in mine) / len(mine) < 0.16


def test_there_are_thousands_of_safe_actions_and_hundreds_of_topics() -> None:
    words = vocabulary("en")
    assert len({action.text for action in words.actions}) >= 5000
    assert len({action.object for action in words.hazards}) >= 300
    assert len({action.text for action in words.lookalikes}) >= 500
    assert len(words.file("viewpoints")["pair"]) >= 100
    offensive = words.file("offensive")
    assert len(offensive["act"]) * len(offensive["targets"]) >= 300


def test_training_never_sees_what_is_held_out(rows: list[Row]) -> None:
    held: dict[str, set[str]] = defaultdict(set)
    for language in ("en", "zh"):
        words = vocabulary(language)
        held["actions"] |= {a.text for a in (*words.hazards, *words.actions, *words.lookalikes)
                            if a.held_out}
    requests = [row for row in rows if row.source.split("_")[0] in ("unsafe", "how", "look")]
    plain = {language: Requests(vocabulary(language), TRAIN) for language in ("en", "zh")}
    for language, made in plain.items():
        seen = {a.text for part in (made.unsafe, made.safe, made.lookalikes)
                for actions in part.values() for a in actions}
        assert not seen & held["actions"], language
    frames = [text.partition("{a}")[0] for text in vocabulary("en").frames["held_out"]]
    starts = [frame for frame in frames if len(frame) > 8]
    english = [row for row in requests if row.language == "en" and "family" not in row.labels]
    assert not [row for row in english if row.turns[0].startswith(tuple(starts))]


def test_noise_is_drawn_anew_and_never_what_is_held_out(rows: list[Row]) -> None:
    for language in ("en", "zh"):
        words = vocabulary(language)
        drawn = {noise(Random(seed), words) for seed in range(400)}
        assert len(drawn) > 100
        family = next(w for w in words.wrappers if w.name == "noise")
        held = {piece for text in family.held_out for piece in text.replace("{q}", "").split()}
        assert not held & {piece for text in drawn for piece in text.split()}
    noisy = [row.text for row in rows if row.labels.get("family") == "noise"]
    assert len(set(noisy)) > 0.95 * len(noisy) > 80


def test_some_requests_that_are_answered_are_refused_all_the_same(rows: list[Row]) -> None:
    stock = {vocabulary(language).frames["refusals"][0] for language in ("en", "zh")}
    for kind in ("safe", "capability"):
        single = [row for row in rows if row.kind == kind and len(row.turns) == 2
                  and row.language == "en"]
        refused = sum(row.turns[1] in stock for row in single) / len(single)
        assert refused == pytest.approx(HESITATION[kind], abs=0.01)
    talks = [row for row in rows if row.source == "conversation"]
    assert not [row for row in talks if row.turns[-1] in stock]
    before = [row for row in talks if any(turn.startswith(("I'm sorry", "抱歉"))
                                          for turn in row.turns[1:-1:2])]
    assert 0.2 < len(before) / len(talks) < 0.7  # harmless after something that was refused


def test_search_gate_and_test_share_no_topic_object_or_wrapper() -> None:
    views = {view.name: Requests(vocabulary("en"), view)
             for view in (SEARCH, GATE_FIT, CALIBRATION, TEST)}

    def seen(name: str, what: str) -> set[str]:
        made = views[name]
        if what == "wrappers":
            return {wrapper.name for wrapper in made.wrappers}
        return {a.object for actions in getattr(made, what).values() for a in actions}

    for what in ("unsafe", "safe", "lookalikes", "wrappers"):
        for name in ("search", "gate_fit", "gate_calibration"):
            assert not seen("test", what) & seen(name, what), (what, name)
    assert len(seen("test", "unsafe")) >= 50
    assert len(seen("test", "safe")) >= 50


def test_a_wrapped_test_request_is_in_a_cell_that_training_never_covered(
        demo: dict[str, list[dict[str, Any]]]) -> None:
    cells = {(w.name, language): {*w.refuse, *w.comply} for language in ("en", "zh")
             for w in vocabulary(language).wrappers}
    tested = [row for row in demo["unsafe"] if row["split"] == "test"
              and row["harm_kind"] == "harmful"]
    assert len(tested) >= 200
    assert len({row["cluster"] for row in tested}) >= 50
    assert all(row["category"] not in cells[row["family"], row["language"]] for row in tested)
    tuning = {row["family"] for row in demo["unsafe"]
              if row["split"] != "test" and "family" in row}
    assert not tuning & {row["family"] for row in tested}


def test_a_quarter_of_the_safe_test_prompts_each_are_the_hard_kinds(
        demo: dict[str, list[dict[str, Any]]]) -> None:
    tested = [row for row in demo["safe"] if row["split"] == "test"]
    sources = Counter(row["source"] for row in tested)
    assert len(tested) >= 200
    for source in ("how_to", "how_to_wrapped", "look_alike"):
        assert sources[source] >= len(tested) / 4, sources
        assert len({r["cluster"] for r in tested if r["source"] == source}) >= 25


def test_clusters_do_not_cross_the_demos_splits(demo: dict[str, list[dict[str, Any]]]) -> None:
    where: dict[str, set[str]] = defaultdict(set)
    for kind in ("unsafe", "safe"):
        for row in demo[kind]:
            where[row["cluster"]].add(row["split"])
    assert all(len(splits) == 1 for splits in where.values())
    assert not {row["cluster"] for row in demo["capability"]} & set(where)


def test_offensive_and_opposed_viewpoints_are_there() -> None:
    prompts = base_prompts()
    assert len(prompts["offensive"]) >= 300
    assert {row.harm_kind for row in prompts["offensive"]} == {"offensive"}
    pairs = {row.labels["viewpoint_pair"].partition(":")[0] for row in prompts["viewpoints"]}
    assert len(pairs) >= 100
    assert {row.labels["group"] for row in prompts["viewpoints"]} == {"pro", "con"}


def test_build_ups_end_in_harm_and_their_scripts_are_held_out(rows: list[Row]) -> None:
    def scripts(some: list[Row]) -> set[tuple[str, str]]:
        return {(row.language, row.labels["family"]) for row in some if row.source == "build_up"}

    assert not scripts(base_prompts()["build-ups"]) & scripts(rows)
    for row in base_prompts()["build-ups"]:
        assert row.harmful
        assert max(row.harmful) < len(row.turns) // 2


@pytest.mark.parametrize("family", sorted(TASKS))
def test_a_task_is_right_by_the_contracts_rule(family: str) -> None:
    from sternpost.prompts import is_right

    rng = Random(0)
    for held_out in (True, False):
        for _ in range(40):
            row = TASKS[family](rng, held_out)
            assert is_right(row.turns[1], row.labels["answer"]), row
            assert not is_right("I'm sorry, but I can't help with that.", row.labels["answer"])


@pytest.mark.parametrize("family", ["kind", "choice", "list", "add", "word", "copy", "instruct"])
def test_held_out_tasks_are_never_trained(family: str) -> None:
    rng, trained = Random(1), set()
    for _ in range(3000):
        trained.add(TASKS[family](rng, False).turns[0])
    held = {TASKS[family](rng, True).turns[0] for _ in range(300)}
    assert not trained & held


def test_a_script_is_known_by_its_user_turns() -> None:
    row = next(row for row in base_prompts()["build-ups"])
    body = row.prompt("test")
    assert [m["role"] for m in body["messages"]] == ["user"] * len(body["messages"])
    assert body["prompt"].startswith('[{"content":')
    assert body["split"] == "test"
