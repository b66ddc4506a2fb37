"""Prompts that a pack of dinghy is confirmed on: fresh, in the demo's mix, none that is taken."""

from collections import Counter
from typing import Any

import pytest

from sternpost.dinghy import confirm_prompts, demo_prompts, splits
from sternpost.dinghy.rows import Row
from sternpost.dinghy.splits import SIZES, capability, several
from sternpost.dinghy.tasks import TASKS
from sternpost.errors import InputError
from sternpost.files import sha256_text
from sternpost.prompts import key

Prompts = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def drawn() -> Prompts:
    return confirm_prompts(0)


@pytest.fixture(scope="module")
def demo() -> Prompts:
    return demo_prompts()


def fitted_on(demo: Prompts) -> set[str]:
    """What a pack of the demo is made from."""
    rows = [row for kind in ("unsafe", "safe") for row in demo[kind] if row["split"] != "test"]
    return {mark for row in rows for mark in (sha256_text(row["prompt"]), key(row["prompt"]),
                                              sha256_text(row["cluster"]))}


def texts(prompts: Prompts) -> set[str]:
    return {row["prompt"] for rows in prompts.values() for row in rows}


def test_there_are_enough_of_each_kind_in_enough_clusters(drawn: Prompts) -> None:
    unsafe = [row for row in drawn["unsafe"] if row["harm_kind"] != "offensive"]
    for rows in (unsafe, drawn["safe"], drawn["capability"]):
        assert len(rows) >= 300
        assert len({row["cluster"] for row in rows}) >= 50
    assert Counter(row["family"] for row in drawn["capability"]) == dict.fromkeys(TASKS, 30)
    assert len(texts(drawn)) == sum(map(len, drawn.values()))


def test_the_mix_is_the_demos(drawn: Prompts) -> None:
    sources = Counter(row["source"] for kind in ("unsafe", "safe") for row in drawn[kind])
    assert set(sources) == set(SIZES["test"])
    for sort, n in SIZES["test"].items():
        assert sources[sort] == round(n * 4 / 3)


def test_every_seed_draws_others_and_the_same_ones_again(drawn: Prompts) -> None:
    assert confirm_prompts(0) == drawn
    both = texts(confirm_prompts(1)) & texts(drawn)
    assert len(both) < 0.2 * len(texts(drawn))


def test_nothing_is_drawn_that_is_taken(drawn: Prompts, demo: Prompts) -> None:
    """Tasks are of clusters that a gate may have been fitted on; so they are told."""
    taken = fitted_on(demo)
    assert {sha256_text(row["cluster"]) for row in drawn["capability"]} & taken
    fresh = confirm_prompts(0, taken)
    rows = [row for some in fresh.values() for row in some]
    assert not taken & {mark for row in rows for mark in (
        sha256_text(row["prompt"]), key(row["prompt"]), sha256_text(row["cluster"]))}
    assert len(rows) == len(texts(drawn))


def test_of_too_few_different_rows_it_is_said_how_many_there_are(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def make(rng: Any, language: str) -> Row:
        text = str(rng.randrange(5))
        return Row((text, "yes"), "safe", "test", language, f"digit:{text}")

    monkeypatch.setattr(splits, "FRUITLESS", 300)
    assert {row.text for row in several(make, 5, "a")} == set("01234")
    with pytest.raises(InputError, match=r"Only 5 different rows .* 6 are wanted .*at most 5"):
        several(make, 6, "a")
    with pytest.raises(InputError, match="Only 4 different rows"):
        several(make, 5, "a", keep=lambda row: row.text != "3")


def test_tasks_of_a_seed_are_others() -> None:
    plain, one = ({row.text for row in capability(5, seed)} for seed in (None, 1))
    assert len(plain) == len(one) == 5 * len(TASKS)
    assert len(plain & one) < 10
