"""`sternpost doctor`: does steering work on this model?"""

import json
from typing import Any

import click

from sternpost.cli.options import debug


@click.command()
@click.option("--model", required=True, help="Model: a folder or a Hub id.")
@click.option("--layer", type=int, help="Block to steer, 0-based.")
@click.option("--sae", help="SAE to steer with: a folder or Hub id[:SAE_ID].")
@click.option("--system", help="System prompt put before every conversation.")
@click.option("--chat-template", help="File with a Jinja chat template to use instead.")
@click.option("--chat-template-kwargs", help="Further template variables, as JSON.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True)
@click.option("--revision", help="Revision of a Hub model.")
@click.option("--json", "as_json", is_flag=True, help='Print {"checks": [...]}.')
@debug
def doctor(as_json: bool, **options: Any) -> None:
    """Check that steering bites on a model, and does nothing when off. Exit 2 if a check fails."""
    from sternpost.engines.quiet import quiet_libraries
    from sternpost.errors import CheckFailed
    from sternpost.jobs.doctor import doctor as examine

    quiet_libraries()
    found = examine(**options)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        for check in found.checks:
            mark = click.style("ok  ", fg="green") if check.ok else click.style("FAIL", fg="red")
            click.echo(f"{mark} {check.name:<10} {check.detail}")
    if not found.ok:
        bad = ", ".join(check.name for check in found.checks if not check.ok)
        raise CheckFailed(f"{bad}: see above. Steering on {found.model} cannot be trusted until "
                          "this is understood.")
