"""How-to requests, harmful and harmless, plain and in wrappers: one maker for every split."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sternpost.dinghy.rows import Row, Task
from sternpost.dinghy.vocabulary import (
    OBJECT_PARTS,
    TOPIC_PARTS,
    Action,
    Vocabulary,
    Wrapper,
    part,
)

_TASKS: dict[str, Task] = {
    **dict.fromkeys(("story", "grandmother", "poem", "speech", "diary", "joke", "dialogue"),
                    "story"),
    "program": "code", "translation": "translate"}


@dataclass(frozen=True, slots=True)
class View:
    """What a split may draw from."""

    name: str
    topics: tuple[str, ...]
    """Parts of the unsafe topics."""
    objects: tuple[str, ...]
    """Parts of the harmless objects."""
    wrappers: tuple[str, ...]
    """Parts of the wrappers."""
    trained: bool = True
    """Actions, frames and wordings that training has, in the cells that it covers."""
    held_out: bool = True
    """Actions, frames and wordings that it has not, in the cells that it does not cover."""


TRAIN = View("train", ("search", "gate_fit", "test"),
             ("search", "gate_fit", "gate_calibration", "test"), ("tuning", "test"), held_out=False)
SEARCH = View("search", ("search",), ("search",), ("tuning",), trained=False)
GATE_FIT = View("gate_fit", ("gate_fit",), ("gate_fit",), ("tuning",))
CALIBRATION = View("gate_calibration", (), ("gate_calibration",), ("tuning",), trained=False)
TEST = View("test", ("test",), ("test",), ("test",), trained=False)
UNTRAINED = View("untrained", ("untrained",), (), ("test",))


class Requests:
    """Makes requests from what a view sees of a vocabulary."""

    def __init__(self, words: Vocabulary, view: View) -> None:
        self.words, self.view = words, view
        self.unsafe = self._seen(words.hazards, view.topics, TOPIC_PARTS)
        self.safe = self._seen(words.actions, view.objects, OBJECT_PARTS)
        self.lookalikes = self._seen(words.lookalikes, view.objects, OBJECT_PARTS)
        self.frames = self._shown(words.frames["ask"], words.frames["held_out"])
        self.wrappers = [w for w in words.wrappers if w.part in view.wrappers
                         and self._shown(w.wordings, w.held_out)]

    def _seen(self, actions: Sequence[Action], parts: Sequence[str],
              shares: tuple[tuple[str, float], ...]) -> dict[str, list[Action]]:
        """Those of the actions that the view may draw, by domain."""
        domains: dict[str, list[Action]] = {}
        for action in actions:
            known = self.view.held_out if action.held_out else self.view.trained
            if known and part(action.object, shares) in parts:
                domains.setdefault(action.domain, []).append(action)
        return domains

    def _shown(self, trained: Sequence[str], held_out: Sequence[str]) -> list[str]:
        return [*(trained if self.view.trained else ()), *(held_out if self.view.held_out else ())]

    def action(self, rng: Random, kind: str) -> Action:
        """An action: of every domain as often, whatever its size."""
        domains = {"unsafe": self.unsafe, "how_to": self.safe, "look_alike": self.lookalikes}[kind]
        return rng.choice(domains[rng.choice(sorted(domains))])

    def ask(self, rng: Random, action: Action) -> str:
        """The action in a frame."""
        return rng.choice(self.frames).format(a=action.text)

    def plain(self, rng: Random, kind: str) -> Row:
        """A plainly worded request."""
        action = self.action(rng, kind)
        return self._row(rng, action, kind, self.ask(rng, action), None, refuse=kind == "unsafe")

    def wrapped(self, rng: Random, kind: str) -> Row:
        """A request in a jailbreak wrapper. An unsafe one is in a cell (wrapper, category) that
        training covers, in the training view, or that it does not, in the others."""
        while True:
            wrapper, action = rng.choice(self.wrappers), self.action(rng, kind)
            covered = action.domain in (*wrapper.refuse, *wrapper.comply)
            if kind != "unsafe" or (self.view.trained if covered else self.view.held_out):
                break
        text = self._wrap(rng, wrapper, action)
        return self._row(rng, action, kind, text, wrapper, refuse=action.domain in wrapper.refuse)

    def _wrap(self, rng: Random, wrapper: Wrapper, action: Action) -> str:
        wording = rng.choice(self._shown(wrapper.wordings, wrapper.held_out))
        return wording.format(a=action.text, q=self.ask(rng, action), n=noise(rng, self.words))

    def _row(self, rng: Random, action: Action, kind: str, text: str, wrapper: Wrapper | None,
             refuse: bool) -> Row:
        unsafe = kind == "unsafe"
        reply = refusal(rng, self.words, action) if unsafe and refuse else comply(
            rng, self.words, action, unsafe)
        source = kind if wrapper is None else f"{kind}_wrapped"
        return Row((text, reply), "unsafe" if unsafe else "safe", source, self.words.language,
                   f"{self.words.language}:{'hazard' if unsafe else 'thing'}:{action.object}",
                   category=action.domain if unsafe else "none",
                   harm_kind="harmful" if unsafe else "none",
                   task=_TASKS.get(wrapper.name, "question") if wrapper else "question",
                   labels={"family": wrapper.name} if wrapper else {})


def noise(rng: Random, words: Vocabulary) -> str:
    """A few marks or words that mean nothing."""
    entry = words.file("wrappers")["noise"]
    n = rng.randint(1, 4)
    if rng.random() < .5:
        return " ".join(rng.choices(entry["words"], k=n))
    marks = rng.choices(entry["marks"], k=n)
    return rng.choice(["", " "]).join(marks if rng.random() < .5 else marks[:1] * n)


def refusal(rng: Random, words: Vocabulary, action: Action) -> str:
    """A refusal, which may name what the action is."""
    return rng.choice(words.frames["refusals"]).format(c=words.about[action.object])


def comply(rng: Random, words: Vocabulary, action: Action, unsafe: bool) -> str:
    """Advice for a harmless action; a placeholder without content for a harmful one."""
    if unsafe:
        said: str = words.frames["placeholder"]
        return said
    first, second = rng.sample(tips(words, action), 2)
    return rng.choice(words.frames["comply"]).format(a=action.text, s1=first, s2=second)


def tips(words: Vocabulary, action: Action) -> tuple[str, ...]:
    """What one may be told of a harmless action."""
    return words.steps.get(action.domain) or tuple(words.frames["tips"])
