"""What is searched for: a behaviour that some prompts should bring about and others should not."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sternpost.types.talk import Judgement, Verdict


@dataclass(frozen=True, slots=True)
class Goal:
    """A behaviour, and the verdicts that say that a reply shows it."""

    name: str
    about: str
    """What a reply does that shows it."""
    wanted: tuple["Verdict", ...]

    def shown(self, judgement: "Judgement") -> bool:
        """Whether a reply with this judgement shows the behaviour."""
        return judgement.verdict in self.wanted


REFUSAL = Goal("refusal", "the reply declines the request", ("refusal", "partial"))
