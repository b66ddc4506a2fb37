"""The SAE of a run: given, or trained on the model's own residual stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sternpost.activations import Shards, keep_for_training, open_shards, write_shards
from sternpost.errors import SAEError
from sternpost.files import remove_folder
from sternpost.sae import SAE, calibrate, measure_agreement, measure_fit, read_sae, save_sae
from sternpost.sae.settings import TrainSettings
from sternpost.sae.train import Trainer, moments_of, tokens_needed, train
from sternpost.trials.bench import Bench
from sternpost.trials.inputs import Inputs
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Completion, LabelledPrompt, Transcript

HELD_OUT = 10
"""Every so-many-th text is not trained on, but measured on."""
SAMPLE = 32_768
"""Tokens on which thresholds and statistics are measured, at most."""
GOOD_FVU = 0.3


@dataclass(frozen=True)
class Trained:
    """An SAE with its statistics, and how well it fits held-out text."""

    sae: SAE
    fvu: float
    l0: float
    dead_fraction: float
    tokens: int
    """Tokens trained on, repeats included; 0 for an SAE that was given."""
    unique_tokens: int
    tokens_needed: int | None = None
    """Where FVU > 0.3 or over half the features are dead: how many tokens might do."""

    def as_dict(self) -> dict[str, float | int | None]:
        """As results.json has it."""
        return {"fvu": self.fvu, "l0": self.l0, "dead_fraction": self.dead_fraction,
                "tokens": self.tokens, "unique_tokens": self.unique_tokens,
                "tokens_needed": self.tokens_needed}


def obtain_sae(bench: Bench, inputs: Inputs, settings: RunSettings,
               replies: Sequence[Completion]) -> Trained:
    """The SAE to use, with statistics measured on this model, saved under `DIR/sae`."""
    folder = bench.folder.path / "sae"
    note = bench.folder.once("sae", lambda: _make(bench, inputs, settings, replies))
    return Trained(read_sae(folder).to(_device(bench)), **note)


def _make(bench: Bench, inputs: Inputs, settings: RunSettings,
          replies: Sequence[Completion]) -> dict[str, float | int | None]:
    texts = transcripts(replies, inputs.corpus)
    held = list(texts[::HELD_OUT])
    rest = [text for at, text in enumerate(texts) if at % HELD_OUT]
    shards = _harvest(bench, inputs, rest)
    unseen = torch.cat(list(_rows(bench, inputs, held))).to(_device(bench))
    history: list[tuple[int, float]] = []
    if inputs.sae is not None:
        sae = inputs.sae.to(_device(bench))
    else:
        trainer = _train(bench, inputs, settings.seed, shards, unseen)
        sae, history = trainer.sae(inputs.at), trainer.history
    sample = shards.sample(SAMPLE).to(_device(bench))
    sae = calibrate(replace(sae, hookpoint=inputs.at), sample)
    if sae.stats is None or not (sae.stats.high > 0).any():
        raise SAEError(f"No feature of the SAE {settings.sae or ''} is ever active on what "
                       f"{settings.model} says, at {inputs.at}. Give an SAE of this model and "
                       "layer, or leave --sae out to train one.")
    if sae.kind == "topk":
        sae = replace(sae, stats=replace(sae.stats, agreement=measure_agreement(sae, unseen)))
    fit = measure_fit(sae, unseen)
    dead = measure_fit(sae, sample).dead_fraction
    save_sae(sae.to("cpu"), bench.folder.path / "sae")
    remove_folder(bench.folder.stages / "activations")
    poor = fit.fvu > GOOD_FVU or dead > 0.5
    return {"fvu": fit.fvu, "l0": fit.l0, "dead_fraction": dead,
            "tokens": 0 if inputs.sae is not None else _steps(inputs) * _batch(inputs),
            "unique_tokens": shards.tokens,
            "tokens_needed": _needed(history, fit.fvu, inputs) if poor else None}


def transcripts(replies: Sequence[Completion],
                corpus: Sequence[LabelledPrompt]) -> list[Transcript]:
    """What an SAE is trained on: prompts with the model's own replies, and the user's corpus."""
    own = [Transcript(ids=(*c.prompt_ids, *c.reply_ids)) for c in replies]
    return own + [Transcript(messages=p.request.messages) if p.request.messages
                  else Transcript(text=p.request.text) for p in corpus]


def _rows(bench: Bench, inputs: Inputs, texts: Sequence[Transcript]) -> Iterator[Tensor]:
    for residual in bench.engine.residuals(texts, inputs.at):
        keep = keep_for_training(residual.ids, residual.values.cpu(), bench.engine.bos)
        yield residual.values.cpu()[keep]


def _harvest(bench: Bench, inputs: Inputs, texts: Sequence[Transcript]) -> Shards:
    folder = bench.folder.stages / "activations"
    if (there := open_shards(folder)) is not None:
        return there
    rows = bench.watch.bar(_rows(bench, inputs, texts), len(texts), "reading the residual stream")
    shards = write_shards(folder, _up_to(rows, inputs.tokens or SAMPLE))
    if shards.tokens < 2:
        raise SAEError("The prompts and the corpus hold no token to train an SAE on.")
    return shards


def _up_to(rows: Iterator[Tensor], tokens: int) -> Iterator[Tensor]:
    """`rows` until `tokens` are had: more would not be trained on."""
    for row in rows:
        yield row
        tokens -= len(row)
        if tokens <= 0:
            return


def _train(bench: Bench, inputs: Inputs, seed: int, shards: Shards,
           unseen: Tensor) -> Trainer:
    how = TrainSettings(inputs.d_sae, inputs.k, _steps(inputs), _batch(inputs),
                        lr=1e-3 * (4096 / inputs.d_sae) ** 0.5, seed=seed)
    trainer = Trainer(how, *moments_of(shards.sample(SAMPLE).to(_device(bench))))
    steps = train(trainer, lambda step: shards.batch(step, how.batch, seed),
                  bench.folder.stages / "training", every=max(50, how.steps // 10))
    for progress in bench.watch.bar(steps, how.steps, "training the SAE"):
        if progress.step % 20 == 0:
            bench.watch.tell(f"FVU {progress.fvu:.3f}  dead {100 * progress.dead_fraction:.0f} %")
        if progress.step % max(1, how.steps // 10) == 0:
            fvu = measure_fit(trainer.sae(inputs.at), unseen[:4096]).fvu
            trainer.history.append((progress.step * how.batch, fvu))
    return trainer


def _needed(history: list[tuple[int, float]], fvu: float, inputs: Inputs) -> int | None:
    if inputs.sae is not None:
        return None
    if fvu > GOOD_FVU:
        return tokens_needed(history, GOOD_FVU)
    return 10 * inputs.tokens  # dead features: too few tokens for so many features


def _batch(inputs: Inputs) -> int:
    return min(1024, inputs.tokens)


def _steps(inputs: Inputs) -> int:
    return max(1, inputs.tokens // _batch(inputs))


def _device(bench: Bench) -> torch.device:
    model = getattr(bench.engine, "model", None)
    return torch.device("cpu") if model is None else next(model.parameters()).device


