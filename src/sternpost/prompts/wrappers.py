"""Requests in jailbreak wrappers: every row marked with its family, so that families can be held
out whole. The wordings are data, in wrappers.toml, and our own.

    wrapped request = a wording of a family, with its {field} filled in:
    {q} the request; {leetspeak} {base64} {spacing} {typos} the request disguised;
    {first} {second} its halves; {shots} placeholder questions that were answered

The forms are those of Wei et al. (arXiv 2307.02483: prefixes, refusals ruled out, base64), Kang et
al. (2302.05733: split payloads), Yong et al. (2310.02446: other languages), Zeng et al.
(2401.06373: appeals to feeling and authority), and Anil et al. 2024 (many shots).

Covered: one turn, one wrapper, English and Chinese wordings; prompts in other languages get the
English ones. Not covered: optimised suffixes, attackers that adapt to the model, wrappers inside
wrappers, a request that is itself translated or reworded. Overall: whether a gate or a clamp holds
under forms that it was not fitted on; no measure of how a model stands against an attacker.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from random import Random
from string import Formatter

from sternpost.errors import InputError
from sternpost.prompts.attacks import asked, chosen, marked, worded
from sternpost.prompts.deal import dealt, language_of
from sternpost.prompts.disguise import halves, in_base64, leetspeak, misspelt, spaced
from sternpost.types import LabelledPrompt

SHOTS = (8, 12, 16)
"""How many placeholder pairs stand before the request in a many-shot wrapper."""


@dataclass(frozen=True, slots=True)
class Wrapper:
    """One family in one language."""

    name: str
    about: str
    verbatim: bool
    """Whether the request's own words stand in it, in a row and unchanged."""
    wordings: tuple[str, ...]
    shots: tuple[str, ...] = ()


_FIELDS: Mapping[str, Callable[[Wrapper, str, Random], str]] = {
    "q": lambda wrapper, text, rng: text,
    "leetspeak": lambda wrapper, text, rng: leetspeak(text, rng),
    "base64": lambda wrapper, text, rng: in_base64(text),
    "spacing": lambda wrapper, text, rng: spaced(text, rng),
    "typos": lambda wrapper, text, rng: misspelt(text, rng),
    "first": lambda wrapper, text, rng: halves(text)[0],
    "second": lambda wrapper, text, rng: halves(text)[1],
    "shots": lambda wrapper, text, rng: "\n".join(rng.choices(wrapper.shots, k=rng.choice(SHOTS)))}


def families(language: str | None = None) -> tuple[str, ...]:
    """The names of the wrapper families; with `language` ("en", "zh") those worded in it."""
    if language is None:
        return tuple(dict.fromkeys(name for known in _library().values() for name in known))
    return tuple(worded(_library(), language))


def wrapper(name: str, language: str = "en") -> Wrapper:
    """One family: what it is, whether it is verbatim, its wordings."""
    return worded(_library(), language)[_chosen([name])[0]]


def wrapped(prompts: Sequence[LabelledPrompt], names: Sequence[str] = (), seed: int = 0,
            each: int = 1) -> list[LabelledPrompt]:
    """Every prompt in `each` different wrappers of the families `names` (all of them for none),
    in the order of `prompts`. Of a conversation the last turn is wrapped.

    Families and their wordings are dealt in turn, apart for each kind and language: unsafe and
    safe prompts stand in the same ones, as often. `family` becomes the wrapper's name, `cluster`
    the prompt's own or its sha256; all else is kept. Raises InputError.
    """
    decks = {language: [known[name] for name in _chosen(names)]
             for language, known in _library().items()}
    return _around(prompts, decks, seed, each)


def led_in(prompts: Sequence[LabelledPrompt], names: Sequence[str] = (), seed: int = 0,
           each: int = 1) -> list[LabelledPrompt]:
    """As `wrapped`, in those wordings alone that end with the request's own words. What stands
    after a request cannot reach it in a causal model: only these change how it is read."""
    able = [name for name in families() if _ending(wrapper(name)).wordings]
    if bare := [name for name in _chosen(names) if names and name not in able]:
        raise InputError(f"No wording of {', '.join(bare)} ends with the request itself. Those "
                         f"that have one: {', '.join(able)}.")
    decks = {language: [_ending(known[name]) for name in _chosen(names) if name in able]
             for language, known in _library().items()}
    return _around(prompts, decks, seed, each)


def _ending(one: Wrapper) -> Wrapper:
    return replace(one, wordings=tuple(w for w in one.wordings if w.endswith("{q}")))


def _around(prompts: Sequence[LabelledPrompt], decks: Mapping[str, Sequence[Wrapper]], seed: int,
            each: int) -> list[LabelledPrompt]:
    most = min(len(deck) * min(len(one.wordings) for one in deck) for deck in decks.values())
    if not 1 <= each <= most:
        raise InputError(f"These families have wordings for 1 to {most} different wrappers a "
                         f"prompt; got each={each}.")
    shuffled = {language: _shuffled(deck, Random(f"{seed} {language}"))
                for language, deck in decks.items()}
    out: list[LabelledPrompt] = []
    for prompt, cards in zip(prompts, dealt(prompts, seed, each), strict=True):
        deck = shuffled[language_of(prompt)]
        out += [_wrap(prompt, deck[card % len(deck)], card // len(deck), seed) for card in cards]
    return out


def _shuffled(deck: Sequence[Wrapper], rng: Random) -> list[Wrapper]:
    return [replace(one, wordings=tuple(rng.sample(one.wordings, len(one.wordings))))
            for one in rng.sample(deck, len(deck))]


def _wrap(prompt: LabelledPrompt, one: Wrapper, first: int, seed: int) -> LabelledPrompt:
    """In the wording `first`, or the next that does to the request what the family says."""
    text = asked(prompt)
    for at in range(first, first + len(one.wordings)):
        wording = one.wordings[at % len(one.wordings)]
        rng = Random(f"{seed} {prompt.request.sha256} {wording}")
        parts = {name: _FIELDS[name](one, text, rng) for name in _fields(wording)}
        if one.verbatim or text not in parts.values():
            return marked(prompt, [wording.format(**parts)], one.name)
    raise InputError(f"{one.name} cannot be put around {text!r}: nothing of it would be changed. "
                     "Take the prompt out, or name other families.")


def _fields(wording: str) -> list[str]:
    return sorted({name for _, name, _, _ in Formatter().parse(wording) if name})


def _chosen(names: Sequence[str]) -> Sequence[str]:
    return chosen(names, families(), "wrapper family")


@cache
def _library() -> Mapping[str, Mapping[str, Wrapper]]:
    """Language, then family."""
    text = resources.files("sternpost.prompts").joinpath("wrappers.toml").read_text("utf-8")
    return {language: {name: Wrapper(name, entry["about"], entry["verbatim"],
                                     tuple(entry["wordings"]), tuple(entry.get("shots", ())))
                       for name, entry in known.items()}
            for language, known in tomllib.loads(text).items()}
