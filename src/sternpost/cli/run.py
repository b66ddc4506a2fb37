"""`sternpost run`: the whole experiment."""

import json
from collections.abc import Mapping
from typing import Any

import click

from sternpost.cli.options import debug, from_recipe, from_settings, planned, settings_of
from sternpost.jobs.run_settings import RunSettings


@click.command(context_settings={"show_default": False})
@from_recipe
@from_settings(RunSettings)
@debug
def run(recipe: str | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Find a model's refusal feature, steer it, and measure what that costs.

    Takes options, or a TOML RECIPE of the same names; options win over the recipe.
    """
    show(settings_of(RunSettings, "run", recipe, changes, options), as_json)


def show(settings: RunSettings, as_json: bool,
         explained: Mapping[str, str] | None = None) -> None:
    """Runs, with progress on stderr, and prints what came of it. `explained`: what each stage is
    for, in words."""
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.progress import Watch
    from sternpost.jobs.result import RunResult
    from sternpost.pipeline import tell
    from sternpost.report import results_table

    quiet_libraries()
    done = tell(settings, Watch(Console(stderr=True), explained))
    if planned(done, as_json):
        return
    assert isinstance(done, RunResult)
    if as_json:
        click.echo(json.dumps(done.results, indent=2, ensure_ascii=False))
        return
    Console().print(results_table(done.results))
    click.echo(f"\n{done.headline}\n")
    for warning in done.results["warnings"]:
        click.echo(f"note: {warning}")
    if (done.path / "pack").is_dir():
        click.echo(f"talk to it: sternpost chat --pack {done.path / 'pack'}")
    click.echo(f"report: {done.path / 'report.html'}")
