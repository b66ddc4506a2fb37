"""`sternpost chat`: talk to a model with features clamped."""

from typing import Any

import click

from sternpost.cli.options import debug


@click.command()
@click.option("--model", help="Model: a folder or a Hub id; a pack names its own.")
@click.option("--sae", help="SAE whose features are clamped: a folder or Hub id[:SAE_ID].")
@click.option("--clamp", multiple=True, metavar="FEATURE=VALUE ...",
              help="Clamp a feature, activation units. Repeatable.")
@click.option("--pack", help="Pack to steer with: a folder, or dinghy, which comes with sternpost.")
@click.option("--level", default="high", show_default=True, help="The pack's level.")
@click.option("--compare", is_flag=True, help="Show the unsteered reply beside the steered one.")
@click.option("--system", help="System prompt; default: the pack's.")
@click.option("--chat-template",
              help="File with a Jinja chat template to use instead of the pack's, or the model's.")
@click.option("--chat-template-kwargs",
              help="Further template variables, as JSON; default: the pack's.")
@click.option("--max-new-tokens", default=200, show_default=True, help="Longest reply, in tokens.")
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True)
@click.option("--revision", help="Revision of a Hub model.")
@debug
def chat(**options: Any) -> None:
    """Talk to a model. End with Ctrl-D or an empty line."""
    from rich.columns import Columns
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.chat import chat as start

    quiet_libraries()
    console, conversation = Console(), start(**options)
    while text := _ask():
        turn = conversation.send(text)
        edited = conversation.plan is not None and len(conversation.plan.edits)
        steered = Panel(Text(turn.reply, overflow="fold"),
                        title="steered" if edited else "model, not steered")
        plain = Panel(Text(turn.unsteered or "", overflow="fold"), title="unsteered")
        width = max(30, console.width // 2 - 1)
        console.print(Columns([plain, steered], width=width) if conversation.compare else steered)
        if turn.proof is not None and turn.proof.risk is not None:
            decision = "the gate fires: steered" if turn.proof.fired else "the gate stays shut"
            console.print(f"risk {turn.proof.risk:.3f}; {decision}", style="dim")
        if turn.proof is not None and turn.proof.positions and turn.proof.features:
            edits = zip(turn.proof.features, turn.proof.before, turn.proof.after, strict=True)
            console.print("; ".join(f"feature {f}: {b:.2f} -> {a:.2f}" for f, b, a in edits) +
                          f" at {len(turn.proof.positions)} tokens", style="dim")


def _ask() -> str:
    try:
        return click.prompt("you", default="", show_default=False).strip()
    except click.Abort as stop:  # Ctrl-D ends the talk; Ctrl-C the command, with 130
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise
        click.echo()
        return ""
