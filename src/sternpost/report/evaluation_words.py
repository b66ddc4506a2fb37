"""What an evaluation's table, page and card say, in English or Chinese; words are data."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from sternpost.errors import InputError

LANGUAGES = ("en", "zh")
PAGE = {"en": "en", "zh": "zh-Hans"}
"""The page's own language mark."""


@dataclass(frozen=True)
class Words:
    """The texts of one language: `words("page.front")`, filled in with what is given."""

    lang: str
    texts: Mapping[str, Mapping[str, str]]

    def __call__(self, key: str, **values: Any) -> str:
        """The text under `section.name`."""
        section, _, name = key.partition(".")
        text = self.texts[section][name]
        return text.format(**values) if values else text

    def named(self, section: str, name: str) -> str:
        """What a name of results.json is called; an unknown one as it stands, without `_`."""
        return self.texts[section].get(name) or str(name).replace("_", " ")

    def known(self, section: str, name: str) -> str:
        """The same, or nothing for an unknown name."""
        return self.texts[section].get(name, "")


@cache
def words(lang: str) -> Words:
    """The texts of `en` or `zh`."""
    if lang not in LANGUAGES:
        raise InputError(f"An evaluation is told in {' or '.join(LANGUAGES)}; got {lang!r}. "
                         "Type --lang en")
    file = resources.files("sternpost.report") / "words" / f"evaluation.{lang}.toml"
    return Words(lang, tomllib.loads(file.read_text(encoding="utf-8")))


def words_for(results: Mapping[str, Any], lang: str | None = None) -> Words:
    """The texts in the language that is asked for, else in the evaluation's own."""
    return words(lang or str(results.get("lang") or "en"))
