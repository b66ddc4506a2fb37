"""The settings of a training: a recipe's keys, the command line's options, the function's
arguments. `train`, `harvest` and `plan` take the same ones, so that one recipe serves all three.
Light: nothing heavy is imported."""

from dataclasses import dataclass
from typing import ClassVar

from sternpost.errors import InputError
from sternpost.trials.settings import Settings, setting
from sternpost.types import Hookpoint

KINDS = ("topk", "batchtopk", "jumprelu")


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Everything that `train`, `harvest` and `plan` can be told."""

    PLACE: ClassVar[tuple[str, ...]] = (*Settings.PLACE, "tensorboard")
    model: str = setting("Model: a folder or a Hub id.")
    layers: tuple[int, ...] = setting("Block whose output is read, 0-based; several are trained "
                                      "from one pass of the model.", many=int, also="layer")
    out: str | None = setting("Folder for the SAEs, or for what is harvested.", None)
    corpus: tuple[str, ...] = setting("What is read: FILE[#column] or hf:org/name/split. "
                                      "Repeatable.", many=str)
    activations: str | None = setting("Folder that `harvest` wrote; it is read in place of the "
                                     "corpus.", None)
    tokens: int = setting("Tokens to train on, or to harvest.", 10_000_000)
    chat_share: float = setting("Share of the tokens that is chat, where the corpus holds chat "
                                "and plain text.", 0.9)
    context: int = setting("Longest text, in tokens; longer ones are cut.", 1024)
    buffer: int = setting("Tokens that are shuffled together in memory.", 131_072)
    kind: str = setting("How features are chosen.", "topk", choices=KINDS)
    d_sae: int | None = setting("Features; default: 8 x d_model.", None)
    k: int = setting("Active features a token.", 32)
    prefixes: tuple[int, ...] = setting("Matryoshka: numbers of features that reconstruct by "
                                        "themselves, rising.", many=int)
    batch: int = setting("Tokens a step.", 4096)
    lr: float | None = setting("Peak learning rate; default: 5e-4 * sqrt(16384 / d_sae).", None)
    aux_weight: float = setting("Weight of the dead features' loss.", 1 / 32)
    dead_after: int = setting("Tokens without being active after which a feature is dead.",
                              1_000_000)
    multi_weight: float = setting("Weight of Multi-TopK's loss; 1/8 is usual.", 0.0)
    bf16: str = setting("Propose features in bfloat16: auto (where the processor has it), on, "
                        "off.", "auto", choices=("auto", "on", "off"))
    every: int = setting("Steps between checkpoints.", 500)
    tensorboard: bool = setting("Write the metrics for TensorBoard too.", False)
    seed: int = setting("Seed of the start and of every order.", 0)
    dry_run: bool = setting("Check everything, print the plan, write nothing.", False)

    def __post_init__(self) -> None:
        self.check("tokens", "context", "buffer", "d_sae", "k", "batch", "dead_after", "every")
        if not self.layers:
            raise InputError("No layer to train on. Give layers = [6] in a recipe, or --layers 6.")
        if len(set(self.layers)) < len(self.layers):
            raise InputError(f"layers names a block twice: {list(self.layers)}.")
        for layer in self.layers:
            Hookpoint(layer)
        for name in ("lr", "aux_weight", "multi_weight"):
            value = getattr(self, name)
            if value is not None and not (0 <= value < 1e6 and (value or name != "lr")):
                raise InputError(f"{name} is a positive number; got {value}." if name == "lr" else
                                 f"{name} is a number from 0 up; got {value}.")
        if self.tokens < self.batch:
            raise InputError(f"{self.tokens} tokens are less than one batch of {self.batch}. Give "
                             "more tokens, or a smaller batch.")
        if not 0 <= self.chat_share <= 1:
            raise InputError(f"chat_share lies between 0 and 1; got {self.chat_share}.")
        if self.buffer < self.batch:
            raise InputError(f"The buffer of {self.buffer} tokens holds less than one batch of "
                             f"{self.batch}. Give a larger buffer, or a smaller batch.")

    @property
    def at(self) -> tuple[Hookpoint, ...]:
        """The hookpoints."""
        return tuple(map(Hookpoint, self.layers))

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return max(1, self.tokens // self.batch)
