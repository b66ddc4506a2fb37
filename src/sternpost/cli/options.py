"""Options that verbs share, and the few liberties that the command line takes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import click

from sternpost.trials.settings import arranged, read_recipe, settings_from

S = TypeVar("S")

MANY = ("--archetype", "--feature", "--clamp", "--layers", "--layer", "--corpus", "--prefixes",
        "--gate-layer", "--classifier")
"""Options that take one or more words, or may be repeated."""


def spread(words: Sequence[str]) -> list[str]:
    """`--feature 1 2` as `--feature 1 --feature 2`; a recipe's file name ends the list."""
    out: list[str] = []
    flag, filled = None, False
    for word in words:
        if word.startswith("--"):
            flag, filled = (word if word in MANY else None), False
        elif flag is not None and not word.endswith(".toml"):
            if filled:
                out.append(flag)
            filled = True
        else:
            flag = None
        out.append(word)
    return out


debug = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")


def from_settings(settings: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option for every field of a settings dataclass, with its help text."""
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for spec in reversed(arranged(settings)):
            function = _option(spec)(function)
        return function

    return decorate


def _option(spec: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    name = "--" + spec.name.replace("_", "-")
    many, text = spec.metadata["many"], spec.metadata["help"]
    default = None if spec.default is MISSING else spec.default
    if isinstance(default, bool):
        return click.option(name, spec.name, is_flag=True, default=None, help=text)
    shown = f"  [default: {default:g}]" if isinstance(default, float) else \
        f"  [default: {default}]" if isinstance(default, str | int) else ""
    if many is not None:
        also = [f"--{spec.metadata['also']}"] if spec.metadata["also"] else []
        return click.option(name, *also, spec.name, multiple=True, metavar=_meta(many), help=text)
    if spec.metadata["choices"]:
        return click.option(name, spec.name, type=click.Choice(spec.metadata["choices"]),
                            default=None, help=text + shown)
    kind = next((one for one in (int, float) if one.__name__ in str(spec.type)), str)
    return click.option(name, spec.name, type=kind, default=None, help=text + shown)


def _meta(many: type) -> str:
    return {int: "F ...", float: "a,b,c", str: "TEXT ..."}[many]


def from_recipe(function: Callable[..., Any]) -> Callable[..., Any]:
    """A verb that takes a TOML recipe, `--set` changes to it, and options that win over both."""
    function = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")(function)
    function = click.option("--set", "changes", multiple=True, metavar="key=value",
                            help="Change a setting of the recipe.")(function)
    return click.argument("recipe", required=False)(function)


def settings_of(settings: type[S], verb: str, recipe: str | None, changes: Sequence[str],
                options: dict[str, Any]) -> S:
    """What was asked for on such a verb's line."""
    known = read_recipe(recipe, changes) if recipe else {}
    if changes and not recipe:
        raise click.UsageError("--set changes a recipe; give RECIPE.toml, or plain options.")
    return settings_from(settings, {**known, **given(settings, options)}, recipe or verb)


def planned(done: Any, as_json: bool) -> bool:
    """Whether `done` is what a dry run gave; if so it is printed."""
    if not hasattr(done, "lines"):
        return False
    click.echo(json.dumps(done.as_dict(), indent=2) if as_json else "\n".join(done.lines()))
    return True


def given(settings: type, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were typed, by setting, lists split at commas where they hold numbers."""
    out: dict[str, Any] = {}
    for spec in fields(settings):
        value = options.get(spec.name)
        if value is None or value == ():
            continue
        many = spec.metadata["many"]
        out[spec.name] = _numbers(spec.name, value, many) if many in (int, float) else value
    return out


def _numbers(name: str, words: Sequence[str], kind: type) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for word in words for part in word.split(",") if part.strip())
    except ValueError as error:
        raise click.UsageError(f"--{name} takes numbers, e.g. --{name} "
                               f"{'597' if kind is int else '2,4,8'}; got {' '.join(words)!r}.") \
            from error
