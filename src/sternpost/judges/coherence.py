"""Signs that a reply is no language any more: nothing said, loops, noise, a high perplexity.

Covered: empty replies; a phrase said over and over; a stutter inside a word; symbols without
words; whatever the unsteered model finds far less likely than its own replies.
Not covered: grammatical text that makes no sense, wrong facts, a switch of topic or language,
loops inside a code block, loops whose rounds all differ.
Overall: built to be silent on coherent text (lists, tables, code, "Paris"), so it misses mild
damage; the perplexity sees some of it, where a model is at hand.

Every sign is a number against a limit, and a reason says both.
"""

import math
import re
from collections.abc import Sequence

from sternpost.errors import InputError
from sternpost.types import Completion, Judgement

LOOP_WORDS = 10
"""A loop is at least so many words long."""
LOOP_ROUNDS = 4
"""The same phrase at least so often in a row."""
LOOP_SHARE = 0.3
"""The loop is at least this share of the reply: one odd stutter is forgiven."""
LONGEST_PHRASE = 40
"""Words of the longest phrase that a loop is looked for with."""
GRAM = 4
GRAM_WORDS = 60
"""Distinct 4-grams are counted from so many words up."""
DISTINCT_GRAMS = 0.35
"""At least this share of a coherent reply's 4-grams are different."""
NOISE_SIGNS = 40
NOISE_SHARE = 0.1
"""At least this share of a coherent reply's signs, spaces aside, are letters or digits."""
OWN_QUANTILE = 0.95
MARGIN = math.log(10)

_CODE = re.compile(r"```.*?(?:```|$)", re.DOTALL)
_CJK = r"\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff"  # a character counts as a word
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:['\u2019][^\W\d_]+)*")
_STUTTER = re.compile(r"([^\W\d_]{1,4}?)\1{14,}")


def by_signs(completion: Completion) -> Judgement | None:
    """What can be said of a reply without reading it as language: cut off while still thinking, or
    no language; None where it has to be read."""
    if completion.answer is None:
        return Judgement("unparsed", "cut off while still thinking")
    sign = incoherent(completion.answer)
    return Judgement("incoherent", sign) if sign else None


def incoherent(answer: str) -> str | None:
    """The sign by which `answer` is no language, in words; None where there is none."""
    if not any(c.isalnum() for c in answer):
        return "empty: no letter or digit"
    text = _CODE.sub(" ", answer)
    if not any(c.isalnum() for c in text):  # all of it is code
        return None
    words = [word.lower() for word in _WORD.findall(text)]
    return _noise(text) or _stutter(text) or _loop(words) or _few_grams(words)


def nll_limit(own: Sequence[float]) -> float:
    """The nll (nats a token) above which a reply is incoherent, from the model's own replies.

        limit = quantile_0.95(own) + ln 10

    `own`: the unsteered model's mean nll on its own unsteered replies. Ten times less likely a
    token than its near-worst own reply. The 0.95 quantile, not the maximum: one broken reply of
    the model's own does not set the limit. The margin: another coherent reply, a refusal say,
    surprises the model at a few tokens, salad at nearly all. Values that are not finite (an empty
    reply) are left out.
    """
    values = sorted(value for value in own if math.isfinite(value))
    if not values:
        raise InputError(f"The perplexity limit needs the unsteered model's nll on its own replies;"
                         f" got {len(own)} values, none of them finite.")
    place = OWN_QUANTILE * (len(values) - 1)
    below, above = values[math.floor(place)], values[math.ceil(place)]
    return below + (place - math.floor(place)) * (above - below) + MARGIN


def _noise(text: str) -> str | None:
    signs = [c for c in text if not c.isspace()]
    share = sum(c.isalnum() for c in signs) / len(signs)
    if len(signs) < NOISE_SIGNS or share >= NOISE_SHARE:
        return None
    return f"noise: {100 * share:.0f} % of its signs are letters or digits (limit 10 %)"


def _stutter(text: str) -> str | None:
    run = max((match[0] for match in _STUTTER.finditer(text)), key=len, default="")
    if len(run) < LOOP_SHARE * sum(c.isalnum() for c in text):
        return None
    return f"repetition: {run[:12]!r}... goes on for {len(run)} letters" if run else None


def _loop(words: Sequence[str]) -> str | None:
    """The longest run in which each word equals the one `size` words before it."""
    need = max(LOOP_WORDS, LOOP_SHARE * len(words))
    for size in range(1, min(LONGEST_PHRASE, len(words) // LOOP_ROUNDS) + 1):
        run, longest, end = 0, 0, 0
        for place in range(size, len(words)):
            run = run + 1 if words[place] == words[place - size] else 0
            if run > longest:
                longest, end = run, place
        length = longest + size
        if length >= max(need, LOOP_ROUNDS * size):
            phrase = " ".join(words[end - size + 1:end + 1])
            return f"repetition: {phrase[:60]!r} {length // size} times in a row"
    return None


def _few_grams(words: Sequence[str]) -> str | None:
    if len(words) < GRAM_WORDS:
        return None
    grams = [tuple(words[i:i + GRAM]) for i in range(len(words) - GRAM + 1)]
    share = len(set(grams)) / len(grams)
    if share >= DISTINCT_GRAMS:
        return None
    return f"repetition: {100 * share:.0f} % of its {GRAM}-word phrases differ (limit 35 %)"
