"""Suites: one data file a benchmark, which says where its rows are and how they are read.

    suites/NAME.toml   title, about, licence, url, paper, metrics, and one entry of `parts` a table
                       of rows; or `suites` and `tasks`: others, run together

Covered: any table of prompts, its columns renamed, rows kept by their values; a file of your own.
Not covered: tables that need code to be read; those are lm-eval's tasks. Overall: a benchmark is
data, and the errors say what is missing and under which licence it is had.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from sternpost.errors import InputError
from sternpost.evaluation.count import METRICS
from sternpost.evaluation.suite_tables import check_tables
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
    """Our name of a column to what each of its values is called here, "" for none at all; another
    value is an error."""
    optional: bool = False
    """Left out, with a word, where the data folder has it not."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The table's columns that are read."""
        return tuple(self.readers)

    @property
    def readers(self) -> dict[str, str]:
        """Each of the table's columns that are read, and the key that asks for it."""
        asked = [(self.prompt, "prompt"), *((name, "only") for name in self.only),
                 *((name, "without") for name in self.without),
                 *((theirs, f"columns.{ours}") for ours, theirs in self.columns.items())]
        out: dict[str, str] = {}
        for name, key in asked:
            out.setdefault(name, key)
        return out


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

    @property
    def path(self) -> Path:
        """Its file."""
        return (self.place or _shipped()) / f"{self.name}.toml"

    @property
    def own(self) -> bool:
        """Whether its rows are the user's to correct: no suite that comes with sternpost, and no
        published data that every user fetches."""
        return not self.own_copy and self.path.resolve().parent != _shipped().resolve()


def _shipped() -> Path:
    return Path(str(resources.files("sternpost.evaluation").joinpath("suites")))


def suite_names() -> tuple[str, ...]:
    """Every suite that comes with sternpost."""
    return tuple(sorted(file.stem for file in _shipped().glob("*.toml")))


def read_suite(name: str) -> Suite:
    """The suite of a name, or of a TOML file of your own. Raises InputError."""
    path = Path(name) if name.endswith(".toml") else _shipped() / f"{name}.toml"
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
    check_tables(path, body)
    parts = tuple(_part(path, at, part) for at, part in enumerate(body.pop("parts", []), start=1))
    for name in ("metrics", "suites", "tasks"):
        body[name] = tuple(body.get(name, ()))
    for metric in body["metrics"]:
        if metric not in METRICS:
            raise InputError(f"{path}: there is no metric {metric!r}. There are "
                             f"{', '.join(METRICS)}.")
    if "title" not in body:
        raise InputError(f"{path} has no title. Write title = \"...\" at its top.")
    if not (parts or body["suites"] or body["tasks"]):
        raise InputError(f"{path} asks nothing: it has no parts, suites or tasks. Write a part, "
                         "headed [[parts]] (docs/howto/evaluate.md).")
    return Suite(name=path.stem, parts=parts, place=path.parent, **body)


def _part(path: Path, at: int, body: dict[str, Any]) -> Part:
    if body.get("kind") not in get_args(Kind)[:3]:
        raise InputError(f"{path}: kind of part {at} is unsafe, safe or capability; got "
                         f"{body.get('kind')!r}.")
    if not any(body.get(name) for name in ("file", "hub", "shipped", "drawn")):
        raise InputError(f"{path}: part {at} has no rows to read. Name its table: file = "
                         "\"mine/requests\", below the data folder.")
    return Part(**body)


def spread(names: Sequence[str]) -> tuple[list[Suite], list[str]]:
    """The benchmarks that `names` mean, each once, in order, and the tasks of lm-eval. Raises
    InputError for two files of one name: results are kept by it."""
    return _spread(names, ())


def _spread(names: Sequence[str], above: tuple[Path, ...]) -> tuple[list[Suite], list[str]]:
    suites: dict[str, Suite] = {}
    tasks: dict[str, None] = {}
    for name in names:
        suite = read_suite(name)
        file = suite.path.resolve()
        if file in above:
            raise InputError(f"{suite.path} names itself among its suites. Take it out there.")
        more, others = _spread(suite.suites, (*above, file))
        for one in [*more, *([suite] if suite.parts else [])]:
            other = suites.setdefault(one.name, one)
            if other.path.resolve() != one.path.resolve():
                raise InputError(f"Two suites are called {one.name}: {other.path} and {one.path}. "
                                 "Results are kept by that name; rename one of the files.")
        tasks |= dict.fromkeys([*others, *suite.tasks])
    return list(suites.values()), list(tasks)
