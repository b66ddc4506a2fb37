"""Suites: one data file a benchmark, which says where its rows are and how they are read.

    suites/NAME.toml   title, about, licence, url, paper, metrics, and one entry of `parts` a table
                       of rows; or `suites` and `tasks`: others, run together

Covered: any table of prompts, its columns renamed, rows kept by their values; a file of your own.
Not covered: tables that need code to be read; those are lm-eval's tasks. Overall: a benchmark is
data, and the errors say what is missing and under which licence it is had.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from sternpost.errors import InputError
from sternpost.evaluation.count import METRICS
from sternpost.types import Kind

SUFFIXES = (".csv", ".jsonl", ".parquet", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One table of rows."""

    kind: Kind
    """unsafe, safe or capability"""
    file: str = ""
    """Below the data folder, without its suffix: .csv, .jsonl, .parquet or .json."""
    hub: str = ""
    """org/name[:config]/split, where the Hub has it."""
    shipped: str = ""
    """A file beside the suite's own, which comes with sternpost."""
    drawn: str = ""
    """A model that comes with sternpost, of whose corpus fresh prompts are drawn."""
    prompt: str = "prompt"
    """The column that holds the prompt."""
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Column to the values that are kept."""
    without: Sequence[str] = ()
    """Columns that are empty in the rows that are kept."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name of a column to the table's."""
    set: Mapping[str, str] = field(default_factory=dict)
    """Our name of a column to what it is in every row."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Our name of a column to what each of its values is called here; another value is an error."""
    optional: bool = False
    """Left out, with a word, where the data folder has it not."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The table's columns that are read."""
        names = [self.prompt, *self.only, *self.without, *self.columns.values()]
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One benchmark, or several run together."""

    name: str
    title: str
    about: str = ""
    licence: str = ""
    url: str = ""
    paper: str = ""
    """arXiv id"""
    own_copy: bool = False
    """Its terms want every user to fetch it themselves."""
    metrics: tuple[str, ...] = ()
    attack: str = ""
    """`crescendo`: its unsafe prompts are objectives of an attacker."""
    limit: int | None = None
    """Prompts a part, at most, unless --limit says otherwise."""
    parts: tuple[Part, ...] = ()
    suites: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness."""
    place: Path | None = None
    """Folder of its file."""


def suite_names() -> tuple[str, ...]:
    """Every suite that comes with sternpost."""
    folder = resources.files("sternpost.evaluation").joinpath("suites")
    return tuple(sorted(Path(str(file)).stem for file in folder.iterdir()
                        if str(file).endswith(".toml")))


def read_suite(name: str) -> Suite:
    """The suite of a name, or of a TOML file of your own. Raises InputError."""
    folder = Path(str(resources.files("sternpost.evaluation").joinpath("suites")))
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if name.endswith(".toml") and not path.is_file():
        raise InputError(f"There is no file {name}. Give a suite's name or a TOML file of your "
                         "own (docs/howto/evaluate.md).")
    if not path.is_file():
        raise InputError(f"There is no suite {name!r}. There are {', '.join(suite_names())}; or "
                         "give a TOML file of your own (docs/howto/evaluate.md).")
    try:
        body = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no suite: {error}.") from error
    return _suite(path, body)


def _suite(path: Path, body: dict[str, Any]) -> Suite:
    parts = tuple(_part(path, part) for part in body.pop("parts", []))
    known = {f.name for f in fields(Suite)} - {"name", "place"}
    _refuse_unknown(path, body, known)
    for name in ("metrics", "suites", "tasks"):
        body[name] = tuple(body.get(name, ()))
    for metric in body["metrics"]:
        if metric not in METRICS:
            raise InputError(f"{path}: there is no metric {metric!r}. There are "
                             f"{', '.join(METRICS)}.")
    if "title" not in body:
        raise InputError(f"{path} has no title. Write title = \"...\" at its top.")
    return Suite(name=path.stem, parts=parts, place=path.parent, **body)


def _part(path: Path, body: dict[str, Any]) -> Part:
    _refuse_unknown(path, body, {f.name for f in fields(Part)})
    if body.get("kind") not in get_args(Kind)[:3]:
        raise InputError(f"{path}: a part's kind is unsafe, safe or capability; got "
                         f"{body.get('kind')!r}.")
    for name, values in body.get("only", {}).items():
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise InputError(f"{path}: only.{name} is a list of texts, such as [\"unsafe\"]; got "
                             f"{values!r}.")
    for name, names in body.get("values", {}).items():
        if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
            raise InputError(f"{path}: values.{name} is a table of texts, such as {{ add = "
                             f"\"reasoning\" }}; got {names!r}.")
    return Part(**body)


def _refuse_unknown(path: Path, body: Mapping[str, Any], known: set[str]) -> None:
    for key in body:
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}. Known: {', '.join(sorted(known))}.")


def spread(names: Sequence[str]) -> tuple[list[Suite], list[str]]:
    """The benchmarks that `names` mean, each once, in order, and the tasks of lm-eval."""
    suites: dict[str, Suite] = {}
    tasks: dict[str, None] = {}
    for name in names:
        suite = read_suite(name)
        more, others = spread(suite.suites)
        for one in [*more, *([suite] if suite.parts else [])]:
            suites.setdefault(one.name, one)
        tasks |= dict.fromkeys([*others, *suite.tasks])
    return list(suites.values()), list(tasks)
