"""The command line: one file a verb. Nothing heavy is imported before a verb runs.

Exit 0: done. 2: bad input or a failed check, in one message. 1: a bug. 130: Ctrl-C.
"""

import sys
from collections.abc import Sequence

import click

from sternpost import __version__
from sternpost.cli.calibrate import calibrate
from sternpost.cli.chat import chat
from sternpost.cli.compare import compare
from sternpost.cli.demo import demo
from sternpost.cli.doctor import doctor
from sternpost.cli.eval import evaluate
from sternpost.cli.features import features
from sternpost.cli.harvest import harvest
from sternpost.cli.judge import judge
from sternpost.cli.options import spread
from sternpost.cli.pack import pack
from sternpost.cli.plan import plan
from sternpost.cli.results import results
from sternpost.cli.run import run
from sternpost.cli.sae import sae
from sternpost.cli.train import train
from sternpost.errors import SternpostError

VERBS = (demo, run, chat, doctor, features, calibrate, evaluate, compare, results, judge,
         train, harvest, plan, pack, sae)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sternpost")
def group() -> None:
    """Find the features by which a chat model refuses, steer them, measure what it costs."""


for verb in VERBS:
    group.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: runs a verb and turns errors into messages and exit codes."""
    words = spread(sys.argv[1:] if arguments is None else arguments)
    try:
        group.main(words, prog_name="sternpost", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        if "--debug" in words:
            raise
        click.echo("\nInterrupted. What was finished is kept; --resume goes on from there.",
                   err=True)
        sys.exit(130)
    except SternpostError as error:
        if "--debug" in words:
            raise
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(2)
