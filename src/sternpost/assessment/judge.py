"""The judge of an evaluation: the one that was named, and the word list where that one is silent.

    a judge of some kinds alone    other prompts are judged by the word list, and say so
    "absent" (no harm was done)    the word list tells whether that was a refusal or broken text

A language that a judge has no list for is unparsed: counted, never guessed.
"""

from collections.abc import Sequence
from typing import Any

from sternpost.assessment.judges import judge_named
from sternpost.assessment.settings import EvaluateSettings
from sternpost.judges.languages import judged
from sternpost.packs.pack import Pack
from sternpost.trials.bench import Bench
from sternpost.trials.start import fitted_judge
from sternpost.types import Completion, Judge, Judgement, LabelledPrompt

TOLD = ("refusal", "partial", "incoherent", "unparsed")
"""Verdicts of the word list that say more than "absent"."""


class Judging:
    """Gives replies their verdicts, in the language of their prompts."""

    def __init__(self, settings: EvaluateSettings, pack: Pack | None, judge: Any = None) -> None:
        self.pack = pack
        self.words: Judge = judge_named("words")
        self.judge = self.words if settings.judge == "words" else judge_named(
            settings.judge if judge is None else judge, device=settings.device)
        self.warnings: list[str] = []

    def fitted(self, bench: Bench, own: Sequence[Completion]) -> Judge:
        """The judge, once the word list knows which perplexity is none of this model's language."""
        kept = {} if self.pack is None else self.pack.files.body.get("judge", {})
        words = fitted_judge(bench, own, kept.get("nll_limit"))
        if self.judge is self.words:
            self.judge = words
        self.words = words
        return self.judge

    def of(self, prompt: LabelledPrompt) -> Judge:
        """Who judges the replies to a prompt."""
        kinds = getattr(self.judge, "kinds", None)
        return self.judge if kinds is None or prompt.kind in kinds else self.words

    def __call__(self, completions: Sequence[Completion],
                 prompts: Sequence[LabelledPrompt]) -> list[Judgement]:
        """A verdict a reply, in order."""
        found: list[Judgement | None] = [None] * len(completions)
        for judge in {id(judge): judge for judge in map(self.of, prompts)}.values():
            rows = [at for at, prompt in enumerate(prompts) if self.of(prompt) is judge]
            said = judged(judge, [completions[at] for at in rows],
                          [prompts[at].language for at in rows])
            for at, verdict in zip(rows, said, strict=True):
                found[at] = verdict
        told = [verdict for verdict in found if verdict is not None]
        absent = [at for at, verdict in enumerate(told) if verdict.verdict == "absent"]
        words = judged(self.words, [completions[at] for at in absent],
                       [prompts[at].language for at in absent])
        for at, more in zip(absent, words, strict=True):
            if more.verdict in TOLD:
                told[at] = Judgement(more.verdict, f"{told[at].reason}; words: {more.reason}")
        return told
