"""`sternpost harvest`: a model's residual stream, on disk."""

import json
from typing import Any

import click

from sternpost.cli.options import debug, from_recipe, from_settings, planned, settings_of
from sternpost.training.recipe import Recipe


@click.command(context_settings={"show_default": False})
@from_recipe
@from_settings(Recipe)
@debug
def harvest(recipe: str | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Write a model's residual stream to disk, to train SAEs on as often as one likes.

    Takes what `train` takes; then: sternpost train RECIPE.toml --activations DIR.
    """
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.harvest import Harvested, harvest_recipe
    from sternpost.trials.progress import Watch

    quiet_libraries()
    done = harvest_recipe(settings_of(Recipe, "harvest", recipe, changes, options),
                          Watch(Console(stderr=True)))
    if planned(done, as_json):
        return
    assert isinstance(done, Harvested)
    for warning in done.note["warnings"]:
        click.echo(f"note: {warning}", err=True)
    click.echo(json.dumps(done.note, indent=2, ensure_ascii=False) if as_json else
               f"{done.headline}\ntrain on it: sternpost train ... --activations {done.path}")
