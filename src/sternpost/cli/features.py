"""`sternpost features`: which features there are, and what they do."""

import json
from typing import TYPE_CHECKING, Any

import click

from sternpost.cli.options import debug, from_recipe, from_settings, planned, settings_of
from sternpost.jobs.find_settings import FindSettings

if TYPE_CHECKING:
    from sternpost.jobs.features_find import FoundFeatures

SHOWN = 10


@click.group()
def features() -> None:
    """Features that make a model refuse, and those that see harm."""


@features.command("find", context_settings={"show_default": False})
@from_recipe
@from_settings(FindSettings)
@debug
def find(recipe: str | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Rank features by seven methods, clamp the best, build sets of them, confirm on new prompts.

    Takes what `sternpost run` takes.
    """
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.features_find import FoundFeatures, find_features
    from sternpost.jobs.progress import Watch

    quiet_libraries()
    settings = settings_of(FindSettings, "features find", recipe, changes,
                           {**options, "no_gate": True})
    done = find_features(settings, Watch(Console(stderr=True)))
    if planned(done, as_json):
        return
    assert isinstance(done, FoundFeatures)
    if as_json:
        click.echo(json.dumps(done.found, indent=2, ensure_ascii=False))
    else:
        show(done)


def show(done: "FoundFeatures") -> None:
    """The best of every method side by side, the sets, and what was confirmed."""
    from rich.console import Console

    from sternpost.report import features as tables

    console, found = Console(), done.found
    console.print(tables.methods_table(found, SHOWN))
    console.print(tables.agreement_table(found))
    console.print(tables.confirmed_table(found))
    click.echo(tables.verdict(found))
    if found["interactions"]:
        console.print(tables.pairs_table(found))
    console.print(tables.effects_table(found, "causal_grid", SHOWN))
    for warning in found["warnings"]:
        click.echo(f"note: {warning}")
    click.echo(f"all of it: {done.path / 'features.json'}")
