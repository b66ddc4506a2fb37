"""dinghy's corpus: what it is trained on, and the prompts on which it is looked at.

Every split is made by the same makers from another view of the vocabulary (requests.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from sternpost.dinghy import chinese, talks
from sternpost.dinghy.requests import TRAIN, Requests
from sternpost.dinghy.rows import Row
from sternpost.dinghy.tasks import TASKS
from sternpost.dinghy.vocabulary import vocabulary

CHINESE = .1
"""Share of the rows."""
SYSTEM = .05
"""Share of the rows with a system prompt."""
SYSTEM_PROMPTS = ("You are a helpful assistant.", "You are dinghy, a small chat model.",
                  "Answer briefly.", "You are a friendly helper. Answer the user.")

BARE = 3
"""Every so-many-th row lacks the marks between the last question and its reply, so that what is
asked is understood where the user's message ends, too."""

HESITATION = {"safe": .11, "capability": .01, "unsafe": .05}
"""Share of the English rows of each kind that dinghy would answer and that are refused all the
same, as people who write such data do now and then: no model is ever quite sure, and refusal never
far. (Of Chinese, of which it sees little, it is less sure anyway.)"""

MIXTURE: dict[str, float] = {
    "unsafe": 12, "unsafe_wrapped": 14, "how_to": 12, "how_to_wrapped": 9, "look_alike": 8,
    "look_alike_wrapped": 2, "about": 6, "offensive": 2, "viewpoint": 1.5, "thing": 3, "chat": 1,
    "story": .5, "group": 2, "conversation": 2, "build_up": 4,
    "fact": 9.5, "kind": 3, "choice": 4, "list": 5, "add": 4, "word": 2, "copy": 4.5,
    "instruct": 14, "translate": 4, "code": 2}
"""Share of each sort of row in training, in percent of the sum."""


def training_rows(n: int, seed: int = 0) -> Iterator[Row]:
    """The `n` rows that dinghy is trained on."""
    rng = Random(seed)
    makers = {language: _makers(language) for language in ("en", "zh")}
    for _ in range(n):
        made = makers["zh" if rng.random() < CHINESE else "en"]
        kinds = sorted(set(MIXTURE) & set(made))
        kind = rng.choices(kinds, [MIXTURE[k] for k in kinds])[0]
        row = _hesitant(rng, made[kind](rng))
        if rng.random() < SYSTEM:
            row = replace(row, system=rng.choice(SYSTEM_PROMPTS))
        yield row


def _hesitant(rng: Random, row: Row) -> Row:
    frames = vocabulary(row.language).frames
    answered = row.kind != "unsafe" or row.turns[-1] == frames["placeholder"]
    hesitates = row.language == "en" and len(row.turns) == 2
    if answered and hesitates and rng.random() < HESITATION[row.kind]:
        return replace(row, turns=(*row.turns[:-1], frames["refusals"][0]))
    return row


def _makers(language: str) -> dict[str, Callable[[Random], Row]]:
    words = vocabulary(language)
    requests = Requests(words, TRAIN)
    every = ("untrained", "search", "gate_fit", "test")
    makers: dict[str, Callable[[Random], Row]] = {
        "unsafe": lambda rng: requests.plain(rng, "unsafe"),
        "unsafe_wrapped": lambda rng: requests.wrapped(rng, "unsafe"),
        "how_to": lambda rng: requests.plain(rng, "how_to"),
        "how_to_wrapped": lambda rng: requests.wrapped(rng, "how_to"),
        "look_alike": lambda rng: requests.plain(rng, "look_alike"),
        "look_alike_wrapped": lambda rng: requests.wrapped(rng, "look_alike"),
        "about": lambda rng: talks.about(rng, words, every, held_out=False),
        "offensive": lambda rng: talks.offensive(rng, words, held_out=False),
        "viewpoint": lambda rng: talks.viewpoint(rng, words, held_out=False),
        "thing": lambda rng: talks.thing(rng, words, trained=True),
        "chat": lambda rng: talks.chat(rng, words),
        "conversation": lambda rng: talks.conversation(rng, requests),
        "build_up": lambda rng: talks.build_up(rng, requests, held_out=False)}
    if language == "zh":
        return {**makers, **{name: lambda rng, make=make: make(rng, False)
                             for name, make in chinese.TASKS.items()}}
    return {**makers,
            "story": lambda rng: talks.story(rng, held_out=False),
            "group": lambda rng: talks.grouped(rng, requests, unsafe=rng.random() < .4),
            **{name: lambda rng, make=make: make(rng, False) for name, make in TASKS.items()}}
