"""How an SAE is trained, and where its training stands."""

from dataclasses import dataclass
from typing import Literal

from sternpost.errors import SAEError

Kind = Literal["topk", "batchtopk", "jumprelu"]


@dataclass(frozen=True)
class TrainSettings:
    """How an SAE is trained."""

    d_sae: int
    """Number of features."""
    k: int
    """Active features a token; of BatchTopK their mean, of JumpReLU what their mean is drawn to."""
    steps: int
    """Optimiser steps."""
    batch: int = 1024
    """Tokens a step."""
    lr: float = 1e-3
    """Peak learning rate of Adam; linear warm-up over 5 % of the steps, linear decay over the
    last 30 %."""
    aux_weight: float = 1 / 32
    """Weight of the dead features' loss (alpha)."""
    dead_after: int = 50
    """Steps without being active after which a feature is dead."""
    seed: int = 0
    """Seed of the initial weights."""
    kind: Kind = "topk"
    """A BatchTopK SAE ends as a JumpReLU SAE, with the threshold that training has kept."""
    prefixes: tuple[int, ...] = ()
    """Matryoshka: the features below each of these reconstruct the stream by themselves."""
    multi_weight: float = 0.0
    """Weight of Multi-TopK's loss, the reconstruction by 4 k features; 1/8 is usual."""
    fewness: float = 1.0
    """JumpReLU: weight of its distance from k active features a token (lambda)."""
    bf16: bool = False
    """Whether bfloat16 proposes the features that float32 decides between: faster where the
    processor calculates in it."""

    def __post_init__(self) -> None:
        if self.kind not in ("topk", "batchtopk", "jumprelu"):
            raise SAEError(f"An SAE of kind {self.kind!r} cannot be trained. Kinds: topk, "
                           "batchtopk, jumprelu.")
        if not 1 <= self.k <= self.d_sae:
            raise SAEError(f"k must lie between 1 and d_sae = {self.d_sae}; got {self.k}.")
        if self.multi_weight and self.kind != "topk":
            raise SAEError(f"Multi-TopK is a loss of TopK SAEs; got kind {self.kind!r}. Leave "
                           "multi_weight at 0.")
        ends = [0, *self.prefixes]
        if self.prefixes and (sorted(set(ends)) != ends or ends[-1] > self.d_sae):
            raise SAEError(f"Matryoshka prefixes rise from above 0 to d_sae = {self.d_sae}; got "
                           f"{list(self.prefixes)}.")

    @property
    def ends(self) -> tuple[int, ...]:
        """Where each prefix of the features ends; the last is all of them."""
        inner = self.prefixes[:-1] if self.prefixes[-1:] == (self.d_sae,) else self.prefixes
        return (*inner, self.d_sae)


@dataclass(frozen=True)
class Progress:
    """Where training stands."""

    step: int
    fvu: float
    """Of the last batch."""
    dead_fraction: float
    """Share of features that are dead now."""
    l0: float
    """Mean active features a token, of the last batch."""
    loss: float
    """Of the last batch, all terms."""
