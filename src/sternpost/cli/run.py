"""`sternpost run`: the whole experiment."""

import json
from collections.abc import Mapping
from typing import Any

import click

from sternpost.cli.options import (
    debug,
    from_recipe,
    from_settings,
    given,
    planned,
    settings_of,
)
from sternpost.study.settings import Study, is_study, of_top, study_from
from sternpost.trials.run_settings import RunSettings
from sternpost.trials.settings import read_recipe


@click.command(context_settings={"show_default": False})
@from_recipe
@from_settings(RunSettings)
@debug
def run(recipe: str | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Find a model's refusal feature, steer it, and measure what that costs.

    Takes options, or a TOML RECIPE of the same names; options win over the recipe. A recipe with
    the tables [train], [run] and [evaluate] is a study, such as recipes/paper.toml: all stages, and
    one table at the end; --set table.key=value changes one of their settings.
    """
    known = read_recipe(recipe, changes) if recipe else {}
    if recipe and is_study(known):
        show_study(study_from({**known, **of_top(given(RunSettings, options))}, recipe), as_json)
        return
    show(settings_of(RunSettings, "run", recipe, changes, options), as_json)


def show(settings: RunSettings, as_json: bool,
         explained: Mapping[str, str] | None = None) -> None:
    """Runs, with progress on stderr, and prints what came of it. `explained`: what each stage is
    for, in words."""
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.result import RunResult
    from sternpost.pipeline import tell
    from sternpost.report import results_table
    from sternpost.trials.progress import Watch

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


def show_study(study: Study, as_json: bool) -> None:
    """Runs every stage of a study, with progress on stderr, and prints its table."""
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.study import StudyResult, studied
    from sternpost.pipeline import tell
    from sternpost.report.study import WIDE, study_table, study_text
    from sternpost.trials.progress import Watch

    quiet_libraries()
    done = studied(study, Watch(Console(stderr=True)), tell)
    if planned(done, as_json):
        return
    assert isinstance(done, StudyResult)
    if as_json:
        click.echo(json.dumps(done.results, indent=2, ensure_ascii=False))
        return
    console = Console()
    if console.width < WIDE:  # a line that the terminal breaks is better than one cut short
        click.echo(study_text(done.results))
    else:
        console.print(study_table(done.results))
    for warning in done.results["warnings"]:
        click.echo(f"note: {warning}")
    for report in done.reports:
        click.echo(f"report: {report}")
