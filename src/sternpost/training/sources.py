"""Where a training's activations come from: a model that reads a corpus, or shards on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from sternpost.activations import Shards, open_shards
from sternpost.activations.windows import Mark, Windows
from sternpost.errors import InputError
from sternpost.files import read_json, read_tensors
from sternpost.training.corpus import Reader
from sternpost.training.recipe import Recipe
from sternpost.training.team import Team

SAMPLE = 32_768
"""Tokens on which moments, thresholds and statistics are measured, at most."""
HARVEST = "results.json"
HELD_OUT = "held-out.safetensors"
PROGRESS = "progress.json"


class Source(Protocol):
    """Activations of all layers, in step."""

    def batch(self, step: int) -> list[Tensor]:
        """This process's share of a step's tokens, of each layer."""
        ...

    def sample(self) -> list[Tensor]:
        """Tokens that are trained on, of each layer."""
        ...

    def unseen(self) -> list[Tensor]:
        """Tokens that are not."""
        ...

    def mark(self) -> dict[str, Any]:
        """Where it stands: what `FromModel` is taken up with."""
        ...


class FromModel:
    """Activations as the model reads the corpus."""

    def __init__(self, reader: Reader, recipe: Recipe, team: Team,
                 mark: Mapping[str, Any] | None = None) -> None:
        self.reader, self.share = reader, recipe.batch // team.processes
        start = Mark(reader.walk.start(), 0)
        self._sample: list[Tensor] | None = None
        size = recipe.buffer // recipe.batch * self.share
        number = 0
        if mark is not None:
            start, number = Mark(mark["cursor"], mark["inside"]), mark["number"]
        self.windows = Windows(reader, size, recipe.seed, start, number)

    def batch(self, step: int) -> list[Tensor]:
        """Rows of this window."""
        return self.windows.batch(step, self.share)

    def sample(self) -> list[Tensor]:
        """The first of the window that is held."""
        rows = self.windows.rows(self.windows.number)
        return [one[:SAMPLE].float() for one in rows]

    def unseen(self) -> list[Tensor]:
        """Rows of the documents that are held out."""
        return self.reader.measured_on(SAMPLE // 2)

    def mark(self) -> dict[str, Any]:
        """Where the window starts."""
        start = self.windows.start
        return {"cursor": dict(start.cursor), "inside": start.inside,
                "number": self.windows.number}


class FromShards:
    """Activations that `harvest` wrote."""

    def __init__(self, recipe: Recipe, team: Team) -> None:
        assert recipe.activations is not None
        self.recipe, self.team = recipe, team
        self.folder = Path(recipe.activations)
        self.shards = [_shards(self.folder, layer) for layer in recipe.layers]

    def batch(self, step: int) -> list[Tensor]:
        """Every so-many-th row of the batch: together the processes see the same batch as one."""
        return [shards.batch(step, self.recipe.batch, self.recipe.seed)
                [self.team.process::self.team.processes] for shards in self.shards]

    def sample(self) -> list[Tensor]:
        """Evenly spread."""
        return [shards.sample(SAMPLE) for shards in self.shards]

    def unseen(self) -> list[Tensor]:
        """What `harvest` held out."""
        found = read_tensors(self.folder / HELD_OUT)
        return [found[f"layers.{layer}"].float() for layer in self.recipe.layers]

    def mark(self) -> dict[str, Any]:
        """A step tells all."""
        return {}


def _shards(folder: Path, layer: int) -> Shards:
    shards = open_shards(folder / f"layers.{layer}")
    if shards is None:
        raise InputError(f"{folder} holds no finished activations of layer {layer}. Make them: "
                         f"sternpost harvest RECIPE.toml --out {folder}")
    return shards


def check_harvest(recipe: Recipe, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What was harvested there. Raises InputError where it is of another model or lacks a layer."""
    assert recipe.activations is not None
    file = Path(recipe.activations) / HARVEST
    if not file.is_file():
        raise InputError(f"{recipe.activations} holds no finished harvest. Make one: sternpost "
                         f"harvest RECIPE.toml --out {recipe.activations}")
    note = read_json(file)
    if note.get("kind") != "harvest":
        raise InputError(f"{recipe.activations} holds a finished {note.get('kind', 'run')}, no "
                         "harvest. Give the folder that `sternpost harvest` wrote.")
    if lacking := sorted(set(recipe.layers) - set(note["layers"])):
        raise InputError(f"{recipe.activations} holds layers {note['layers']}, not {lacking}. "
                         "Harvest those, or train on what is there.")
    if hashes and note["hashes"] and dict(hashes) != note["hashes"]:
        raise InputError(f"{recipe.activations} was harvested from {note['model']}, whose files "
                         f"are not those of {recipe.model}. Harvest again, or name that model.")
    return note
