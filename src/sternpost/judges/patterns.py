"""The word lists: data in `lists/`, one file a language, compiled once.

A list has `same` (spellings made equal before matching), `parts` (named pieces that a pattern
writes as <name>), `never_refusal` (phrases taken out of the text first) and `refusal` (groups,
each with a comment and a `within`: "start", or a number of sentences). Every list is tried on
every reply.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from sternpost.errors import InputError

CHARACTERS = 600
"""A sentence is looked at up to here, counted from the reply's beginning."""

_QUOTES = str.maketrans({0x2019: "'", 0x2018: "'", "`": "'", "“": '"', "”": '"', "„": '"',
                         "「": '"', "」": '"', "«": '"', "»": '"', "*": " ", "_": " ", "#": " "})
_CODE = re.compile(r"```.*?(?:```|$)", re.DOTALL)
_QUOTED = re.compile(r'"[^"]{1,300}"')
_SPACE = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
_PART = re.compile(r"<(\w+)>")
_TAKEN_OUT = "…"


@dataclass(frozen=True, slots=True)
class Found:
    """A pattern that a reply matched."""

    language: str
    group: str
    """The group's comment: what its patterns are for."""
    text: str
    """The words that matched, as normalised."""


@dataclass(frozen=True, slots=True)
class Group:
    """Patterns of one purpose, as one expression."""

    comment: str
    within: int
    """The sentences it looks at, from the first; 0: the reply must begin with the pattern."""
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class WordList:
    """One language's list."""

    language: str
    same: tuple[tuple[re.Pattern[str], str], ...]
    never: re.Pattern[str] | None
    groups: tuple[Group, ...]

    def find(self, reply: str) -> Found | None:
        """The first group that speaks of refusal in `reply`, None where none does."""
        sentences = self._sentences(reply)
        whole = " ".join(sentences)
        for group in self.groups:
            text = " ".join(sentences[:group.within]) if group.within else whole
            look = group.pattern.search if group.within else group.pattern.match
            if match := look(text[:CHARACTERS]):
                return Found(self.language, group.comment, match[0].strip())
        return None

    def _sentences(self, reply: str) -> list[str]:
        text = _CODE.sub(f"\n{_TAKEN_OUT}\n", reply).translate(_QUOTES)
        text = _without_quotations(text).lower()
        for pattern, spelling in self.same:
            text = pattern.sub(spelling, text)
        if self.never:
            text = self.never.sub(_TAKEN_OUT, text)
        parts = (_SPACE.sub(" ", part).strip(" \"'") for part in _SENTENCE_END.split(text))
        return [part for part in parts if any(c.isalpha() for c in part)]


def first_sentence_ends(text: str) -> bool:
    """Whether a text goes on after a first sentence with a letter in it."""
    return any(any(c.isalpha() for c in text[:end.start()]) for end in _SENTENCE_END.finditer(text))


def _without_quotations(text: str) -> str:
    text = text.strip()
    whole = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]
    return text.strip('"') if whole else _QUOTED.sub(_TAKEN_OUT, text)


def parse(body: Mapping[str, Any], name: str) -> WordList:
    """The list that a file's JSON holds. Raises InputError where it is not one."""
    try:
        same = tuple((re.compile(p), s) for p, s in body["same"]["spellings"])
        edge = r"\b" if body["spaced"] else ""
        never = [p for group in body["never_refusal"] for p in group["patterns"]]
        groups = tuple(_group(g, body["parts"], edge) for g in body["refusal"])
        return WordList(body["language"], same,
                        _compile(never, body["parts"], edge) if never else None, groups)
    except (KeyError, TypeError, ValueError, re.error) as error:
        raise InputError(f"{name} is no word list: {error!r}. It needs language, spaced, same, "
                         "parts, never_refusal and refusal; see lists/en.json.") from error


def _group(body: Mapping[str, Any], parts: Mapping[str, str], edge: str) -> Group:
    within = 0 if body["within"] == "start" else body["within"]
    if not isinstance(within, int) or (within < 1 and body["within"] != "start"):
        raise ValueError(f"within is 'start' or a number from 1 up; got {body['within']!r}")
    return Group(body["comment"], within, _compile(body["patterns"], parts, edge))


def _compile(patterns: list[str], parts: Mapping[str, str], edge: str) -> re.Pattern[str]:
    joined = "|".join(f"(?:{pattern})" for pattern in patterns)
    while (filled := _PART.sub(lambda m: parts[m[1]], joined)) != joined:
        joined = filled
    return re.compile(f"{edge}(?:{joined})")


@cache
def word_lists() -> tuple[WordList, ...]:
    """The lists that sternpost ships, compiled."""
    folder = resources.files("sternpost.judges") / "lists"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".json")), key=lambda f: f.name)
    return tuple(parse(json.loads(f.read_text(encoding="utf-8")), f.name) for f in files)
