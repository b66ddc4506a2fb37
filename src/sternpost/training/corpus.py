"""The walk over a corpus: which texts are read next, in groups, and what a model makes of them.

Chat and plain text are read so that their tokens stand in the wanted share. Every so-many-th
document is never trained on but measured on. One that cannot be read is left out and counted.
Where the walk stands is a few numbers.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from sternpost.activations.windows import Cursor, Group
from sternpost.engines.streams import streams
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import PromptFileError
from sternpost.prompts.documents import Documents
from sternpost.training.recipe import Recipe
from sternpost.types import Transcript

TOGETHER = 64
"""Texts a group, at most."""
HELD_OUT = 20
"""Every so-many-th document of a file is measured on, from the first."""
HOPELESS = 200
"""Documents in a row that cannot be read, after which the corpus is given up."""
MEASURED = 64
"""Documents that are measured on, at most."""


@dataclass(frozen=True)
class Walk:
    """The endless walk over a corpus: chat and plain text side by side."""

    corpus: Sequence[Documents]
    chat_share: float
    seed: int
    process: int = 0
    """Which of several processes this is: each reads every so-many-th document."""
    processes: int = 1
    kinds: tuple[tuple[Documents, ...], ...] = field(init=False)
    """Chat and plain text, those of them that there are."""
    shares: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        parts = {chat: tuple(d for d in self.corpus if d.chat == chat) for chat in (True, False)}
        wanted = {True: self.chat_share, False: 1 - self.chat_share}
        kept = {chat: docs for chat, docs in parts.items() if docs}
        if len(kept) == 2:
            kept = {chat: docs for chat, docs in kept.items() if wanted[chat] > 0}
        object.__setattr__(self, "kinds", tuple(kept.values()))
        object.__setattr__(self, "shares", tuple(wanted[chat] if len(kept) == 2 else 1.0
                                                 for chat in kept))

    def start(self) -> Cursor:
        """Where the walk begins."""
        return {"served": [0] * len(self.kinds), "tokens": [0] * len(self.kinds), "broken": 0,
                "said": None}

    def next(self, cursor: Cursor) -> tuple[int, list[Transcript], Cursor]:
        """The kind whose tokens are furthest behind, its next texts, and where the walk then
        stands, but for the tokens that they turn out to have."""
        behind = [tokens / share for tokens, share in
                  zip(cursor["tokens"], self.shares, strict=True)]
        kind = behind.index(min(behind))
        served, texts, in_a_row = list(cursor["served"]), [], 0
        broken, said = cursor["broken"], cursor["said"]
        while len(texts) < TOGETHER:
            try:
                text = self._nth(kind, served[kind] * self.processes + self.process)
            except PromptFileError as error:
                broken, said, in_a_row, text = broken + 1, said or str(error), in_a_row + 1, None
                if in_a_row >= HOPELESS:
                    raise
            else:
                in_a_row = 0
            served[kind] += 1
            if text is not None:
                texts.append(text)
        return kind, texts, {"served": served, "tokens": list(cursor["tokens"]), "broken": broken,
                             "said": said}

    def _nth(self, kind: int, nth: int) -> Transcript | None:
        """None where the document is held out."""
        docs = self.kinds[kind]
        rounds, at = divmod(nth, sum(map(len, docs)))
        for one in docs:
            if at < len(one):
                number = one.shuffled(rounds * len(one) + at, self.seed)
                return None if is_held_out(one, number) else one[number]
            at -= len(one)
        raise AssertionError("a document has a file")

    def held_out(self) -> list[Transcript]:
        """Texts that are measured on, evenly spread over each file."""
        out: list[Transcript] = []
        for docs in self.kinds:
            for one in docs:
                numbers = [n for n in range(0, len(one), HELD_OUT) if is_held_out(one, n)]
                some = min(len(numbers), max(1, MEASURED // len(self.corpus)))
                for nth in range(some):
                    with suppress(PromptFileError):  # counted where the walk meets such
                        out.append(one[numbers[nth * len(numbers) // some]])
        return out


def is_held_out(documents: Documents, number: int) -> bool:
    """Whether a document is measured on."""
    return len(documents) > 1 and number % HELD_OUT == 0


class Reader:
    """A walk, read by a model."""

    def __init__(self, engine: TransformersEngine, walk: Walk, recipe: Recipe) -> None:
        self.engine, self.walk, self.recipe = engine, walk, recipe

    def __call__(self, cursor: Cursor) -> Group:
        """The rows of the next texts, those that an SAE is trained on."""
        kind, texts, after = self.walk.next(cursor)
        found = list(streams(self.engine, texts, self.recipe.at, self.recipe.context))
        rows = [torch.cat([one.values[layer].cpu()[one.keep] for one in found])
                for layer in range(len(self.recipe.at))]
        tokens = [*after["tokens"]]
        tokens[kind] += len(rows[0])
        return Group(rows, {**after, "tokens": tokens})

    def measured_on(self, tokens: int) -> list[torch.Tensor]:
        """Rows of held-out texts, of each layer, about so many."""
        texts = self.walk.held_out()
        if not texts:
            raise PromptFileError("The corpus is one document, so none can be held out to measure "
                                  "on. Give more.")
        rows: list[list[torch.Tensor]] = [[] for _ in self.recipe.at]
        for one in streams(self.engine, texts, self.recipe.at, self.recipe.context):
            for layer, values in zip(rows, one.values, strict=True):
                layer.append(values.cpu()[one.keep].float())
            if sum(map(len, rows[0])) >= tokens:
                break
        if sum(map(len, rows[0])) < 2:
            raise PromptFileError("The documents that are held out to measure on, every "
                                  f"{HELD_OUT}th, give no two tokens. Give longer ones, or more.")
        return [torch.cat(layer)[:tokens] for layer in rows]


def corpus_note(corpus: Sequence[Documents]) -> list[dict[str, Any]]:
    """What a corpus is known by."""
    return [{"path": one.path.rpartition("/")[2], "documents": len(one), "chat": one.chat,
             "sha256": one.sha256} for one in corpus]


def left_out(cursor: Cursor) -> list[str]:
    """A warning, where documents could not be read on the walk so far."""
    if not cursor["broken"]:
        return []
    return [f"corpus: {cursor['broken']} of {sum(cursor['served'])} documents could not be read "
            f"and were left out; the first: {cursor['said']}"]
