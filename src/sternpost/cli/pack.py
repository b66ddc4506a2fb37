"""`sternpost pack`: where a pack lies, and whether its figures hold."""

import json
from typing import Any

import click

from sternpost.cli.options import debug, from_settings, given
from sternpost.packs.settings import ConfirmOptions, ConfirmSettings
from sternpost.trials.settings import settings_from


@click.group()
def pack() -> None:
    """Packs: the folders that steer a model, with levels of measured cost."""


@pack.command()
@click.argument("name")
@click.option("--revision", help="Revision of a pack on the Hub.")
@debug
def path(name: str, revision: str | None) -> None:
    """Print the folder of a pack: one that comes with sternpost, such as dinghy, a Hub id, which
    is fetched, or a folder, which is checked."""
    from sternpost.packs.pack import pack_path

    click.echo(pack_path(name=name, revision=revision))


@pack.command(context_settings={"show_default": False})
@click.argument("pack")
@from_settings(ConfirmOptions)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@debug
def confirm(pack: str, as_json: bool, **options: Any) -> None:
    """Measure baseline and every level of PACK anew, on prompts that it has not seen.

    Prompts are drawn with --seed, for a pack of the model that comes with sternpost, or given with
    --unsafe and --safe; the pack must not have been made from them.
    """
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.pack_confirm import confirm_pack
    from sternpost.report.levels import levels_table
    from sternpost.trials.progress import Watch

    quiet_libraries()
    asked = {**given(ConfirmSettings, options), "pack": pack}
    done = confirm_pack(settings_from(ConfirmSettings, asked, "pack confirm"),
                        Watch(Console(stderr=True)))
    if as_json:
        click.echo(json.dumps(done.found, indent=2, ensure_ascii=False))
        return
    Console().print(levels_table(done.found, done.stated))
    for note in done.notes:
        click.echo(f"note: {note}")
    click.echo(f"all of it: {done.path}")
