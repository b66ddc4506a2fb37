"""`sternpost sae`: what there is in SAEs."""

import click

from sternpost.cli.options import debug


@click.group()
def sae() -> None:
    """Public SAEs."""


@sae.command("list")
@click.option("--model", help="Only SAEs of models whose name holds this.")
@debug
def list_(model: str | None) -> None:
    """List public SAEs that are read, those of chat models first. Nothing is fetched."""
    from sternpost.jobs.sae_list import sae_list

    for one in sae_list(model=model).saes:  # names to copy are never cut nor wrapped
        trained = click.style("chat" if one.chat else "base", fg="green" if one.chat else None)
        said = {"layers": one.layers, "kind": one.kind, "features": one.width,
                "licence": one.licence}
        click.echo(f"{trained}  {one.model}: " + "; ".join(
            f"{what} {value or 'see its page'}" for what, value in said.items()))
        click.echo(f"      {one.repository}" + (f":{one.ids}" if one.ids else "")
                   + (f"   ({one.note})" if one.note else ""))
    click.echo("N is a layer, {a,b} one of several. To use one: sternpost run --sae REPOSITORY:ID")
