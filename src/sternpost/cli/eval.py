"""`sternpost eval`: benchmarks, unsteered and steered, paired by prompt."""

import json

import click

from sternpost.assessment.settings import EvaluateSettings
from sternpost.cli.options import debug, from_recipe, from_settings, planned, settings_of


@click.command("eval", context_settings={"show_default": False})
@from_recipe
@from_settings(EvaluateSettings)
@debug
def evaluate(recipe: str | None, changes: tuple[str, ...], as_json: bool,
             **options: object) -> None:
    """Measure a model on benchmarks, as it is and steered, paired by prompt.

    `--suite smoke` needs nothing but what ships. Other suites read files below --data; their
    errors say which. Prompts that a pack was fitted on are refused.
    """
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.evaluate import Evaluation, evaluated
    from sternpost.report import evaluation_table
    from sternpost.trials.progress import Watch

    quiet_libraries()
    settings = settings_of(EvaluateSettings, "eval", recipe, changes, options)
    done = evaluated(settings, Watch(Console(stderr=True)))
    if planned(done, as_json):
        return
    assert isinstance(done, Evaluation)
    if as_json:
        click.echo(json.dumps(done.results, indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(evaluation_table(done.results))
    for warning in done.results["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    click.echo(f"report: {done.path / 'report.html'}; card: {done.path / 'card.md'}")
