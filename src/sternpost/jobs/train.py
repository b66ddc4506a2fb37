"""`train`: SAEs of one or several layers, from a corpus that the model reads, or from a harvest.

    DIR/layers.6/          the SAE of block 6's output
    DIR/metrics.jsonl      a line every so many steps: FVU, L0, dead share, loss, tokens a second
    DIR/results.json       what came of it; DIR/report.html the same, with plots
    DIR/stages/training/   checkpoints of an unfinished training

Covered: exact resume after Ctrl-C, SIGTERM (both end after the step that they meet, and lose none)
and SIGKILL (from the last checkpoint); several processes under torchrun. Not covered: a model
that is split over several devices.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sternpost.engines.shapes import Shape, shape_of
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError
from sternpost.jobs.checkpoints import LATEST, TRAINING, Checkpoints
from sternpost.jobs.corpus import Reader, Walk, corpus_note
from sternpost.jobs.load import load_engine, model_hashes, packed_folder, read_template
from sternpost.jobs.metrics import Metrics
from sternpost.jobs.plan import TrainPlan, plan_of
from sternpost.jobs.progress import Watch
from sternpost.jobs.recipe import Recipe
from sternpost.jobs.settings import settings_from, takes
from sternpost.jobs.sources import PROGRESS, FromModel, FromShards, Source, check_harvest
from sternpost.jobs.stop import Stop
from sternpost.jobs.team import Team
from sternpost.jobs.trained import TrainResult, finish
from sternpost.prompts.documents import Documents, open_corpus
from sternpost.sae.settings import TrainSettings
from sternpost.sae.train import Trainer, moments_of
from sternpost.store import RunFolder, at_work, check_writable, open_run_folder


@takes(Recipe)
def train(**settings: Any) -> TrainResult | TrainPlan:
    """Trains SAEs on a model's residual stream.

    Takes what `sternpost train` takes. Returns what came of it, or with `dry_run` the plan. Raises
    a SternpostError for bad input.
    """
    return train_recipe(settings_from(Recipe, settings, "train"), Watch())


@dataclass(frozen=True)
class Read:
    """All that a training reads, checked before anything is written."""

    recipe: Recipe
    shape: Shape
    hashes: dict[str, str]
    corpus: list[Documents]
    harvest: dict[str, Any] | None

    def identity(self) -> dict[str, Any]:
        """What makes this training another than others."""
        return {**self.recipe.identity(), "corpus": corpus_note(self.corpus),
                "hashes": self.hashes, "activations": self.harvest}


def read(recipe: Recipe) -> Read:
    """Checks a recipe against what it names. Raises a SternpostError for what is wrong."""
    shape = shape_of(str(packed_folder(recipe.model, "model")), recipe.revision)
    shape.check(recipe.layers, recipe.model)
    hashes = model_hashes(recipe.model, recipe.revision)
    if not recipe.corpus and recipe.activations is None:
        raise InputError("Nothing to train on. Give a corpus to read, corpus = [\"chat.jsonl\"], "
                         "or activations = \"DIR\" that `sternpost harvest` wrote.")
    if recipe.chat_template is not None:
        read_template(recipe.chat_template)
    corpus = open_corpus(recipe.corpus) if recipe.activations is None else []
    harvest = check_harvest(recipe, hashes) if recipe.activations is not None else None
    _settings(recipe, shape.d_model)
    if recipe.out is not None:
        check_writable(Path(recipe.out))
    return Read(recipe, shape, hashes, corpus, harvest)


def train_recipe(recipe: Recipe, watch: Watch) -> TrainResult | TrainPlan:
    """The training, with somebody watching."""
    inputs = read(recipe)
    if recipe.dry_run:
        return plan_of(recipe, inputs.shape)
    with Team() as team:
        _check_team(recipe, team)
        with open_folder(inputs.identity(), recipe, team) as folder:
            if folder.finished:
                return TrainResult.read(folder.path)
            watch = watch if team.leads else Watch()
            engine = open_engine(recipe, team, watch) if inputs.corpus else None
            return _train(inputs, engine, folder, team, watch)


def open_engine(recipe: Recipe, team: Team, watch: Watch) -> TransformersEngine:
    """The model, on this process's device."""
    device = f"cuda:{team.local}" if team.processes > 1 and recipe.device == "auto" \
        and torch.cuda.is_available() else recipe.device
    with watch.stage("load", f"Loading {recipe.model}"):
        return load_engine(replace(recipe, device=device))[0]


@contextmanager
def open_folder(identity: dict[str, Any], recipe: Recipe, team: Team) -> Iterator[RunFolder]:
    """The run's folder; the process that leads makes it. Bad input that shows before anything was
    kept leaves nothing behind; later, what was kept stays, for --resume."""
    if recipe.out is None:
        raise InputError("Nowhere to write. Give out = \"DIR\" in a recipe, or --out DIR.")
    path = Path(recipe.out)
    if team.leads:
        folder = open_run_folder(path, identity, recipe.resume, recipe.force)
        team.wait()
    else:
        team.wait()
        folder = RunFolder(path, finished=(path / "results.json").is_file(), resumed=True)
    with at_work(folder, lambda: not team.leads or any(
            (path / name).is_file() for name in (LATEST, PROGRESS))):
        yield folder


def _check_team(recipe: Recipe, team: Team) -> None:
    if recipe.batch % team.processes:
        raise InputError(f"A batch of {recipe.batch} tokens cannot be shared evenly by "
                         f"{team.processes} processes. Give a batch that is a multiple.")


def _settings(recipe: Recipe, d_model: int) -> TrainSettings:
    d_sae = recipe.d_sae or 8 * d_model
    fast = recipe.bf16 == "on" or (recipe.bf16 == "auto" and _has_bf16(recipe.device))
    return TrainSettings(
        d_sae, recipe.k, recipe.steps, recipe.batch,
        lr=recipe.lr or 5e-4 * math.sqrt(16384 / d_sae), aux_weight=recipe.aux_weight,
        dead_after=math.ceil(recipe.dead_after / recipe.batch), seed=recipe.seed,
        kind=recipe.kind, prefixes=recipe.prefixes,  # type: ignore[arg-type]
        multi_weight=recipe.multi_weight, bf16=fast)


def _has_bf16(device: str) -> bool:
    """Whether the device that trains calculates in bfloat16."""
    if torch.cuda.is_available() and device.partition(":")[0] in ("auto", "cuda"):
        return torch.cuda.is_bf16_supported()
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # has no public name
    return device in ("auto", "cpu") and bool(asked())


def _train(inputs: Read, engine: TransformersEngine | None, folder: RunFolder, team: Team,
           watch: Watch) -> TrainResult:
    recipe = inputs.recipe
    checkpoints = Checkpoints(folder.path / TRAINING, team)
    mark = checkpoints.mark()
    if engine is None:
        source: Source = FromShards(recipe, team)
    else:
        walk = Walk(inputs.corpus, recipe.chat_share, recipe.seed, team.process, team.processes)
        source = FromModel(Reader(engine, walk, recipe), recipe, team, mark)
    trainers = _trainers(inputs, source, team, engine, mark is None)
    checkpoints.load(trainers)
    with watch.stage("train", f"Training on {recipe.tokens:,} tokens"):
        _loop(trainers, source, recipe, (checkpoints, Metrics(folder.path, recipe, team)),
              (team, watch))
    result = finish(inputs, engine, source, trainers, folder, watch) if team.leads else None
    team.wait()
    return result or TrainResult.read(folder.path)


def _trainers(inputs: Read, source: Source, team: Team, engine: TransformersEngine | None,
              fresh: bool) -> list[Trainer]:
    recipe, d = inputs.recipe, inputs.shape.d_model
    device = torch.device("cpu") if engine is None else next(engine.model.parameters()).device
    if engine is None and torch.cuda.is_available():
        device = torch.device("cuda", team.local)
    how = _settings(recipe, d)
    if not fresh:  # a checkpoint brings its moments
        return [Trainer(how, torch.zeros(d, device=device), 1.0, team.add_up)
                for _ in recipe.layers]
    return [Trainer(how, *moments_of(rows.to(device), team.add_up), team.add_up)
            for rows in source.sample()]


def _loop(trainers: Sequence[Trainer], source: Source, recipe: Recipe,
          kept: tuple[Checkpoints, Metrics], seen: tuple[Team, Watch]) -> None:
    (checkpoints, metrics), (team, watch) = kept, seen
    first, start = trainers[0].step, time.perf_counter()
    metrics.begin(first)
    with Stop() as stop:
        steps = range(first, recipe.steps)
        for step in watch.bar(steps, len(steps), "training"):
            rows = source.batch(step)
            found = [trainer.update(one) for trainer, one in zip(trainers, rows, strict=True)]
            speed = (step + 1 - first) * recipe.batch / (time.perf_counter() - start)
            metrics.note(found, speed)
            watch.tell(f"FVU {found[0].fvu:.3f}  L0 {found[0].l0:.0f}  dead "
                       f"{100 * found[0].dead_fraction:.0f} %  {speed:,.0f} tokens/s")
            asked = bool(team.add_up(torch.tensor(float(stop.asked is not None))))
            if asked or (step + 1) % recipe.every == 0 or step + 1 == recipe.steps:
                checkpoints.save(trainers, source.mark())
            if asked:
                metrics.close()
                stop.end()
    metrics.close()
