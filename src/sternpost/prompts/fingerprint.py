"""Fingerprints that near-duplicates share: prompts that belong together, found in one pass.

Two prompts belong together when they share a mark:

    key       of the normalised text: case, white space and punctuation folded
    cluster   where the row carries one
    without   where it does not: the key of the text with word i left out, of n words in all

A shared `without` is one changed word in the same place. It needs three words or more: of a
shorter prompt too little would be left to compare.

Covered: Unicode forms (NFKC), case, white space, punctuation; Chinese and Japanese by character.
Not covered: a word more or less, paraphrase, translation; Thai and Lao count as one word a phrase.
Overall: it finds copies and templates, not meaning.
"""

import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sternpost.files import sha256_text
from sternpost.types import LabelledPrompt

_FEWEST_WORDS = 3
_DROPPED = frozenset("'`\u2018\u2019\u02bc\ufe0e\ufe0f")  # don't = dont; marks of an emoji's look
_BY_CHARACTER = ("CJK ", "HIRAGANA", "KATAKANA")


def words(text: str) -> tuple[str, ...]:
    """The words of `text`, normalised. A text of punctuation only is one word: itself."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    found = tuple("".join(map(_fold, folded)).split())
    return found or tuple(["".join(folded.split())] if folded.strip() else [])


def key(text: str) -> str:
    """16 hex digits that texts of the same normalised words share."""
    return _key(words(text))


def without_each_word(text: str) -> tuple[str, ...]:
    """The keys of `text` with its first, second, ... word left out."""
    w = words(text)
    return tuple(_key(w[:i] + w[i + 1:]) for i in range(len(w)))


def near_record(prompt: LabelledPrompt) -> dict[str, Any]:
    """What `splits.json` keeps under `near`, for a later run to catch near-duplicates by."""
    request = prompt.request
    text = "\n".join(m.content for m in request.messages) or request.text
    if prompt.cluster is not None:
        return {"key": key(text), "cluster": sha256_text(prompt.cluster)}
    return {"key": key(text), "without": list(without_each_word(text))}


def marks(record: Mapping[str, Any]) -> frozenset[Hashable]:
    """The marks of a near record; records that share one belong together."""
    found: set[Hashable] = {record["key"]}
    if "cluster" in record:
        return frozenset(found | {("cluster", record["cluster"])})
    without = record["without"]
    if len(without) >= _FEWEST_WORDS:
        found |= {(len(without), i, k) for i, k in enumerate(without)}
    return frozenset(found)


def marks_of(prompt: LabelledPrompt) -> frozenset[Hashable]:
    """The marks of a prompt. One without a cluster is its own, named by its sha256, which attacks
    on it carry as their cluster."""
    found = marks(near_record(prompt))
    return found | {own_cluster(prompt.request.sha256)} if prompt.cluster is None else found


def own_cluster(sha256: str) -> Hashable:
    """The mark of the cluster that a prompt without one is, by its sha256."""
    return "cluster", sha256_text(sha256)


def groups(prompts: Sequence[LabelledPrompt]) -> list[tuple[int, ...]]:
    """The places in `prompts` that belong together, each in order, by their first place."""
    parent = list(range(len(prompts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, prompt in enumerate(prompts):
        for mark in marks_of(prompt):
            a, b = root(first.setdefault(mark, i)), root(i)
            parent[max(a, b)] = min(a, b)
    together: dict[int, list[int]] = {}
    for i in range(len(prompts)):
        together.setdefault(root(i), []).append(i)
    return [tuple(rows) for rows in together.values()]


def _key(w: Sequence[str]) -> str:
    return sha256_text(" ".join(w))[:16]


@lru_cache(maxsize=8192)
def _fold(character: str) -> str:
    category = unicodedata.category(character)
    if character in _DROPPED or category == "Cf":
        return ""
    if category[0] in "LMN":
        alone = unicodedata.name(character, "").startswith(_BY_CHARACTER)
        return f" {character} " if alone else character
    # + = $ and emoji carry meaning; a tilde is mostly punctuation in Chinese
    return f" {character} " if category in ("Sm", "Sc", "So") and character != "~" else " "
