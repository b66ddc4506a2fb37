"""Training a TopK SAE, with dead features revived and exact resume.

    x'   = (x - mean) / scale                   mean and scale of the data; b_dec is the mean
    loss = |x' - x_hat'|^2 / |x'|^2 + alpha * share * |e - e_hat|^2 / |e|^2
    e    = x' - x_hat', e_hat = its reconstruction by the k_aux best features among the dead,
           k_aux = min(d / 2, dead features), share = k_aux / (d / 2)

Decoder rows have unit norm after every step; the gradient along a row is taken out first. When
training ends the scale is folded into `b_enc`, so that activations are in the data's own units.
AuxK: arXiv 2406.04093, appendix A.2.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sternpost.files import canonical_json, write_tensors
from sternpost.sae import topk
from sternpost.sae.autoencoder import SAE
from sternpost.types import Hookpoint

Batches = Callable[[int], Float[Tensor, "token d_model"]]
"""The batch of a step: the same one for the same step, however often it is asked for."""


@dataclass(frozen=True)
class TrainSettings:
    """How an SAE is trained."""

    d_sae: int
    """Number of features."""
    k: int
    """Active features a token."""
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


@dataclass(frozen=True)
class Progress:
    """Where training stands."""

    step: int
    fvu: float
    """Of the last batch."""
    dead_fraction: float
    """Share of features that are dead now."""


class TopKTrainer:
    """Weights, optimiser and counters of one training run."""

    def __init__(self, settings: TrainSettings, mean: Float[Tensor, " d_model"],
                 scale: float) -> None:
        self.settings, self.mean, self.scale = settings, mean.float(), scale
        self.step = 0
        self.history: list[tuple[int, float]] = []
        """(tokens, held-out FVU), as far as the caller measured it; part of a checkpoint."""
        generator = torch.Generator().manual_seed(settings.seed)
        rows = torch.randn(settings.d_sae, len(mean), generator=generator)
        rows = (rows / rows.norm(dim=-1, keepdim=True)).to(mean.device)
        self.W_enc = rows.clone().requires_grad_()
        self.W_dec = rows.clone().requires_grad_()
        self.b_enc = torch.zeros(settings.d_sae, device=mean.device).requires_grad_()
        self.idle = torch.zeros(settings.d_sae, dtype=torch.long, device=mean.device)
        self.optimizer = torch.optim.Adam([self.W_enc, self.W_dec, self.b_enc], lr=settings.lr,
                                          betas=(0.9, 0.999), fused=True)

    def update(self, x: Float[Tensor, "token d_model"]) -> Progress:
        """One optimiser step on the residuals `x`."""
        x = (x.to(self.mean) - self.mean) / self.scale
        loss, fvu = self._loss(x)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * self._warmth()
        self._keep_rows_unit(self.optimizer.step)
        self.step += 1
        return Progress(self.step, fvu, float(self._dead().float().mean()))

    def _loss(self, x: Tensor) -> tuple[Tensor, float]:
        pre = x @ self.W_enc.T + self.b_enc
        values, indices = topk.sparsify(pre, self.settings.k)
        error = x - self._decode(values, indices)
        variance = x.square().sum()
        lost = error.square().sum()
        loss = lost / variance
        dead = self._dead()
        if dead.any():
            loss = loss + self.settings.aux_weight * self._aux_loss(pre, error.detach(), dead)
        self.idle += 1
        self.idle[indices[values > 0]] = 0
        return loss, float(lost.detach() / variance)

    def _aux_loss(self, pre: Tensor, error: Tensor, dead: Tensor) -> Tensor:
        k_aux = min(error.shape[-1] // 2, int(dead.sum()))
        share = k_aux / max(error.shape[-1] // 2, 1)  # few dead features explain little
        values, indices = topk.sparsify(pre.masked_fill(~dead, -torch.inf), max(k_aux, 1))
        missed = (error - self._decode(values, indices)).square().sum()
        return share * missed / error.square().sum().clamp(min=1e-12)

    def _decode(self, values: Tensor, indices: Tensor) -> Tensor:
        return torch.nn.functional.embedding_bag(indices, self.W_dec, mode="sum",
                                                 per_sample_weights=values)

    def _dead(self) -> Tensor:
        return self.idle >= self.settings.dead_after

    def _warmth(self) -> float:
        total = max(self.settings.steps, 1)
        return min((self.step + 1) / max(0.05 * total, 1), (total - self.step) / (0.3 * total), 1.0)

    def _keep_rows_unit(self, step: Callable[[], object]) -> None:
        with torch.no_grad():
            gradient, rows = self.W_dec.grad, self.W_dec
            assert gradient is not None
            gradient -= (gradient * rows).sum(-1, keepdim=True) * rows
            step()
            rows /= rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)

    def sae(self, hookpoint: Hookpoint) -> SAE:
        """The SAE as it stands, in the data's own units."""
        return SAE(W_enc=self.W_enc.detach().clone(), W_dec=self.W_dec.detach().clone(),
                   b_enc=self.b_enc.detach() * self.scale, b_dec=self.mean.clone(),
                   hookpoint=hookpoint, k=self.settings.k)

    # ---- checkpoints ---------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Everything that the next step depends on, into one file, whole or not at all."""
        state = {"W_enc": self.W_enc, "W_dec": self.W_dec, "b_enc": self.b_enc,
                 "mean": self.mean, "idle": self.idle,
                 "scale": torch.tensor(self.scale, dtype=torch.float64)}
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"adam.{index}.{key}": torch.as_tensor(value)
                      for key, value in moments.items()}
        write_tensors(folder / "checkpoint.safetensors", state,
                      {"step": str(self.step), "history": json.dumps(self.history),
                       "settings": canonical_json(asdict(self.settings))})

    def load(self, folder: Path) -> bool:
        """Continues from a checkpoint of the same settings; False where there is none."""
        file = folder / "checkpoint.safetensors"
        note = _metadata(file) if file.is_file() else {}
        if note.get("settings") != canonical_json(asdict(self.settings)):
            return False
        state = load_file(file, device=str(self.mean.device))
        with torch.no_grad():
            for name in ("W_enc", "W_dec", "b_enc"):
                getattr(self, name).copy_(state[name])
        self.mean, self.idle = state["mean"], state["idle"]
        self.scale, self.step = float(state["scale"]), int(note["step"])
        self.history = [(tokens, fvu) for tokens, fvu in json.loads(note["history"])]
        adam: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, index, key = name.split(".", 2)
                adam.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": adam, "param_groups": groups})
        return True


def _metadata(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return opened.metadata() or {}


def train(trainer: TopKTrainer, batches: Batches, checkpoints: Path | None = None,
          every: int = 200) -> Iterator[Progress]:
    """Trains to the last step, yielding after each; first continues from what `checkpoints` has.

    A checkpoint is written every `every` steps and after the last.
    """
    if checkpoints is not None:
        trainer.load(checkpoints)
    while trainer.step < trainer.settings.steps:
        progress = trainer.update(batches(trainer.step))
        yield progress
        if checkpoints is not None and (trainer.step % every == 0
                                        or trainer.step == trainer.settings.steps):
            trainer.save(checkpoints)


def moments_of(x: Float[Tensor, "token d_model"]) -> tuple[Float[Tensor, " d_model"], float]:
    """The data's mean and its scale: root mean square of what is left a dimension."""
    mean = x.float().mean(0)
    return mean, max(float((x.float() - mean).square().mean().sqrt()), 1e-12)


def tokens_needed(history: list[tuple[int, float]], target: float) -> int | None:
    """Tokens at which the held-out FVU would reach `target`: a power law through the last half of
    `(tokens, fvu)`, extrapolated; None where the curve no longer falls."""
    late = [(t, f) for t, f in history if t >= history[-1][0] / 4 and f > 0] if history else []
    if len(late) < 2:
        return None
    points = torch.tensor(late, dtype=torch.float64).log()
    centred = points - points.mean(0)
    slope = float((centred[:, 0] * centred[:, 1]).sum() / centred[:, 0].square().sum())
    if slope > -0.01:
        return None
    log_tokens = points[-1, 0] + (torch.tensor(target).log() - points[-1, 1]) / slope
    return int(min(float(log_tokens.exp()), 1e12))
