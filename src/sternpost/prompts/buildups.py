"""Scripted multi-turn build-ups: harmless turns that lead to the request, and the request last.

    script = user turns with no reply between; {t} is the topic, {q} the request
    t      = the request's two or three longest content words, in its order

After Crescendo (arXiv 2404.01833), which asks a model of its own for every next turn.

The rule that says which turns are harmful: of an unsafe prompt the last one, which carries the
request, and no other; of a safe prompt none. Every script is also played over safe prompts, its
benign twins, so that what is fitted on build-ups must read the request and not the script.

Covered: fixed scripts of three or four turns, English and Chinese. Not covered: an attacker that
follows what the model says, turns back after a refusal, or refers to the model's own words; a
request spread over turns. Overall: a repeatable probe of state across turns, not Crescendo's
success rate.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random

from sternpost.errors import InputError
from sternpost.prompts.attacks import asked, chosen, marked, worded
from sternpost.prompts.deal import dealt, language_of
from sternpost.types import LabelledPrompt

FAMILY = "build_up"


@dataclass(frozen=True, slots=True)
class Scripts:
    """All scripts of one language."""

    turns: Mapping[str, tuple[str, ...]]
    """By the script's name."""
    apart: re.Pattern[str]
    """What stands between words."""
    stop: frozenset[str]
    """Words that are no topic."""
    words: int
    """Of a topic, at most."""
    letters: int
    """Of a topic's word, at most."""
    comma: str


def scripts(language: str | None = None) -> tuple[str, ...]:
    """The names of the scripts; with `language` ("en", "zh") those worded in it."""
    of = _library().values() if language is None else [worded(_library(), language)]
    return tuple(dict.fromkeys(name for known in of for name in known.turns))


def build_ups(prompts: Sequence[LabelledPrompt], names: Sequence[str] = (),
              seed: int = 0) -> list[LabelledPrompt]:
    """Every prompt as a script of user turns that ends with it, of one of the scripts `names` (all
    of them for none), in the order of `prompts`.

    Scripts are dealt in turn, apart for each kind and language: give as many safe prompts as
    unsafe ones, and every build-up has its benign twin. `family` becomes build_up:NAME, `cluster`
    the prompt's own or its sha256; all else is kept. Raises InputError.
    """
    dealt_names = chosen(names, scripts(), "build-up script")
    out: list[LabelledPrompt] = []
    for prompt, (card,) in zip(prompts, dealt(prompts, seed, 1), strict=True):
        order = Random(f"{seed} {language_of(prompt)}").sample(dealt_names, len(dealt_names))
        out.append(_played(prompt, order[card % len(order)]))
    return out


def is_script(prompt: LabelledPrompt) -> bool:
    """Whether a prompt has several user turns."""
    return sum(message.role == "user" for message in prompt.request.messages) > 1


def harmful_turns(prompt: LabelledPrompt) -> tuple[int, ...]:
    """Which of the user's turns, from 0, ask for harm: of an unsafe prompt those that it names,
    else the last, by the rule above; of any other none."""
    if prompt.kind == "unsafe" and prompt.harmful:
        return prompt.harmful
    turns = sum(message.role == "user" for message in prompt.request.messages)
    return (turns - 1,) if prompt.kind == "unsafe" and turns else ()


def _played(prompt: LabelledPrompt, name: str) -> LabelledPrompt:
    text = asked(prompt)
    if is_script(prompt):
        raise InputError(f"{prompt.request.text[:80]!r} is a conversation already. Give prompts of "
                         "one user turn.")
    known = _library()[language_of(prompt)]
    topic = _topic(text, known)
    return marked(prompt, [turn.format(t=topic, q=text) for turn in known.turns[name]],
                  f"{FAMILY}:{name}")


def _topic(text: str, known: Scripts) -> str:
    """The longest content words, as they follow each other; of a text of stop words its first."""
    parts = [part.strip("'’-") for part in known.apart.split(text)]
    found = list(dict.fromkeys(part for part in parts if part))
    content = [word for word in found if word.lower() not in known.stop] or found[:1] or [text]
    most = sorted(content, key=len, reverse=True)[:known.words]
    return known.comma.join(word[:known.letters] for word in content if word in most)


@cache
def _library() -> Mapping[str, Scripts]:
    text = resources.files("sternpost.prompts").joinpath("buildups.toml").read_text("utf-8")
    return {language: Scripts({name: tuple(turns) for name, turns in entry["script"].items()},
                              re.compile(entry["apart"]), frozenset(entry["stop"].split()),
                              entry["words"], entry["letters"], entry["comma"])
            for language, entry in tomllib.loads(text).items()}
