"""`harvest`: the residual stream of a corpus, on disk, to train on as often as one likes.

    DIR/layers.6/shard-00000.safetensors, ...   what an SAE is trained on, in the model's type
    DIR/held-out.safetensors                    tokens to measure on
    DIR/progress.json                           the shards that are whole, and where the walk stands
    DIR/results.json                            written last: model, layers, tokens

A shard is a window of the walk, so memory does not grow with the tokens, and an interrupted harvest
goes on after its last whole shard.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sternpost.activations.shards import SHARD, finish_shards, shard_name
from sternpost.activations.windows import Mark, Windows
from sternpost.errors import InputError
from sternpost.files import read_json, write_json, write_tensors
from sternpost.store import RunFolder
from sternpost.training.corpus import Reader, Walk, left_out
from sternpost.training.inputs import Read, open_engine, open_folder, read
from sternpost.training.plan import TrainPlan, plan_of
from sternpost.training.recipe import Recipe
from sternpost.training.sources import HARVEST, HELD_OUT, PROGRESS, SAMPLE
from sternpost.training.stop import Stop
from sternpost.training.team import Team
from sternpost.trials.progress import Watch
from sternpost.trials.settings import settings_from, takes


@dataclass(frozen=True)
class Harvested:
    """Activations on disk."""

    path: Path
    note: dict[str, Any] = field(repr=False)
    """results.json"""

    @property
    def headline(self) -> str:
        """What lies there, in one sentence."""
        layers = ", ".join(map(str, self.note["layers"]))
        return (f"{self.note['tokens']:,} tokens of {self.note['model']}, layers {layers}, "
                f"d_model {self.note['d_model']}, {self.note['dtype']}.")

    def to_pandas(self) -> Any:
        """One row."""
        import pandas as pd  # heavy: only for who asks

        return pd.json_normalize([self.note])

    def _repr_html_(self) -> str:
        return f"<p>{self.headline}</p>"


@takes(Recipe)
def harvest(**settings: Any) -> Harvested | TrainPlan:
    """Writes a model's residual stream to disk, for `train` with `activations`.

    Takes what `train` takes. Raises a SternpostError for bad input.
    """
    return harvest_recipe(settings_from(Recipe, settings, "harvest"), Watch())


def harvest_recipe(recipe: Recipe, watch: Watch) -> Harvested | TrainPlan:
    """The harvest, with somebody watching."""
    if recipe.activations is not None:
        raise InputError("activations is what a harvest writes. Give a corpus to read, and the "
                         "folder as out.")
    inputs = read(recipe)
    if recipe.dry_run:
        return plan_of(recipe, inputs.shape)
    team = Team()
    if team.processes > 1:
        raise InputError("A harvest is made by one process. Start it without torchrun.")
    identity = {"harvest": True, **inputs.identity()}
    with open_folder(identity, recipe, team) as folder:
        if not folder.finished:
            _harvest(inputs, folder, watch, team)
        return Harvested(folder.path, read_json(folder.path / HARVEST))


def _harvest(inputs: Read, folder: RunFolder, watch: Watch, team: Team) -> None:
    recipe, path = inputs.recipe, folder.path
    engine = open_engine(recipe, team, watch)
    walk = Walk(inputs.corpus, recipe.chat_share, recipe.seed)
    reader = Reader(engine, walk, recipe)
    done, start = 0, Mark(walk.start(), 0)
    if (path / PROGRESS).is_file():
        note = read_json(path / PROGRESS)
        done, start = note["shards"], Mark(note["cursor"], note["inside"])
    else:
        held = reader.measured_on(SAMPLE // 2)
        write_tensors(path / HELD_OUT, {f"layers.{layer}": rows for layer, rows in
                                        zip(recipe.layers, held, strict=True)})
    windows = Windows(reader, min(SHARD, recipe.tokens), recipe.seed, start, done)
    total = -(-recipe.tokens // SHARD)
    kind = ""
    with Stop() as stop, watch.stage("harvest", f"Reading {recipe.tokens:,} tokens"):
        for number in watch.bar(range(done, total), total - done, "shards"):
            rows = windows.rows(number, recipe.tokens - number * SHARD)
            kind = str(rows[0].dtype).removeprefix("torch.")
            for layer, one in zip(recipe.layers, rows, strict=True):
                write_tensors(path / f"layers.{layer}" / shard_name(number), {"values": one})
            after = windows.following
            write_json(path / PROGRESS, {"shards": number + 1, "cursor": dict(after.cursor),
                                         "inside": after.inside, "dtype": kind})
            if stop.asked is not None:
                stop.end()
    kind = kind or read_json(path / PROGRESS)["dtype"]
    for layer in recipe.layers:
        finish_shards(path / f"layers.{layer}", recipe.tokens)
    write_json(path / HARVEST, {
        "kind": "harvest", "model": recipe.model, "hashes": inputs.hashes,
        "layers": list(recipe.layers), "tokens": recipe.tokens, "d_model": inputs.shape.d_model,
        "dtype": kind, "warnings": left_out(windows.following.cursor),
        "recipe": recipe.identity(), "timing": watch.seconds})
