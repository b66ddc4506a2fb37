"""Training an SAE, step by step.

    x'   = (x - mean) / scale         the data's mean and scale; b_dec is the mean
    loss = prefix + multi + aux + fewness                                      losses.py

Gradients are written by hand (sparse.py), so a step makes no matrix [token, d_sae] but the one it
chooses from, block by block (choose.py). Decoder rows have unit norm after every step; the gradient
along a row is taken out first. When training ends the scale is folded into the weights, so that
activations are in the data's own units.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sternpost.files import canonical_json, write_tensors
from sternpost.sae.autoencoder import SAE
from sternpost.sae.choose import Encoder, Sum, best, over, top, top_of_batch
from sternpost.sae.losses import (
    WINDOW,
    Chosen,
    Term,
    joined,
    prefix_term,
    single_term,
    threshold_gradient,
)
from sternpost.sae.settings import Progress, TrainSettings
from sternpost.sae.sparse import Entries, gradients
from sternpost.types import Hookpoint

Batches = Callable[[int], Float[Tensor, "token d_model"]]
"""The batch of a step: the same one for the same step, however often it is asked for."""
CHECKPOINT = "checkpoint.safetensors"
KEPT = 0.9
"""BatchTopK: how much of the threshold so far is kept at every step."""

FASTER = 5.0
"""JumpReLU: learning rate of the thresholds' logarithms over that of the weights, which grow."""


class Trainer:
    """Weights, optimiser and counters of one training run."""

    def __init__(self, settings: TrainSettings, mean: Float[Tensor, " d_model"], scale: float,
                 add_up: Sum = lambda x: x) -> None:
        self.settings, self.mean, self.scale, self.add_up = settings, mean, scale, add_up
        self.step = 0
        self.history: list[tuple[int, float]] = []
        """(tokens, held-out FVU), as far as the caller measured it; part of a checkpoint."""
        generator = torch.Generator().manual_seed(settings.seed)
        rows = torch.randn(settings.d_sae, len(mean), generator=generator)
        rows = (rows / rows.norm(dim=-1, keepdim=True)).to(mean)
        self.W_enc, self.W_dec = rows.clone(), rows.clone()
        self.b_enc = mean.new_zeros(settings.d_sae)
        self.log_threshold = torch.zeros_like(self.b_enc)
        """Learned by JumpReLU; BatchTopK keeps one for all features."""
        self.idle = torch.zeros(settings.d_sae, dtype=torch.long, device=mean.device)
        """Steps since each feature was active."""
        groups = [{"params": [tensor], "times": FASTER if name == "log_threshold" else 1.0}
                  for name, tensor in self.learned.items()]
        self.optimizer = torch.optim.Adam(groups, lr=settings.lr, betas=(0.9, 0.999), fused=True)

    @property
    def learned(self) -> dict[str, Tensor]:
        """The optimiser's tensors, by name, in its order."""
        names = ["W_enc", "W_dec", "b_enc"]
        names += ["log_threshold"] if self.settings.kind == "jumprelu" else []
        return {name: getattr(self, name) for name in names}

    @torch.no_grad()
    def update(self, x: Float[Tensor, "token d_model"]) -> Progress:
        """One optimiser step on the residuals `x`: this process's share of the batch."""
        x = (x.to(self.mean) - self.mean) / self.scale
        chosen = self.choose(x)
        terms = self.terms(x, chosen)
        self.differentiate(x, chosen, terms)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * group["times"] * self._warmth()
        self._keep_rows_unit(self.optimizer.step)
        self._count(chosen.entries)
        self.step += 1
        sums = self.add_up(torch.stack([
            terms[0].lost, x.square().sum(), (chosen.entries.value > 0).sum(),
            x.new_tensor(len(x)), *(term.loss for term in terms)]))
        lost, variance, active, tokens, *losses = sums.tolist()
        if chosen.near is not None:
            losses.append(self.settings.fewness * (active / tokens / self.settings.k - 1) ** 2)
        return Progress(self.step, lost / max(variance, 1e-30),
                        float(self._dead().float().mean()), active / tokens, sum(losses))

    # ---- one step ------------------------------------------------------------------------

    def choose(self, x: Float[Tensor, "token d_model"]) -> Chosen:
        """What is active on the tokens `x`."""
        how = self.settings
        encoder = Encoder(self.W_enc, self.b_enc, how.bf16)
        if how.kind == "batchtopk":
            entries, least = top_of_batch(x, encoder, how.k, self.add_up)
            self._keep_threshold(least)
            return Chosen(entries)
        if how.kind == "jumprelu":
            if self.step == 0:
                self._keep_threshold(top_of_batch(x, encoder, how.k, self.add_up)[1])
            least = (self.log_threshold - WINDOW / 2).exp()
            return Chosen.over(over(x, encoder, least), self.log_threshold)
        if not how.multi_weight:
            return Chosen(Entries.of(*top(x, encoder, how.k)))
        wide = top(x, encoder, min(4 * how.k, how.d_sae))
        return Chosen(Entries.of(*best(wide, how.k)), Entries.of(*wide))

    def terms(self, x: Float[Tensor, "token d_model"], chosen: Chosen) -> list[Term]:
        """The terms of the loss that reconstruct."""
        variance = self.add_up(x.square().sum())
        terms = [prefix_term(x, chosen.entries, self.W_dec, self.settings.ends, variance)]
        if chosen.wide is not None:
            weight = self.settings.multi_weight / variance
            terms.append(single_term(x, chosen.wide, self.W_dec, weight))
        dead = self._dead()
        if self.settings.aux_weight and bool(dead.any()):
            terms.append(self._aux(x, terms[0].error, dead.nonzero()[:, 0]))
        return terms

    def _aux(self, x: Tensor, error: Tensor, dead: Tensor) -> Term:
        half = max(error.shape[-1] // 2, 1)
        k_aux = min(half, len(dead))
        values, at = top(x, Encoder(self.W_enc[dead], self.b_enc[dead]), k_aux)
        lost = self.add_up(error.square().sum()).clamp(min=1e-12)
        weight = self.settings.aux_weight * (k_aux / half) / lost
        return single_term(error, Entries.of(values, dead[at]), self.W_dec, weight)

    def differentiate(self, x: Float[Tensor, "token d_model"], chosen: Chosen,
                      terms: list[Term]) -> None:
        """Puts the gradients of all terms, summed over processes, where the optimiser looks."""
        entries, g, row = joined(terms)
        grad = gradients(entries, g, row, x, self.W_dec)
        found = {"W_enc": grad.W_enc, "W_dec": grad.W_dec, "b_enc": grad.b_enc}
        if chosen.near is not None:
            tokens, active = self.add_up(x.new_tensor([len(x), (chosen.entries.value > 0).sum()]))
            slope = self.settings.fewness * 2 * (active / tokens / self.settings.k - 1)
            found["log_threshold"] = threshold_gradient(
                chosen, grad.value[:len(chosen.entries.value)], self.log_threshold,
                slope / self.settings.k / tokens)
        for name, tensor in self.learned.items():
            tensor.grad = self.add_up(found[name])

    def _keep_threshold(self, least: Tensor) -> None:
        least = least.clamp(min=1e-6)
        kept = KEPT if self.step else 0.0
        self.log_threshold.copy_((kept * self.log_threshold.exp() + (1 - kept) * least).log())

    def _count(self, entries: Entries) -> None:
        fired = torch.zeros_like(self.b_enc)
        fired[entries.feature[entries.value > 0]] = 1
        self.idle += 1
        self.idle[self.add_up(fired) > 0] = 0

    def _dead(self) -> Tensor:
        return self.idle >= self.settings.dead_after

    def _warmth(self) -> float:
        total = max(self.settings.steps, 1)
        return min((self.step + 1) / max(0.05 * total, 1), (total - self.step) / (0.3 * total), 1.0)

    def _keep_rows_unit(self, step: Callable[[], object]) -> None:
        gradient, rows = self.W_dec.grad, self.W_dec
        assert gradient is not None
        along = torch.linalg.vecdot(gradient, rows)
        gradient.addcmul_(rows, along[:, None], value=-1)
        step()
        rows /= rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)

    # ---- what comes of it ----------------------------------------------------------------

    def sae(self, hookpoint: Hookpoint) -> SAE:
        """The SAE as it stands, in the data's own units."""
        how = self.settings
        threshold = None if how.kind == "topk" else self.log_threshold.exp() * self.scale
        return SAE(W_enc=self.W_enc.clone(), W_dec=self.W_dec.clone(),
                   b_enc=self.b_enc * self.scale, b_dec=self.mean.clone(),
                   hookpoint=hookpoint, kind="topk" if how.kind == "topk" else "jumprelu",
                   k=how.k if how.kind == "topk" else None, threshold=threshold,
                   prefixes=how.ends if how.prefixes else None)

    def save(self, folder: Path) -> None:
        """Everything that the next step depends on, into one file, whole or not at all."""
        state = {**self.learned, "mean": self.mean, "idle": self.idle,
                 "log_threshold": self.log_threshold,
                 "scale": torch.tensor(self.scale, dtype=torch.float64)}
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"adam.{index}.{key}": torch.as_tensor(value)
                      for key, value in moments.items()}
        write_tensors(folder / CHECKPOINT, state, {
            "step": str(self.step), "history": json.dumps(self.history),
            "settings": canonical_json(asdict(self.settings))})

    def load(self, folder: Path) -> bool:
        """Continues from a checkpoint of the same settings; False where there is none."""
        file = folder / CHECKPOINT
        note = _metadata(file) if file.is_file() else {}
        if note.get("settings") != canonical_json(asdict(self.settings)):
            return False
        state = load_file(file, device=str(self.mean.device))
        for name, tensor in (self.learned | {"log_threshold": self.log_threshold}).items():
            tensor.copy_(state[name])
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


def train(trainer: Trainer, batches: Batches, checkpoints: Path | None = None,
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


def moments_of(x: Float[Tensor, "token d_model"], add_up: Sum = lambda x: x,
               ) -> tuple[Float[Tensor, " d_model"], float]:
    """The data's mean and its scale: root mean square of what is left a dimension. `add_up`: over
    the processes, each with rows of its own."""
    x = x.float()
    n = add_up(x.new_tensor(float(len(x))))
    mean = add_up(x.sum(0)) / n
    left = add_up((x - mean).square().sum()) / (n * x.shape[1])
    return mean, max(float(left.sqrt()), 1e-12)


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
