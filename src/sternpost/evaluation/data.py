"""The rows of suites: read, told apart, copies between suites left out and counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.errors import InputError, PromptFileError
from sternpost.evaluation.suite import SUFFIXES, Part, Suite
from sternpost.files import canonical_json, sha256_text
from sternpost.prompts import key, sample
from sternpost.prompts.rows import labelled
from sternpost.prompts.tables import Row, Table, read_table
from sternpost.types import LabelledPrompt

Draw = Callable[[str], Mapping[str, Sequence[Mapping[str, Any]]]]
"""A shipped model's name -> fresh rows of its corpus, by kind."""


@dataclass(frozen=True)
class Source:
    """Where rows come from."""

    folder: Path | None
    """The data folder; None: none was named."""
    hub: bool
    """Whether the Hub is asked for what the folder has not."""
    draw: Draw


@dataclass
class Loaded:
    """A suite and its rows."""

    suite: Suite
    prompts: list[LabelledPrompt]
    files: list[dict[str, Any]]
    """Of each: path, sha256, rows that were taken."""
    duplicates: int = 0
    """Rows left out because an earlier one, here or in an earlier suite, has the same words."""
    leaked: int = 0
    """Rows left out because the pack was fitted on them."""
    warnings: tuple[str, ...] = ()


def load_suites(suites: Sequence[Suite], source: Source, limit: int | None,
                seed: int) -> list[Loaded]:
    """Every suite's rows. Raises PromptFileError that names all that is missing."""
    missing = list(dict.fromkeys(line for suite in suites for part in suite.parts
                                 if (line := _missing(suite, part, source)) is not None))
    if missing:
        raise PromptFileError("\n".join(["Data files are missing:", *missing,
                                         "Put them there, and type --data DIR or set "
                                         "STERNPOST_DATA=DIR."]))
    known: set[str] = set()
    return [_loaded(suite, source, limit, seed, set() if suite.attack else known)
            for suite in suites]


def _missing(suite: Suite, part: Part, source: Source) -> str | None:
    if part.shipped or part.drawn or part.optional or _path(part, source) is not None:
        return None
    if source.hub and part.hub and not suite.own_copy:
        return None
    folder = source.folder or Path("DATA")
    terms = "; its terms want your own copy" if suite.own_copy else ""
    where = f" ({suite.url})" if suite.url else ""
    return (f"  {suite.name}: {folder / part.file}.csv (or .jsonl, .json, .parquet) with the "
            f"columns {', '.join(part.needed)}; licence: {suite.licence or 'not stated'}{terms}"
            f"{where}"
            + (f"; or --hub, which asks for hf:{part.hub}" if part.hub and not suite.own_copy
               else ""))


def _path(part: Part, source: Source) -> Path | None:
    if source.folder is None or not part.file:
        return None
    named = ("",) if part.file.endswith(SUFFIXES) else SUFFIXES
    return next((path for suffix in named
                 if (path := source.folder / f"{part.file}{suffix}").is_file()), None)


def _loaded(suite: Suite, source: Source, limit: int | None, seed: int,
            known: set[str]) -> Loaded:
    found = Loaded(suite, [], [])
    for part in suite.parts:
        for name, table in _tables(suite, part, source):
            rows = [_prompt(name, part, row) for row in table.rows if _kept(part, row)]
            fresh = _fresh(rows, known)
            found.duplicates += len(rows) - len(fresh)
            taken = sample(fresh, suite.limit if limit is None else limit, seed)
            found.prompts += taken
            found.files.append({"path": name, "sha256": table.sha256, "rows": len(taken)})
            if not rows and not part.optional:
                raise PromptFileError(f"{name}: no row is left for suite {suite.name}, which keeps "
                                      f"{dict(part.only) or 'all'} without {list(part.without)}.")
    if not found.prompts:
        raise InputError(f"Suite {suite.name} has no prompts left. See that its files hold any.")
    there = {p.kind for p in found.prompts}
    if absent := [part.file for part in suite.parts if part.optional and part.kind not in there]:
        found.warnings = (f"{suite.name}: {', '.join(absent)} is not in the data folder and was "
                          "left out.",)
    return found


def _tables(suite: Suite, part: Part, source: Source) -> list[tuple[str, Table]]:
    if part.drawn:
        rows = source.draw(part.drawn).get(part.kind, ())
        return [(f"drawn from {part.drawn}'s corpus", _table(part.drawn, rows))]
    if part.shipped:
        assert suite.place is not None
        return [(part.shipped, read_table(str(suite.place / part.shipped)))]
    path = _path(part, source)
    if path is not None:
        name = path.relative_to(source.folder or "").as_posix()
        return [(name, _with_columns(read_table(str(path)), part, suite))]
    if source.hub and part.hub:
        spec = f"hf:{part.hub}"
        return [(spec, _with_columns(read_table(spec), part, suite))]
    return []


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(name, sha256_text(canonical_json([dict(row) for row in rows])),
                 tuple(rows[0]) if rows else (),
                 tuple(Row(f"row {at}", row) for at, row in enumerate(rows, start=1)))


def _with_columns(table: Table, part: Part, suite: Suite) -> Table:
    lacking = [name for name in part.needed if name not in table.columns
               and name not in part.without]
    if lacking:
        raise PromptFileError(
            f"{table.path} has no column {', '.join(lacking)}, which suite {suite.name} reads; its "
            f"columns are {', '.join(table.columns)}. Name them {', '.join(part.needed)}.")
    return table


def _kept(part: Part, row: Row) -> bool:
    return (all(str(row.cells.get(name, "")) in values for name, values in part.only.items())
            and not any(name in row.cells for name in part.without)
            and (part.prompt in row.cells or "messages" in row.cells))


def _prompt(path: str, part: Part, row: Row) -> LabelledPrompt:
    """A table of ours is taken as it is, of others the columns that are named."""
    ours = bool(part.drawn or part.shipped)
    column = part.prompt if ours else "prompt"
    taken = row.cells if ours else {column: row.cells[part.prompt]}
    renamed = {name: row.cells[theirs] for name, theirs in part.columns.items()
               if theirs in row.cells}
    cells = {**taken, **renamed, **part.set}
    called = {name: _called(f"{path}, {row.where}: {name}", cells[name], names)
              for name, names in part.values.items() if cells.get(name) is not None}
    return labelled(path, Row(row.where, {**cells, **called}), column, part.kind,
                    with_messages=ours)


def _called(what: str, value: Any, names: Mapping[str, str]) -> str:
    if str(value) in names:
        return names[str(value)]
    raise PromptFileError(f"{what} is {value!r}, for which the suite has no name; it has names for "
                          f"{', '.join(names)}. Add it to `values` in the suite's file.")


def _fresh(rows: Sequence[LabelledPrompt], known: set[str]) -> list[LabelledPrompt]:
    out: list[LabelledPrompt] = []
    for row in rows:
        text = "\n".join(m.content for m in row.request.messages) or row.request.text
        mark = key(text)
        if mark not in known:
            known.add(mark)
            out.append(row)
    return out
