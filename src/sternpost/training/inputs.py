"""What a training or a harvest starts from, checked before anything is written."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sternpost.engines.shapes import Shape, shape_of
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError
from sternpost.prompts.documents import Documents, open_corpus
from sternpost.sae.settings import TrainSettings
from sternpost.store import RunFolder, at_work, check_writable, open_run_folder
from sternpost.training.checkpoints import LATEST
from sternpost.training.corpus import corpus_note
from sternpost.training.recipe import Recipe
from sternpost.training.sources import PROGRESS, check_harvest
from sternpost.training.team import Team
from sternpost.trials.load import load_engine, model_hashes, packed_folder, read_template
from sternpost.trials.progress import Watch


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
    trainer_settings(recipe, shape.d_model)
    if recipe.out is not None:
        check_writable(Path(recipe.out))
    return Read(recipe, shape, hashes, corpus, harvest)


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


def trainer_settings(recipe: Recipe, d_model: int) -> TrainSettings:
    """What a trainer is told of a recipe."""
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
