"""`sternpost features`: which features there are, and what they do."""

import json
from typing import TYPE_CHECKING, Any

import click

from sternpost.cli.features_trace import trace
from sternpost.cli.options import debug, from_recipe, from_settings, given, planned, settings_of
from sternpost.discovery.describe_settings import DescribeSettings
from sternpost.discovery.find_settings import FindSettings
from sternpost.trials.settings import read_recipe

if TYPE_CHECKING:
    from sternpost.jobs.features_find import FoundFeatures

SHOWN = 10


@click.group()
def features() -> None:
    """Features that make a model refuse, and those that see harm."""


@features.command("find", context_settings={"show_default": False})
@from_recipe
@from_settings(FindSettings)
@debug
def find(recipe: str | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Rank features by seven methods, clamp the best, build sets of them, confirm on new prompts.

    Takes what `sternpost run` takes.
    """
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.features_find import FoundFeatures, find_features
    from sternpost.trials.progress import Watch

    quiet_libraries()
    settings = settings_of(FindSettings, "features find", recipe, changes,
                           {**options, "no_gate": True})
    done = find_features(settings, Watch(Console(stderr=True)))
    if planned(done, as_json):
        return
    assert isinstance(done, FoundFeatures)
    if as_json:
        click.echo(json.dumps(done.found, indent=2, ensure_ascii=False))
    else:
        show(done)


def show(done: "FoundFeatures") -> None:
    """The best of every method side by side, the sets, and what was confirmed."""
    from rich.console import Console

    from sternpost.report import features as tables

    console, found = Console(), done.found
    console.print(tables.methods_table(found, SHOWN))
    console.print(tables.agreement_table(found))
    console.print(tables.confirmed_table(found))
    click.echo(tables.verdict(found))
    if found["interactions"]:
        console.print(tables.pairs_table(found))
    console.print(tables.effects_table(found, "causal_grid", SHOWN))
    for warning in found["warnings"]:
        click.echo(f"note: {warning}")
    click.echo(f"all of it: {done.path / 'features.json'}")


@features.command("describe", context_settings={"show_default": False})
@from_recipe
@from_settings(DescribeSettings)
@debug
def describe(recipe: str | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Describe every feature: what it is active on, what it writes, its neighbours, a label.

    Labels are made of words, or by a language model (--labeller openai:MODEL, with OPENAI_BASE_URL
    and OPENAI_API_KEY), and then scored on text that they were not made from.
    """
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.describe import describe as run
    from sternpost.trials.progress import Watch

    quiet_libraries()
    settings = settings_of(DescribeSettings, "features describe", recipe, changes, options)
    done = run(settings, Watch(Console(stderr=True)))
    if as_json:
        click.echo(json.dumps(done.about, indent=2, ensure_ascii=False))
        return
    from sternpost.report.features import described_table

    Console().print(described_table(done.about, done.features, SHOWN))
    for warning in done.about["warnings"]:
        click.echo(f"note: {warning}")
    click.echo(f"all of it: {done.path / 'features.jsonl'}; find by words: sternpost features "
               f'search "..." --from {settings.out}; browse: sternpost features atlas --out '
               f"{settings.out}")


@features.command("search")
@click.argument("words", nargs=-1, required=True)
@click.option("--from", "folder", default="runs/features", show_default=True,
              help="Folder in which `features describe` wrote.")
@click.option("--embedder", default="words", show_default=True,
              help="words; model: its own embeddings too; or a sentence-transformers folder.")
@click.option("--limit", default=10, show_default=True, help="Features shown, at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@debug
def search(words: tuple[str, ...], folder: str, embedder: str, limit: int, as_json: bool) -> None:
    """Find described features by words: sternpost features search "weapons"."""
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.search import features_search
    from sternpost.report.features import matches_table

    quiet_libraries()
    done = features_search(words=" ".join(words), folder=folder, embedder=embedder, limit=limit)
    if as_json:
        click.echo(json.dumps([{"feature": m.feature, "score": m.score, "label": m.label}
                               for m in done.found], indent=2, ensure_ascii=False))
    elif done.found:
        Console().print(matches_table([(m.feature, m.score, m.label) for m in done.found]))
    else:
        click.echo(f"No feature's label, tokens or hazards hold {done.words!r}. Try other words, "
                   "or --embedder model.")


@features.command("atlas", context_settings={"show_default": False})
@from_recipe
@from_settings(DescribeSettings)
@debug
def atlas(recipe: str | None, changes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Write a page a feature and an index of all, from what `features describe` wrote in --out.

    Given --model, --sae, --unsafe and --safe, describes the features first.
    """
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.atlas import atlas as run
    from sternpost.trials.progress import Watch

    quiet_libraries()
    told = {**(read_recipe(recipe, changes) if recipe else {}), **given(DescribeSettings, options)}
    if "out" not in told:
        raise click.UsageError("Missing --out: the folder in which `features describe` wrote.")
    done = run(told.pop("out"), told, Watch(Console(stderr=True)))
    click.echo(json.dumps({"index": str(done.path), "features": done.features}) if as_json else
               f"{done.features:,} features: open {done.path}")


features.add_command(trace)
