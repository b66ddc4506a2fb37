"""`sternpost compare`: two evaluations or runs, on the prompts that both have."""

import json

import click

from sternpost.cli.options import debug


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True,
              help="Language of the table.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@debug
def compare(a: str, b: str, lang: str, as_json: bool) -> None:
    """Compare two folders of `eval`, or of `run`: B minus A, paired by prompt.

    Says what differs between the two, and refuses two that share no prompt.
    """
    from rich.console import Console

    from sternpost.jobs.compare import compare as beside
    from sternpost.report.evaluation_compare import comparison_table, notes_of

    found = beside(a=a, b=b, lang=lang)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    Console().print(comparison_table(found.as_dict(), lang))
    click.echo()
    for note in notes_of(found.as_dict(), lang):
        click.echo(f"note: {note}")
