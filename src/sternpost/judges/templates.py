"""The texts that judges are asked with: data files in `questions/`, pinned by their sha256.

A judge with another wording is another judge, so a changed file is refused. {prompt} and {response}
stand for what was asked and what was replied; a text that spells such a mark out stays as it is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from sternpost.errors import InputError
from sternpost.files import sha256_text
from sternpost.types import Completion, Message

_MARK = re.compile(r"\{(prompt|response)\}")
_INST = re.compile(r"(?:<\|user\|>\n)?\[INST\] (?:<<SYS>>\n(?P<system>.*?)\n<</SYS>>\n\n)?"
                   r"(?P<user>.*) \[/INST\](?:\n<\|assistant\|>\n)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pair:
    """What was asked and what was replied."""

    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Template:
    """How a judge is asked about a pair."""

    key: str
    text: str
    """As a model without a chat template of its own is given it, its marks included."""

    @property
    def sha256(self) -> str:
        """Of the text's UTF-8."""
        return sha256_text(self.text)

    def filled(self, pair: Pair, clean: Callable[[str], str] = str) -> str:
        """The whole text about a pair; `clean` goes over what was said, not over the template."""
        return _fill(self.text, pair, clean)

    def messages(self, pair: Pair) -> list[Message]:
        """The same for a chat service, which writes the marks of its model itself."""
        parts = _INST.fullmatch(self.text)
        if parts is None:
            return [Message("user", _fill(self.text, pair))]
        system = [Message("system", parts["system"])] if parts["system"] else []
        return [*system, Message("user", _fill(parts["user"], pair))]


def template(key: str, sha256: str) -> Template:
    """The template `key`. Raises InputError where its file is not the one that was pinned."""
    place = resources.files("sternpost.judges") / "questions" / f"{key}.txt"
    found = Template(key, place.read_text(encoding="utf-8"))
    if found.sha256 != sha256:
        raise InputError(f"judges/questions/{key}.txt was changed: its sha256 is {found.sha256}, "
                         f"not {sha256}. Its verdicts would be another judge's. Install sternpost "
                         "anew, or write a judge of your own (file.py:name).")
    return found


def pair_of(completion: Completion) -> Pair:
    """The conversation up to the reply, a blank line between its turns, and the reply."""
    said = completion.messages[:-1] or completion.request.messages
    turns = [turn.content for turn in said if turn.role in ("user", "assistant")]
    return Pair("\n\n".join(turns) or completion.request.text, completion.answer or "")


def _fill(text: str, pair: Pair, clean: Callable[[str], str] = str) -> str:
    return _MARK.sub(lambda mark: clean(getattr(pair, mark[1])), text)
