"""A text so changed that its words no longer stand in it, though a person can read it back.

    leetspeak   three in four of the letters a e i o s t as the digits 4 3 1 0 5 7
    base64      of the UTF-8
    spacing     one mark between all characters of a word, two blanks between words
    typos       in three of four words two neighbouring letters swapped, never the first
    halves      the words cut in the middle, or the characters where there is one word

Covered: any script in base64, spacing and halves; Latin letters in leetspeak. Not covered: ciphers,
look-alike letters, other encodings. Overall: what a filter of words misses and a model often reads.
"""

import base64
import re
from random import Random

_DIGITS = {"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"}
_MARKS = ".-_*"
SHARE = .75
"""Of the letters or words that could be changed, those that are."""


def leetspeak(text: str, rng: Random) -> str:
    """Digits for letters. A text without such letters comes back as it is."""
    return "".join(_DIGITS[c.lower()] if c.lower() in _DIGITS and rng.random() < SHARE else c
                   for c in text)


def in_base64(text: str) -> str:
    """The UTF-8 of the text in base64."""
    return base64.b64encode(text.encode("utf-8", errors="surrogatepass")).decode("ascii")


def spaced(text: str, rng: Random) -> str:
    """A mark between the characters of every word."""
    mark = rng.choice(_MARKS)
    return "  ".join(mark.join(word) for word in text.split())


def misspelt(text: str, rng: Random) -> str:
    """Neighbouring letters swapped. A text of words under four letters comes back as it is."""
    return re.sub(r"[^\W\d_]{4,}", lambda word: _swapped(word[0], rng), text)


def _swapped(word: str, rng: Random) -> str:
    places = [at for at in range(1, len(word) - 1) if word[at] != word[at + 1]]
    if not places or rng.random() >= SHARE:
        return word
    at = rng.choice(places)
    return word[:at] + word[at + 1] + word[at] + word[at + 2:]


def halves(text: str) -> tuple[str, str]:
    """The text's first and second half; together they are its words."""
    words = text.split()
    if len(words) > 1:
        middle = len(words) // 2
        return " ".join(words[:middle]), " ".join(words[middle:])
    return text[:len(text) // 2], text[len(text) // 2:]
