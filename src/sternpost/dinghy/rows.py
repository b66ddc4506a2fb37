"""A row of the corpus: a conversation with everything that is known of it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from sternpost.files import canonical_json
from sternpost.types import Kind

Task = Literal["chat", "question", "translate", "code", "story"]


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation, as training would have it."""

    turns: tuple[str, ...]
    """User and assistant in turn."""
    kind: Kind
    source: str
    """What sort of prompt it is: plain, wrapped, how_to, look_alike, ..."""
    language: str
    cluster: str
    """Its topic: rows that share one are split and resampled together."""
    category: str = "none"
    harm_kind: str = "none"
    task: Task = "question"
    labels: dict[str, str] = field(default_factory=dict)
    """answer, family, group, viewpoint_pair: where they apply."""
    system: str | None = None
    harmful: tuple[int, ...] = ()
    """Of a build-up: the user turns, from 0, that ask for the harm itself."""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation with its last reply."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        roles = ("user", "assistant")
        return first + [{"role": roles[at % 2], "content": turn}
                        for at, turn in enumerate(self.turns)]

    @property
    def text(self) -> str:
        """What is asked: the prompt, or the canonical JSON of a script's user turns."""
        if len(self.turns) == 2:
            return self.turns[0].strip()
        return canonical_json([{"role": "user", "content": turn} for turn in self.turns[::2]])

    def prompt(self, split: str | None = None) -> dict[str, Any]:
        """The row of a prompt file; a conversation is the script of its user turns."""
        users = [{"role": "user", "content": turn} for turn in self.turns[::2]]
        asked: dict[str, Any] = {"prompt": self.text}
        if len(users) > 1:
            asked["messages"] = users
        row = {**asked, "category": self.category, "harm_kind": self.harm_kind,
               "language": self.language, "task": self.task, "source": self.source,
               "cluster": self.cluster, **self.labels}
        if self.harmful:
            row["harmful"] = ",".join(map(str, self.harmful))
        return {**row, "split": split} if split else row


@dataclass(frozen=True, slots=True)
class Example:
    """A row as training reads it."""

    ids: list[int]
    """Its tokens."""
    said: list[bool]
    """Which of them an assistant says."""
    asked: int
    """Index of the last token of the last user's message."""
    harm: int
    """What that message asks for: 0 is harmless, the others a hazard category each."""
