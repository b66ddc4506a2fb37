"""`sternpost results`: do the figures of a folder come of its lines?"""

import json

import click

from sternpost.cli.options import debug


@click.group()
def results() -> None:
    """Finished results: whether their figures are those of their lines."""


@results.command()
@click.argument("dir")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@debug
def check(dir: str, as_json: bool) -> None:
    """Count every figure of DIR/results.json again, from the lines beside it. Exit 2 if any does
    not agree.

    DIR is the --out folder of `eval` or `run`.
    """
    from sternpost.errors import CheckFailed
    from sternpost.jobs.results_check import results_check

    found = results_check(dir=dir)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        for one in found.disagreements:
            click.echo(f"{click.style('FAIL', fg='red')} {one}")
        for where in found.unchecked:
            click.echo(f"note: {where} does not come of these lines and was not counted")
        for note in found.notes:
            click.echo(f"note: {note}")
    if not found.ok:
        raise CheckFailed(f"{len(found.disagreements)} of {found.figures} figures in "
                          f"{found.path} are not what its {found.lines} lines give: see above. "
                          "Either file was changed, or they are not of one run; measure again.")
    if not as_json:
        click.echo(f"{click.style('ok', fg='green')}  {found.figures} figures counted again from "
                   f"{found.lines} lines: all agree")
