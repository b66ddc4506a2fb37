"""`sternpost plan`: what a training takes, before anything runs."""

from typing import Any

import click

from sternpost.cli.options import debug, from_recipe, from_settings, planned, settings_of
from sternpost.training.recipe import Recipe


@click.command(context_settings={"show_default": False})
@from_recipe
@from_settings(Recipe)
@debug
def plan(recipe: str | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Print what a training would take: parameters, work, memory, disk, hours. Runs nothing.

    Takes what `train` takes, e.g. --model M --layers 6 --d-sae 24576 --tokens 500000000.
    """
    from sternpost.engines.quiet import quiet_libraries
    from sternpost.engines.shapes import shape_of
    from sternpost.training.plan import plan_of
    from sternpost.trials.load import packed_folder

    quiet_libraries()
    settings = settings_of(Recipe, "plan", recipe, changes, options)
    shape = shape_of(str(packed_folder(settings.model, "model")), settings.revision)
    done = plan_of(settings, shape)
    planned(done, as_json)
