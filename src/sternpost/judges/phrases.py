"""A judge of any behaviour that words give away: regular expressions, a goal's own.

Covered: behaviours that a reply shows by its words, in any language that the patterns speak;
replies that are no language any more (`coherence.py`), first.
Not covered: behaviours without words of their own; how well the patterns tell is not measured.
Overall: as good as the patterns. Look at what it says (`samples.jsonl` has the words it found).
"""

import re
from collections.abc import Sequence

from sternpost.judges.wordlist import Nll, WordListJudge
from sternpost.types import Completion, JudgeAccuracy, Judgement, Verdict


class PhraseJudge:
    """`shown` where one of the patterns stands in a reply, else `absent`."""

    name: str = "phrases"
    verdicts: tuple[Verdict, ...] = ("shown", "absent", "incoherent", "unparsed")

    def __init__(self, patterns: Sequence[re.Pattern[str]], nll: Nll | None = None,
                 nll_limit: float | None = None) -> None:
        """`nll`, `nll_limit`: as of the word-list judge."""
        self.patterns = tuple(patterns)
        self.accuracy = JudgeAccuracy(None, None, 0, "not measured")
        self._coherence = WordListJudge(nll, nll_limit)

    def __call__(self, completions: Sequence[Completion]) -> list[Judgement]:
        """One judgement a completion, in order."""
        return [said if said.verdict in ("incoherent", "unparsed") else self._tell(c.answer or "")
                for c, said in zip(completions, self._coherence(completions), strict=True)]

    def _tell(self, answer: str) -> Judgement:
        for pattern in self.patterns:
            if found := pattern.search(answer):
                return Judgement("shown", f"{found[0][:80]!r}")
        return Judgement("absent", "none of the goal's patterns")
