"""The rows of suites: read, told apart, copies between suites left out and counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.errors import InputError, PromptFileError
from sternpost.evaluation.copies import Placed, fresh, told_clashes
from sternpost.evaluation.suite import SUFFIXES, Part, Suite
from sternpost.files import canonical_json, sha256_text
from sternpost.prompts import sample
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
    known: dict[str, Placed] = {}
    return [_loaded(suite, source, limit, seed, {} if suite.attack else known)
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
            known: dict[str, Placed]) -> Loaded:
    found = Loaded(suite, [], [])
    blank: dict[str, dict[str, None]] = {}
    clashes: list[str] = []
    for part in suite.parts:
        for name, table in _tables(suite, part, source):
            rows = [Placed(_prompt(name, part, row), f"{name}, {row.where}", suite)
                    for row in table.rows if _kept(part, row)]
            blank.setdefault(name, {}).update(dict.fromkeys(
                row.where for row in table.rows if _blank(part, row)))
            left = fresh(rows, known)
            clashes += left.clashes
            found.duplicates += len(rows) - len(left.prompts)
            taken = sample(left.prompts, suite.limit if limit is None else limit, seed)
            found.prompts += taken
            found.files.append({"path": name, "sha256": table.sha256, "rows": len(taken)})
            if not rows and not part.optional:
                raise PromptFileError(_none_left(name, suite, part, len(blank[name])))
    if not found.prompts:
        raise InputError(f"Suite {suite.name} has no prompts left; rows that repeat earlier ones: "
                         f"{found.duplicates}; rows without a prompt: "
                         f"{sum(map(len, blank.values()))}. See that its files hold others.")
    there = {p.kind for p in found.prompts}
    absent = [part.file for part in suite.parts if part.optional and part.kind not in there]
    found.warnings = (
        *([f"{suite.name}: {', '.join(absent)} is not in the data folder and was left out."]
          if absent else []),
        *(f"{suite.name}: {_without_prompt(name, list(some))}" for name, some in blank.items()
          if some),
        *told_clashes(suite, clashes))
    return found


def _without_prompt(name: str, rows: Sequence[str]) -> str:
    if len(rows) == 1:
        return f"1 row of {name} has no prompt and is left out: {rows[0]}."
    return f"{len(rows)} rows of {name} have no prompt and are left out, such as {rows[0]}."


def _none_left(name: str, suite: Suite, part: Part, blank: int) -> str:
    only = "; ".join(f"{column} is {' or '.join(values)}" for column, values in part.only.items())
    kept = [*([f"those where {only}"] if only else []),
            *([f"those without {', '.join(part.without)}"] if part.without else [])]
    empty = f"; rows without a prompt: {blank}" if blank else ""
    mend = f"Correct the part in {suite.path}, or the file." if suite.own else "Correct the file."
    return (f"{name}: no row is left for suite {suite.name}, which keeps "
            f"{' and '.join(kept) or 'all'}{empty}. {mend}")


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
    lacking = {name: key for name, key in part.readers.items()
               if name not in table.columns and key != "without"}
    if lacking:
        asked = ", ".join(f"{name} as {key}" for name, key in lacking.items())
        mend = "Rename the table's" if not suite.own else f"Correct {suite.path}, or rename the"
        raise PromptFileError(
            f"{table.path} has no column {', '.join(lacking)}; suite {suite.name} asks for {asked}."
            f" The table's columns are {', '.join(table.columns)}. {mend} columns.")
    return table


def _kept(part: Part, row: Row) -> bool:
    return _has_prompt(part, row) and _chosen(part, row) and all(
        name in row.cells for name in part.only)


def _blank(part: Part, row: Row) -> bool:
    """Whether it is a row of the part, as far as can be told, with no prompt."""
    return not _has_prompt(part, row) and _chosen(part, row)


def _chosen(part: Part, row: Row) -> bool:
    return (all(name not in row.cells or str(row.cells[name]) in values
                for name, values in part.only.items())
            and not any(name in row.cells for name in part.without))


def _has_prompt(part: Part, row: Row) -> bool:
    ours = part.drawn or part.shipped
    return part.prompt in row.cells or bool(ours and "messages" in row.cells)


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


def _called(what: str, value: Any, names: Mapping[str, str]) -> str | None:
    if str(value) in names:
        return names[str(value)] or None
    raise PromptFileError(f"{what} is {value!r}, for which the suite has no name; it has names for "
                          f"{', '.join(names)}. Add it to `values` in the suite's file.")
