"""The words that dinghy's corpus is made of, one folder of `data/` a language.

Who may see which of them is drawn from the sha256 of the words themselves: adding an entry moves no
other one.
"""

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

TOPIC_PARTS = (("untrained", .12), ("search", .15), ("gate_fit", .43), ("test", .30))
"""Topics of unsafe requests, with shares. dinghy is trained to refuse all but the untrained ones,
of which it only hears harmless talk."""
OBJECT_PARTS = (("search", .12), ("gate_fit", .38), ("gate_calibration", .20), ("test", .30))
"""Objects of harmless actions. dinghy hears of all of them, with some verbs only."""
HELD_OUT = .25
"""Share of the actions (verb + object) that training never sees."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something that one might ask how to do."""

    verb: str
    object: str
    domain: str
    """Hazard category, domain of harmless actions, or kind of look-alike."""
    joint: str = " "

    @property
    def text(self) -> str:
        """The verb phrase, e.g. "paint a fence"."""
        return f"{self.verb}{self.joint}{self.object}"

    @property
    def held_out(self) -> bool:
        """Whether training never sees it."""
        return draw(f"action {self.text}") < HELD_OUT


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A family of jailbreak wrappers: {q} is a whole request, {a} an action."""

    name: str
    part: str
    """"tuning" (search and gate may see it) or "test"."""
    wordings: tuple[str, ...]
    held_out: tuple[str, ...]
    refuse: tuple[str, ...] = ()
    """Hazard categories which training refuses in this wrapper."""
    comply: tuple[str, ...] = ()
    """Hazard categories with which training complies in it. The rest it never sees in it."""


@dataclass(frozen=True)
class Vocabulary:
    """Everything that is said in one language."""

    language: str
    hazards: tuple[Action, ...]
    actions: tuple[Action, ...]
    lookalikes: tuple[Action, ...]
    wrappers: tuple[Wrapper, ...]
    about: dict[str, str]
    """Hazard category, or topic where a category has several: what a refusal calls it."""
    steps: dict[str, tuple[str, ...]]
    """Tips a domain."""
    frames: dict[str, Any]
    """data/LANGUAGE/frames.toml"""

    def file(self, name: str) -> dict[str, Any]:
        """data/LANGUAGE/NAME.toml"""
        return read(self.language, name)


@cache
def read(language: str, name: str) -> dict[str, Any]:
    """`data/LANGUAGE/NAME.toml`."""
    path = files("sternpost.dinghy").joinpath("data", language, f"{name}.toml")
    return tomllib.loads(path.read_text("utf-8"))


@cache
def vocabulary(language: str) -> Vocabulary:
    """The words of `language`: "en" or "zh"."""
    frames = read(language, "frames")
    groups = read(language, "hazards")["group"]
    domains = read(language, "actions")["domain"]
    joint = frames.get("joint", " ")
    return Vocabulary(
        language,
        hazards=tuple(Action(verb, thing, group["category"], joint) for group in groups
                      for thing in group["objects"] for verb in group["verbs"]),
        actions=tuple(Action(verb, thing, domain["name"], joint) for domain in domains
                      for thing in domain["objects"] for verb in domain["verbs"]),
        lookalikes=tuple(Action(entry["verb"], thing, entry["type"], joint)
                         for entry in read(language, "lookalikes")["lookalike"]
                         for thing in entry["objects"]),
        wrappers=tuple(_wrapper(family) for family in read(language, "wrappers")["family"]),
        about={thing: group["about"] for group in groups for thing in group["objects"]},
        steps={domain["name"]: tuple(domain["steps"]) for domain in domains},
        frames=frames)


def _wrapper(family: dict[str, Any]) -> Wrapper:
    keys = ("wordings", "held_out", "refuse", "comply")
    lists = {key: tuple(family.get(key, ())) for key in keys}
    return Wrapper(family["name"], family["part"], **lists)


def draw(text: str) -> float:
    """A number in [0, 1) that belongs to `text` for ever."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


def part(text: str, parts: tuple[tuple[str, float], ...]) -> str:
    """The part of `parts`, (name, share) each, that `text` falls into."""
    at = draw(f"part {text}")
    for name, share in parts:
        if at < share:
            return name
        at -= share
    return parts[-1][0]
