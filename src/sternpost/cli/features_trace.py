"""`sternpost features trace`: one conversation, token by token."""

import json
from typing import TYPE_CHECKING, Any

import click

from sternpost.cli.options import debug, from_settings, given
from sternpost.discovery.trace_settings import TraceOptions, TraceSettings
from sternpost.trials.settings import settings_from

if TYPE_CHECKING:
    from sternpost.jobs.trace import Trace


@click.command("trace", context_settings={"show_default": False})
@click.argument("prompt", required=False)
@click.option("--prompt", "typed", metavar="TEXT", help="The same as PROMPT.")
@from_settings(TraceOptions)
@click.option("--from", "labels", metavar="DIR",
              help="Folder of `features describe`, whose labels are shown.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@debug
def trace(prompt: str | None, typed: str | None, as_json: bool, **options: Any) -> None:
    """Show which features fire at each token of a conversation, and what they contribute.

    PROMPT is what the user says; it stands before the options.
    """
    prompt = prompt if typed is None else typed
    if prompt is None:
        raise click.UsageError("No prompt. Put it before the options, where no list of words takes "
                               "it in: sternpost features trace \"How do I bake bread?\" --model M "
                               "--sae S --out DIR")
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.trace import trace_features
    from sternpost.trials.progress import Watch

    quiet_libraries()
    asked = {**given(TraceSettings, options), "prompt": prompt}
    done = trace_features(settings_from(TraceSettings, asked, "features trace"),
                          Watch(Console(stderr=True)))
    if as_json:
        click.echo(json.dumps(done.trace, indent=2, ensure_ascii=False))
    else:
        show(done)


def show(done: "Trace") -> None:
    """The conversation as a heat map, its features as a table, what it comes to in sentences."""
    from rich.console import Console

    from sternpost.report.trace_map import features_table, heat_map
    from sternpost.report.trace_words import sentences

    console = Console()
    console.print(heat_map(done.trace, console.width))
    console.print()
    console.print(features_table(done.trace))
    console.print()
    for text in (*sentences(done.trace).values(), *(f"note: {w}" for w in done.trace["warnings"])):
        console.print(text, markup=False, highlight=False)
    click.echo(f"all of it: {done.path / 'trace.json'}; to look at: {done.path / 'trace.html'}")
