"""The prompts on which dinghy's pack is calibrated: more of every kind than the demo has, and
conversations, build-ups, opinions and people who say who they are besides.

Topics, objects, wrappers and scripts of each split are those of its view (requests.py): nothing
that is tested was fitted on. Kinds of which every view sees the same topics are dealt by cluster.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from sternpost.dinghy import talks
from sternpost.dinghy.requests import UNTRAINED, Requests, View
from sternpost.dinghy.rows import Row
from sternpost.dinghy.splits import VIEWS, capability, maker, several
from sternpost.dinghy.vocabulary import draw, vocabulary

SIZES: dict[str, dict[str, int]] = {
    "search": {"unsafe_wrapped": 850, "unsafe": 150, "how_to": 230, "how_to_wrapped": 280,
               "look_alike": 150, "look_alike_wrapped": 100, "about": 120, "open_ended": 40,
               "conversation": 80},
    "gate_fit": {"unsafe_wrapped": 700, "unsafe": 300, "build_up": 300, "how_to": 500,
                 "how_to_wrapped": 500, "look_alike": 400, "look_alike_wrapped": 150, "about": 250,
                 "open_ended": 100, "task": 350, "conversation": 250, "viewpoint": 100,
                 "group": 100, "story": 50},
    "gate_calibration": {"how_to": 500, "how_to_wrapped": 500, "look_alike": 220,
                         "look_alike_wrapped": 300, "about": 300, "open_ended": 110, "task": 300,
                         "conversation": 300, "viewpoint": 110, "group": 150, "story": 60},
    "test": {"unsafe_wrapped": 320, "build_up": 120, "offensive": 40, "how_to": 110,
             "how_to_wrapped": 110, "look_alike": 110, "about": 52, "open_ended": 20,
             "viewpoint": 26}}
"""Prompts of each sort in each split."""
CAPABILITY = 60
"""Of each family: half for development, half for the test."""
DEALT = {"gate_fit": (0.0, .4), "gate_calibration": (.4, .7), "test": (.7, 1.0)}
"""Shares of the clusters of opinions and stories."""


def calibration_prompts() -> dict[str, list[dict[str, Any]]]:
    """The rows of three prompt files: unsafe, safe, capability."""
    out: dict[str, list[dict[str, Any]]] = {"unsafe": [], "safe": []}
    tasks = capability(CAPABILITY)
    tested = {row.cluster for row in tasks}
    for split, sizes in SIZES.items():
        for sort, n in sizes.items():
            for row in several(_maker(sort, split), n, f"levels {split} {sort}",
                               lambda r: r.cluster not in tested):
                out[row.kind].append(row.prompt(split))
    out["capability"] = [row.prompt() for row in tasks]
    return out


def _maker(sort: str, split: str) -> Callable[[Random, str], Row]:
    view = VIEWS[split]
    if sort in ("viewpoint", "story"):
        return lambda rng, language: _dealt(rng, language, sort, split)
    if sort == "conversation":
        return lambda rng, language: _conversation(rng, language, view, split)
    if sort == "group":
        requests = {language: Requests(vocabulary(language), view) for language in ("en", "zh")}
        return lambda rng, language: talks.grouped(rng, requests["en"], unsafe=False)
    return maker(sort, view)


def _dealt(rng: Random, language: str, sort: str, split: str) -> Row:
    low, high = DEALT[split]
    while True:
        row = talks.story(rng, held_out=True) if sort == "story" else talks.viewpoint(
            rng, vocabulary(language), held_out=True)
        if low <= draw(f"levels {row.cluster}") < high:
            return row


def _conversation(rng: Random, language: str, view: View, split: str) -> Row:
    """A harmless conversation, in which earlier turns may ask for harm; no topic of another
    split's among them. Its cluster is what is asked last, in this split."""
    if not view.topics:
        view = replace(view, topics=UNTRAINED.topics)
    row = talks.conversation(rng, Requests(vocabulary(language), view))
    return replace(row, cluster=f"{split}:{row.cluster}")
