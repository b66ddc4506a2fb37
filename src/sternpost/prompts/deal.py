"""Who gets which card: prompts are dealt to in turn, so that unsafe and safe ones get the same.

    the i-th prompt of its kind and language gets the cards i * each, ..., i * each + each - 1

The order is drawn by a seed from the texts alone, so that of a file does not matter. Whatever the
cards mean, no two kinds of prompts differ in how often they get one by more than a card: nothing
that is fitted on them can learn the card in place of the prompt.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from sternpost.prompts.limit import seeded
from sternpost.types import LabelledPrompt


def dealt(prompts: Sequence[LabelledPrompt], seed: int, each: int) -> list[range]:
    """The numbers of each prompt's cards, from 0, in the order of `prompts`."""
    cards = [range(0)] * len(prompts)
    had: Counter[tuple[str, str]] = Counter()
    for at in sorted(range(len(prompts)), key=lambda at: seeded(seed, prompts[at])):
        hand = prompts[at].kind, language_of(prompts[at])
        cards[at] = range(had[hand] * each, (had[hand] + 1) * each)
        had[hand] += 1
    return cards


def language_of(prompt: LabelledPrompt) -> str:
    """The language that attacks on it are worded in: "zh" where its row says so or, unsaid, most
    of its last turn's letters are Chinese; for all others "en"."""
    if prompt.language is not None:
        return "zh" if prompt.language.lower().replace("_", "-").split("-")[0] == "zh" else "en"
    messages = prompt.request.messages
    text = messages[-1].content if messages else prompt.request.text
    letters = [c for c in text if c.isalpha()]
    chinese = sum(unicodedata.name(c, "").startswith("CJK ") for c in letters)
    return "zh" if 2 * chinese > len(letters) else "en"
