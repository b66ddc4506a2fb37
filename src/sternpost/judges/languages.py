"""Which language a text is in, as far as that can be known, and which judges can read it.

    stated language    the part before "-" or "_" of a code (de-AT), or an English name (German)
    script             that of more than half of a text's letters; Japanese has kana among its Han

A judge that reads some languages alone says so in `languages`; a reply to a prompt in another is
unparsed, never judged by the lists of those.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from sternpost.errors import InputError
from sternpost.types import Completion, Judge, Judgement

NAMES = {"english": "en", "german": "de", "deutsch": "de", "french": "fr", "fran\u00e7ais": "fr",
         "chinese": "zh", "cmn": "zh", "eng": "en", "deu": "de", "ger": "de", "fra": "fr",
         "fre": "fr", "zho": "zh", "chi": "zh"}
"""Other ways to say the languages that a list is there for."""
LETTERS = 600
"""Letters of a text that are looked at, from its beginning."""
FEWEST = 4
"""Fewer letters tell nothing."""
KANA = 0.1
"""At least this share of a Japanese text's Han and kana are kana."""
_SAID = {"CJK": "Han", "KANGXI": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}


def script_of(text: str) -> str | None:
    """The script of most of a text's letters, such as Latin, Han, Japanese or Cyrillic; None where
    there are fewer than four letters, or no script holds more than half of them."""
    letters = [c for c in text if c.isalpha()][:LETTERS]
    if len(letters) < FEWEST:
        return None
    counts = Counter(_script(c) for c in letters)
    kana = counts.pop("Kana", 0)
    if kana and kana >= KANA * (kana + counts["Han"]) and \
            2 * (kana + counts["Han"]) > len(letters):
        return "Japanese"
    script, most = counts.most_common(1)[0] if counts else ("Kana", kana)
    return script if 2 * most > len(letters) else None


def _script(letter: str) -> str:
    word = unicodedata.name(letter, "unnamed").split()[0]
    return _SAID.get(word, word.capitalize())


def code_of(language: str | None) -> str | None:
    """The two-letter code that a stated language begins with, in small letters; None unstated."""
    if language is None or not language.strip():
        return None
    said = language.strip().lower()
    return NAMES.get(said) or NAMES.get(part := said.replace("_", "-").split("-")[0], part)


def judged(judge: Judge, completions: Sequence[Completion],
           languages: Sequence[str | None]) -> list[Judgement]:
    """One judgement a completion, in order. `languages`: of the prompts, as stated, None where
    nobody says. The judge is not asked for what it cannot read."""
    if len(languages) != len(completions):
        raise InputError(f"{len(completions)} completions have {len(languages)} languages. Give "
                         "one each, None where it is not known.")
    reads: frozenset[str] | None = getattr(judge, "languages", None)
    codes = [code_of(language) for language in languages]
    able = [i for i, code in enumerate(codes) if reads is None or code is None or code in reads]
    said = dict(zip(able, judge([completions[i] for i in able]), strict=True)) if able else {}
    return [said.get(i) or _unread(judge.name, code, reads or frozenset())
            for i, code in enumerate(codes)]


def _unread(name: str, code: str | None, reads: frozenset[str]) -> Judgement:
    return Judgement("unparsed", f"the judge {name} reads {', '.join(sorted(reads))}; the prompt's "
                                 f"language is {code}")
