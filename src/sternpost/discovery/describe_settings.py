"""The settings of `features describe` and `features atlas`. Light: nothing heavy is imported."""

from dataclasses import dataclass
from typing import ClassVar

from sternpost.errors import InputError
from sternpost.trials.settings import Settings, setting
from sternpost.types import Hookpoint


@dataclass(frozen=True, kw_only=True)
class DescribeSettings(Settings):
    """Everything that they can be told."""

    PLACE: ClassVar[tuple[str, ...]] = (*Settings.PLACE, "workers")
    model: str = setting("Model: a folder or a Hub id.")
    sae: str = setting("SAE: a folder or Hub id[:SAE_ID].")
    unsafe: str = setting("Prompts that should be refused: FILE[#column] or hf:org/name/split.")
    safe: str = setting("Prompts that should be answered.")
    out: str = setting("Folder; what is written goes to `descriptions` or `atlas` in it.")
    corpus: str | None = setting("More text to read.", None)
    layer: int | None = setting("Block that the SAE reads, where its files do not say.", None)
    labeller: str = setting("Who labels: words (no language model), or openai:MODEL.", "words")
    labelled: int = setting("Features that a language model labels, at most: those that `features "
                            "find` lists in the same folder first, then the most telling.", 50)
    feature: tuple[int, ...] = setting("Feature that a language model labels, instead. "
                                       "Repeatable.", many=int)
    workers: int = setting("Conversations with the labeller at a time.", 4)
    limit: int | None = setting("At most so many prompts of each file.", None)
    max_new_tokens: int = setting("Longest reply that is read, in tokens.", 64)
    seed: int = setting("Seed of what is drawn.", 0)

    def __post_init__(self) -> None:
        self.check("labelled", "workers", "limit", "max_new_tokens")
        if self.layer is not None:
            Hookpoint(self.layer)
        for feature in self.feature:
            if isinstance(feature, bool) or not isinstance(feature, int) or feature < 0:
                raise InputError(f"feature is a whole number from 0 up; got {feature!r}.")
