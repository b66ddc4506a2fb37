"""Whether a reply to a capability prompt is right.

    number   the reply's last number equals the answer
    letter   the one upper-case letter that the reply names: standing alone, and at the end of
             the reply, after "answer is", or before ) . or :
    phrase   the reply holds the answer's words in a row, normalised

Covered: signs, thousands separators (1,234), decimals, exponents, currency signs and per cent
beside a number; bold and quotes around a letter; Chinese, full-width forms.
Not covered: decimal commas, fractions, numbers in words; "not Paris" for Paris; letters of other
alphabets; a reply that repeats every option is wrong.
Overall: an exact check of short answers, no judge of reasoning.
"""

import re
import unicodedata
from decimal import Decimal

from sternpost.prompts.fingerprint import words

_DIGITS = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+"
_NUMBER = re.compile(  # a hyphen after a word is no sign (10-5); a digit after a letter no number
    rf"(?P<sign>(?<![\w)\]])[-+])?(?:[$€£¥₹]\s?(?P<sign2>[-+])?)?"
    rf"(?<!\w)(?<!\d\.)(?P<digits>(?:{_DIGITS})(?:[eE][-+]?\d{{1,3}}(?!\w))?)", re.ASCII)
_BESIDE = " \t\n%.,;:!*_$€£¥₹"
_LETTER = re.compile(  # standing alone: no part of a word, of I'm, or of U.S.
    r"(?<![A-Za-z0-9])(?<![A-Za-z]['.])[A-Z](?![A-Za-z0-9]|'[A-Za-z]|\.[A-Za-z](?![A-Za-z]))")
_BEFORE = re.compile(r"(?:answer\s+is|答案[是为為])\s*:?[\s*_(\[\"'`]*$", re.IGNORECASE)
_AFTER = re.compile(r"[*_\"'`]*[).:。]|[\s*_\"'`\]}!]*$")


def is_right(reply: str, answer: str) -> bool:
    """Whether `reply` gives `answer`: a number, one letter, or else a phrase."""
    reply, answer = _plain(reply), _plain(answer)
    number = _NUMBER.fullmatch(answer.rstrip(_BESIDE))
    if number:
        found = list(_NUMBER.finditer(reply))
        return bool(found) and _value(found[-1]) == _value(number)
    if letter := re.fullmatch(r"\(?([A-Za-z])[).:]?", answer):
        return _letters(reply) == {letter[1].upper()}
    wanted, said = words(answer), words(reply)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(said)} "


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
    return folded.replace("\u2019", "'").replace("\u201c", '"').replace("\u201d", '"').strip()


def _value(match: re.Match[str]) -> Decimal:
    size = Decimal(match["digits"].replace(",", ""))
    return -size if "-" in (match["sign"], match["sign2"]) else size


def _letters(reply: str) -> set[str]:
    return {match[0] for match in _LETTER.finditer(reply)
            if _AFTER.match(reply, match.end()) or _BEFORE.search(reply[:match.start()])}
