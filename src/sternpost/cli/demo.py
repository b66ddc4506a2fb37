"""`sternpost demo`: the whole flow on the model that comes with sternpost."""

import click

from sternpost.cli.options import debug
from sternpost.cli.run import show

EXPLAINED = {
    "load": "A small chat model, trained from scratch on a made-up corpus: it refuses most plain "
            "unsafe requests, and fewer of those that come in a jailbreak wrapper.",
    "baseline": "Its replies to all prompts, and whether each is a refusal: what there is to "
                "improve.",
    "sae": "A sparse autoencoder takes its residual stream apart into features, of which a token "
           "uses a few. Watch FVU, the share that it cannot explain, fall.",
    "search": "Which of the features makes it refuse? Those that are active in refusals are "
              "clamped, one after the other, and the replies are counted.",
    "sweep": "How high to clamp it: on the search prompts, never on those that are reported.",
    "gate": "Clamped always, a feature may also refuse safe prompts and break arithmetic. So: only "
            "where the prompt's own state says that it is harmful.",
    "test": "Every condition on the same new prompts: other topics, other actions, other wrappers."}


@click.command()
@click.option("--out", default="runs/demo", show_default=True, help="Folder for the results.")
@click.option("--seed", default=0, show_default=True, help="Seed of SAE, gate and controls.")
@click.option("--quick", is_flag=True, help="Fewer prompts: under two minutes, wider intervals.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished demo.")
@click.option("--force", is_flag=True, help="Replace another run in the folder.")
@debug
def demo(out: str, seed: int, quick: bool, resume: bool, force: bool) -> None:
    """Show the trade-off of steering, and the way out of it, on a small model in minutes."""
    from sternpost.jobs.demo import demo_settings

    settings = demo_settings(out=out, seed=seed, quick=quick, resume=resume, force=force)
    show(settings, as_json=False, explained=EXPLAINED)
