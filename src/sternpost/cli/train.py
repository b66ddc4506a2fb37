"""`sternpost train`: SAEs on a model's residual stream."""

import json
from typing import TYPE_CHECKING, Any

import click

from sternpost.cli.options import debug, from_recipe, from_settings, planned, settings_of
from sternpost.training.recipe import Recipe

if TYPE_CHECKING:
    from sternpost.training.plan import TrainPlan
    from sternpost.training.trained import TrainResult


@click.command(context_settings={"show_default": False})
@from_recipe
@from_settings(Recipe)
@debug
def train(recipe: str | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Train SAEs on a model's residual stream, of one layer or of several at once.

    Takes options, or a TOML RECIPE of the same names; options win over the recipe. Under
    `torchrun -m sternpost train ...` several processes train together.
    """
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.train import train_recipe
    from sternpost.training.team import end, leads
    from sternpost.trials.progress import Watch

    quiet_libraries()
    done = train_recipe(settings_of(Recipe, "train", recipe, changes, options),
                        Watch(Console(stderr=True)))
    if leads():
        show(done, as_json)
    end()


def show(done: "TrainResult | TrainPlan", as_json: bool) -> None:
    """Prints what came of it."""
    from rich.console import Console

    from sternpost.report import training_table
    from sternpost.training.trained import TrainResult

    if planned(done, as_json):
        return
    assert isinstance(done, TrainResult)
    if as_json:
        click.echo(json.dumps(done.results, indent=2, ensure_ascii=False))
        return
    Console().print(training_table(done.results))
    click.echo(f"\n{done.headline}\n")
    for warning in done.results["warnings"]:
        click.echo(f"note: {warning}")
    layer = done.results["saes"][0]["folder"]
    click.echo(f"use it: sternpost run --sae {done.path / layer} ...")
    click.echo(f"report: {done.path / 'report.html'}")
