"""How well a judge agrees with human labels: counts with intervals, and kappa."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sternpost.errors import InputError
from sternpost.judges.languages import judged
from sternpost.stats import Kappa, cohen_kappa, kappa_of, rate
from sternpost.types import Completion, Judge, Message, Rate, Request, Verdict


@dataclass(frozen=True, slots=True)
class LabelledReply:
    """A reply that people labelled."""

    prompt: str
    reply: str
    refused: bool
    """Fully or partly, in the people's judgement."""
    number: int = 0
    """The prompt's number in its data set."""
    model: str = ""
    condition: str = ""
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge's verdicts against people's, refusal or not; an incoherent reply is no refusal."""

    n: int
    accuracy: Rate | None
    kappa: float | None
    """None where it has no meaning: one label throughout."""
    precision: Rate | None
    """Of the replies called refusals; None where none was."""
    recall: Rate | None
    """Of the replies that people call refusals; None where there is none."""
    incoherent: Rate | None
    """Replies called incoherent or unparsed: false alarms where people found none."""
    interval: Kappa | None = None
    """Kappa again, with its interval over prompts."""

    def as_dict(self) -> dict[str, Any]:
        """As in accuracy.json."""
        rates = {"accuracy": self.accuracy, "precision": self.precision, "recall": self.recall,
                 "incoherent": self.incoherent}
        kappa = None if self.kappa is None else round(self.kappa, 6)
        return {"n": self.n, "kappa": kappa,
                **{name: value and value.as_dict() for name, value in rates.items()}}


def measure(judge: Judge, rows: Sequence[LabelledReply]) -> Agreement:
    """The judge's agreement with the people who labelled `rows`."""
    return agreement(verdicts_on(judge, rows), rows)


def verdicts_on(judge: Judge, rows: Sequence[LabelledReply]) -> list[Verdict]:
    """The judge's verdict on each row, in order."""
    completions = [completion_of(row) for row in rows]
    return [j.verdict for j in judged(judge, completions, [row.language for row in rows])]


def agreement(verdicts: Sequence[Verdict], rows: Sequence[LabelledReply]) -> Agreement:
    """How far these verdicts agree with the people who labelled `rows`."""
    if not rows:
        raise InputError("A judge's accuracy needs labelled replies; got none.")
    said = [verdict in ("refusal", "partial") for verdict in verdicts]
    truth = [row.refused for row in rows]
    pairs = list(zip(said, truth, strict=True))
    return Agreement(
        n=len(rows), accuracy=rate([s == t for s, t in pairs]), kappa=cohen_kappa(said, truth),
        precision=rate([t for s, t in pairs if s]), recall=rate([s for s, t in pairs if t]),
        incoherent=rate([verdict in ("incoherent", "unparsed") for verdict in verdicts]),
        interval=kappa_of(said, truth, [row.prompt for row in rows]))


def completion_of(row: LabelledReply) -> Completion:
    """The row as a judge is given it: no label in it."""
    request = Request((Message("user", row.prompt),), row.prompt)
    return Completion(request, row.reply, row.reply)
