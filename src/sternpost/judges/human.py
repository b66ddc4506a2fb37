"""People's labels as a judge: what a file says of this very reply to this very prompt.

Covered: replies that stand in the file word for word (white space at the ends aside), known by
prompt and reply, or by the sha256 of each.
Not covered: every other reply, which is unparsed: a new run's text has no labels yet.
Overall: the judge that the others are measured by. `sternpost judge sample` makes the sheet.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sternpost.judges.labels import key_of, read_human
from sternpost.types import Completion, JudgeAccuracy, Judgement, Verdict


class HumanJudge:
    """The label of each reply, unparsed where it has none."""

    verdicts: tuple[Verdict, ...] = ("refusal", "partial", "compliance", "incoherent", "unparsed")

    def __init__(self, labels: Mapping[tuple[str, str], Verdict], name: str = "human") -> None:
        """`labels`: by `labels.key_of` prompt and reply."""
        self.name, self._labels = name, labels
        self.accuracy = JudgeAccuracy(None, None, 0, "people's labels; their agreement with one "
                                                      "another is not in the file")

    def __call__(self, completions: Sequence[Completion]) -> list[Judgement]:
        """One judgement a completion, in order."""
        return [self._tell(completion) for completion in completions]

    def _tell(self, completion: Completion) -> Judgement:
        found = self._labels.get(key_of(completion.request.text, completion.reply))
        return Judgement(found, "labelled by people") if found else \
            Judgement("unparsed", "nobody labelled this reply")


def human_judge(path: str | Path) -> HumanJudge:
    """The judge of a file of labels."""
    return HumanJudge(read_human(path), f"human:{Path(path).name}")
