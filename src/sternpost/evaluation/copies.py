"""Rows of the same words: the first is kept, and one that changes its kind is not passed over.

    copy   a row whose normalised text an earlier one has, here or in an earlier suite
    clash  a copy of another kind than the first: one prompt cannot be both unsafe and safe

A clash is an error where a suite of the user's own is in it, who can take one of the rows out;
between suites of published data, which is as it is, a warning tells of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sternpost.errors import PromptFileError
from sternpost.evaluation.suite import Suite
from sternpost.prompts import key
from sternpost.types import LabelledPrompt

SHOWN = 3
"""Clashes that a warning names."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A prompt and where it stands."""

    prompt: LabelledPrompt
    where: str
    """File and row."""
    suite: Suite

    @property
    def said(self) -> str:
        """Its kind and its place in words."""
        return f"{self.prompt.kind} in suite {self.suite.name} ({self.where})"


@dataclass(frozen=True, slots=True)
class Fresh:
    """The rows that no earlier one is a copy of, in order."""

    prompts: list[LabelledPrompt] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    """A line each."""


def fresh(rows: Sequence[Placed], known: dict[str, Placed]) -> Fresh:
    """What is left of `rows`; `known`, by their marks, are all before them, and grow by it. Raises
    PromptFileError for a clash with a suite of the user's own."""
    out = Fresh()
    for row in rows:
        request = row.prompt.request
        mark = key("\n".join(m.content for m in request.messages) or request.text)
        first = known.setdefault(mark, row)
        if first is row:
            out.prompts.append(row.prompt)
        elif first.prompt.kind != row.prompt.kind:
            said = f"{request.text[:80]!r} is {first.said} and {row.said}"
            if first.suite.own or row.suite.own:
                raise PromptFileError(f"One prompt stands in parts of two kinds: {said}. Take it "
                                      "out of one of them.")
            out.clashes.append(said)
    return out


def told_clashes(suite: Suite, clashes: Sequence[str]) -> list[str]:
    """One warning of all clashes; none for none."""
    if not clashes:
        return []
    more = f"; and {len(clashes) - SHOWN} more" if len(clashes) > SHOWN else ""
    many = "1 prompt stands" if len(clashes) == 1 else f"{len(clashes)} prompts stand"
    return [f"{suite.name}: {many} in parts of two kinds, and counts as the first: "
            f"{'; '.join(clashes[:SHOWN])}{more}."]
