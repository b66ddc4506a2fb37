"""`train`: SAEs of one or several layers, from a corpus that the model reads, or from a harvest.

    DIR/layers.6/          the SAE of block 6's output
    DIR/metrics.jsonl      a line every so many steps: FVU, L0, dead share, loss, tokens a second
    DIR/results.json       what came of it; DIR/report.html the same, with plots
    DIR/stages/training/   checkpoints of an unfinished training

Covered: exact resume after Ctrl-C, SIGTERM (both end after the step that they meet, and lose none)
and SIGKILL (from the last checkpoint); several processes under torchrun. Not covered: a model
that is split over several devices.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch

from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError
from sternpost.sae.train import Trainer, moments_of
from sternpost.store import RunFolder
from sternpost.training.checkpoints import TRAINING, Checkpoints
from sternpost.training.corpus import Reader, Walk
from sternpost.training.inputs import Read, open_engine, open_folder, read, trainer_settings
from sternpost.training.metrics import Metrics
from sternpost.training.plan import TrainPlan, plan_of
from sternpost.training.recipe import Recipe
from sternpost.training.sources import FromModel, FromShards, Source
from sternpost.training.stop import Stop
from sternpost.training.team import Team
from sternpost.training.trained import TrainResult, finish
from sternpost.trials.progress import Watch
from sternpost.trials.settings import settings_from, takes


@takes(Recipe)
def train(**settings: Any) -> TrainResult | TrainPlan:
    """Trains SAEs on a model's residual stream.

    Takes what `sternpost train` takes. Returns what came of it, or with `dry_run` the plan. Raises
    a SternpostError for bad input.
    """
    return train_recipe(settings_from(Recipe, settings, "train"), Watch())


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


def _check_team(recipe: Recipe, team: Team) -> None:
    if recipe.batch % team.processes:
        raise InputError(f"A batch of {recipe.batch} tokens cannot be shared evenly by "
                         f"{team.processes} processes. Give a batch that is a multiple.")


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
    how = trainer_settings(recipe, d)
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
