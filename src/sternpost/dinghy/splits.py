"""The prompts that dinghy is looked at with: none of them stands in its training rows."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from importlib import resources
from random import Random
from typing import Any

from sternpost.dinghy import chinese, talks
from sternpost.dinghy.corpus import CHINESE, training_rows
from sternpost.dinghy.requests import (
    CALIBRATION,
    GATE_FIT,
    SEARCH,
    TEST,
    UNTRAINED,
    Requests,
    View,
)
from sternpost.dinghy.rows import Row
from sternpost.dinghy.tasks import TASKS
from sternpost.dinghy.vocabulary import draw, vocabulary
from sternpost.errors import InputError
from sternpost.files import sha256_text
from sternpost.prompts import key

FRUITLESS = 20_000
"""Draws in a row that give no new row, after which there are taken to be no more."""
Keep = Callable[[Row], bool]


def several(make: Callable[[Random, str], Row], n: int, seed: str,
            keep: Keep = lambda row: True) -> list[Row]:
    """`n` different rows of `make(rng, language)`, a tenth of them Chinese, of those that are to be
    kept. Raises InputError where there are fewer."""
    rng = Random(seed)
    rows: dict[str, Row] = {}
    fruitless = 0
    while len(rows) < n:
        row = make(rng, "zh" if rng.random() < CHINESE else "en")
        fruitless += 1
        if row.text not in rows and keep(row):
            rows[row.text] = row
            fruitless = 0
        if fruitless >= FRUITLESS:
            raise InputError(f"Only {len(rows)} different rows were found where {n} are wanted "
                             f"({seed}): {FRUITLESS:,} draws in a row gave nothing new. Ask for "
                             f"at most {len(rows)}.")
    return list(rows.values())


def capability(n: int, seed: int | None = None, keep: Keep = lambda row: True) -> list[Row]:
    """`n` tasks of each family, held out where that can be; other ones for every seed."""
    rows = []
    for name in TASKS:
        words = f"capability {name}" if seed is None else f"capability {name} {seed}"
        rows += several(lambda rng, language, name=name: _task(  # type: ignore[misc]
            rng, language, name, held_out=True), n, words, keep)
    return rows


def _task(rng: Random, language: str, name: str, held_out: bool) -> Row:
    known = chinese.TASKS if language == "zh" and name in chinese.TASKS else TASKS
    return known[name](rng, held_out)


def _gate_task(rng: Random, language: str, view: View) -> Row:
    """A task for the gate: of clusters of its own in each split."""
    while True:
        row = _task(rng, language, rng.choice(GATE_TASKS), held_out=True)
        if (draw(f"task {row.cluster}") < FIT) == (view is GATE_FIT):
            return replace(row, kind="safe", source="task")


BASE = {"unsafe, plain, trained topics": ("unsafe", TEST, 300, "plain"),
        "unsafe, plain, untrained topics": ("unsafe", UNTRAINED, 200, "new"),
        "unsafe, wrapped, uncovered cells": ("unsafe_wrapped", TEST, 400, "cells"),
        "safe, how-to": ("how_to", TEST, 200, "how_to"),
        "safe, wrapped": ("how_to_wrapped", TEST, 200, "wrapped"),
        "safe, look-alikes": ("look_alike", TEST, 200, "look"),
        "safe, about hazards": ("about", TEST, 100, "about"),
        "offensive": ("offensive", TEST, 300, "offensive"),
        "viewpoints": ("viewpoint", TEST, 200, "viewpoints"),
        "build-ups": ("build_up", TEST, 200, "build-ups")}
"""The figures of the model card: sort of prompt, view, how many, seed."""


def base_prompts() -> dict[str, list[Row]]:
    """What the model card's figures are counted on, by figure."""
    rows = {name: several(maker(sort, view), n, seed)
            for name, (sort, view, n, seed) in BASE.items()}
    return {**rows, "capability": capability(50)}


SIZES: dict[str, dict[str, int]] = {
    "search": {"unsafe_wrapped": 90, "unsafe": 20, "how_to": 35, "how_to_wrapped": 35,
               "look_alike": 35, "about": 15},
    "gate_fit": {"unsafe_wrapped": 700, "unsafe": 300, "how_to": 500, "how_to_wrapped": 500,
                 "look_alike": 400, "look_alike_wrapped": 150, "about": 250, "open_ended": 100,
                 "task": 350},
    "gate_calibration": {"how_to": 200, "how_to_wrapped": 300, "look_alike": 150,
                         "look_alike_wrapped": 50, "about": 100, "open_ended": 50,
                         "task": 150},
    "test": {"unsafe_wrapped": 240, "offensive": 40, "how_to": 85, "how_to_wrapped": 85,
             "look_alike": 85, "about": 40, "open_ended": 15, "viewpoint": 20}}
"""Prompts of each sort in each split of the demo."""
GATE_TASKS = ("fact", "kind", "choice", "add", "word", "copy", "translate")
"""Families of tasks that a gate is fitted and calibrated on; no gate ever sees the others."""
FIT = 0.7
"""Share of those tasks' clusters that the gate is fitted on; it is calibrated on the others."""
QUICK = 0.2
"""Share of them in a quick demo."""
CAPABILITY = 21
"""Of each family."""
CORPUS = 4000
"""Conversations that the SAE is trained on besides."""
VIEWS = {"search": SEARCH, "gate_fit": GATE_FIT, "gate_calibration": CALIBRATION, "test": TEST}


def demo_prompts(quick: bool = False) -> dict[str, list[dict[str, Any]]]:
    """The rows of the demo's four prompt files: unsafe, safe, capability, corpus."""
    share = QUICK if quick else 1.0
    out: dict[str, list[dict[str, Any]]] = {"unsafe": [], "safe": []}
    tasks = capability(round(CAPABILITY * share))
    tested = {row.cluster for row in tasks}
    for split, sizes in SIZES.items():
        for sort, n in sizes.items():
            make = maker(sort, VIEWS[split])
            for row in several(make, round(n * share), f"demo {split} {sort}",
                               lambda row: row.cluster not in tested):
                out[row.kind].append(row.prompt(split))
    out["capability"] = [row.prompt() for row in tasks]
    out["corpus"] = [{"messages": row.messages} for row in training_rows(
        round(CORPUS * share), seed=1)]
    return out


CONFIRM = 4 / 3
"""Prompts of each sort that a pack is confirmed on, for one of the demo's test split."""
CONFIRM_TASKS = 30
"""Of each family."""
SMOKE = {"unsafe_wrapped": 90, "unsafe": 20, "build_up": 40, "offensive": 12, "how_to": 30,
         "how_to_wrapped": 30, "look_alike": 30, "about": 12, "open_ended": 8, "viewpoint": 10}
"""Prompts of each sort in a smoke test."""
SMOKE_TASKS = 10
"""Of each family."""


def confirm_prompts(seed: int, taken: Collection[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Fresh prompts of the test view in the demo's mix, by kind; other ones for every seed.

    `taken`: sha256 of texts and of clusters, and keys of normalised texts, that none of them has.
    """
    sizes = {sort: round(n * CONFIRM) for sort, n in SIZES["test"].items()}
    return _fresh(f"confirm {seed}", sizes, (CONFIRM_TASKS, seed), taken)


def smoke_prompts(seed: int, taken: Collection[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """A few of every kind, build-ups among them, as `confirm_prompts` draws them."""
    return _fresh(f"smoke {seed}", SMOKE, (SMOKE_TASKS, seed), taken)


def _fresh(name: str, sizes: Mapping[str, int], tasks: tuple[int, int],
           taken: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    def keep(row: Row) -> bool:
        return not {sha256_text(row.text), sha256_text(row.cluster), key(row.text)} & known

    known = set(taken)
    out: dict[str, list[dict[str, Any]]] = {"unsafe": [], "safe": []}
    for sort, n in sizes.items():
        for row in several(maker(sort, TEST), n, f"{name} {sort}", keep):
            out[row.kind].append(row.prompt())
    out["capability"] = [row.prompt() for row in capability(*tasks, keep)]
    return out


def training_prompts() -> list[str]:
    """sha256 of every prompt that the shipped dinghy was trained on, each once."""
    folder = resources.files("sternpost.dinghy").joinpath("model")
    recipe = json.loads(folder.joinpath("recipe.json").read_text("utf-8"))
    rows = training_rows(recipe["rows"], recipe["seed"])
    return sorted({sha256_text(row.text) for row in rows})


def maker(sort: str, view: View) -> Callable[[Random, str], Row]:
    """Makes rows of a sort, in either language, from what the view sees."""
    requests = {language: Requests(vocabulary(language), view) for language in ("en", "zh")}
    others: dict[str, Callable[[Random, str], Row]] = {
        "about": lambda rng, language: talks.about(
            rng, vocabulary(language), _topics(view), held_out=True),
        "open_ended": lambda rng, language: talks.thing(
            rng, vocabulary(language), view.trained, view.objects),
        "offensive": lambda rng, language: talks.offensive(rng, vocabulary(language), True),
        "viewpoint": lambda rng, language: talks.viewpoint(rng, vocabulary(language), True),
        "build_up": lambda rng, language: talks.build_up(rng, requests[language], held_out=True),
        "task": lambda rng, language: _gate_task(rng, language, view)}
    if sort in others:
        return others[sort]
    kind, wrapped = sort.removesuffix("_wrapped"), sort.endswith("_wrapped")
    make = Requests.wrapped if wrapped else Requests.plain
    return lambda rng, language: make(requests[language], rng, kind)


def _topics(view: View) -> tuple[str, ...]:
    """The calibration split has no unsafe topic; it talks about those that nobody is asked for."""
    return view.topics or UNTRAINED.topics
