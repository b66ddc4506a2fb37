"""Judges: what a reply is - a refusal, an answer, or no language any more.

    completions -> judge -> one Judgement a completion

A judge is one file with *Covered / Not covered / Overall* on top and a measured accuracy;
`calibrate.measure` counts it on labelled replies.
"""

from sternpost.judges.coherence import nll_limit
from sternpost.judges.wordlist import WordListJudge

__all__ = ["WordListJudge", "nll_limit"]
