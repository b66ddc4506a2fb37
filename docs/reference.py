"""The reference pages, written from the code: `python docs/reference.py`.

    docs/reference/cli.md    every verb and option, from the commands of `sternpost.cli`
    docs/reference/api.md    every public name, with its signature and docstring
    docs/reference/models.md every architecture of the table, and what it does not keep
    docs/reference/speed.md, conformance.md, damage.md, generality.md, seeds.md: what benchmarks
                             have measured (measured.py)

Nothing here asks a terminal for its width or Python for its own way of printing types, so that the
pages are the same everywhere. `tests/test_docs.py` fails while they are stale.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click
import measured

import sternpost
from sternpost.cli import VERBS
from sternpost.engines.architectures import ARCHITECTURES
from sternpost.engines.steering import Run
from sternpost.files import write_text
from sternpost.jobs.atlas import Atlas
from sternpost.jobs.chat import Conversation, Turn
from sternpost.jobs.describe import Described
from sternpost.jobs.doctor import Check, Checkup
from sternpost.jobs.features_find import FoundFeatures
from sternpost.jobs.pack_confirm import Confirmation
from sternpost.jobs.result import RunResult
from sternpost.jobs.sae_list import PublicSAE, PublicSAEs
from sternpost.jobs.search import Match, Matches
from sternpost.jobs.trace import Trace
from sternpost.packs.pack import PackPlace
from sternpost.sae import SAE
from sternpost.trials.dry_run import RunPlan
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Proof

FOLDER = Path(__file__).parent / "reference"
TYPE = "python docs/reference.py"
MADE = f"<!-- Written by `{TYPE}`; change the code, not this page. -->"
GIVEN_BACK = (Run, Proof, SAE, PackPlace, Confirmation, RunResult, RunPlan, Conversation, Turn,
              Checkup, Check, PublicSAEs, PublicSAE, FoundFeatures, Described, Matches, Match,
              Atlas, Trace)
"""What the public functions give back."""


def pages() -> dict[Path, str]:
    """Every page of the reference, by its path."""
    return {FOLDER / "cli.md": cli(), FOLDER / "api.md": api(), FOLDER / "models.md": models(),
            FOLDER / "speed.md": _page(["# Speed", MADE, *measured.speed()]),
            FOLDER / "conformance.md": _page(["# Conformance", MADE, *measured.conformance()]),
            FOLDER / "damage.md": _page(["# What a clamp breaks", MADE, *measured.damage()]),
            FOLDER / "generality.md": _page(["# Does it hold elsewhere?", MADE,
                                             *measured.generality()]),
            FOLDER / "seeds.md": _page(["# Seeds", MADE, *measured.seeds()])}


# ---- the command line ----------------------------------------------------------------------------

def cli() -> str:
    """Every verb with its options."""
    parts = ["# The command line", MADE,
             "Exit codes are explained under [errors](../errors.md); what a word means under "
             "[words](../words.md). `sternpost VERB --help` says the same as this page."]
    return _page([*parts, *(text for verb in VERBS for text in _verb(verb))])


def _verb(verb: click.Command) -> Iterator[str]:
    if isinstance(verb, click.Group):
        yield f"## sternpost {verb.name}"
        yield inspect.cleandoc(verb.help or "")
        for part in verb.commands.values():
            yield from _command(part, f"sternpost {verb.name} {part.name}", "###")
    else:
        yield from _command(verb, f"sternpost {verb.name}", "##")


def _command(verb: click.Command, name: str, heading: str) -> Iterator[str]:
    arguments = [f"[{p.name.upper()}]" for p in verb.params
                 if isinstance(p, click.Argument) and p.name]
    yield f"{heading} {name}"
    yield "    " + " ".join([name, *arguments, "[OPTIONS]"])
    yield inspect.cleandoc(verb.help or "")
    options = [p for p in verb.params if isinstance(p, click.Option)]
    if verb.name == "run":
        needed = [f"`--{f.name}`" for f in fields(RunSettings) if f.default is MISSING]
        yield f"Needed, as options or in the recipe: {', '.join(needed)}."
    yield "\n".join(["| option | value | what it is | default |", "|---|---|---|---|",
                     *map(_option, options)])


def _option(option: click.Option) -> str:
    text = inspect.cleandoc(option.help or "")
    shown = option.default if option.show_default is True else None
    if found := re.search(r"\s*\[default: (.*)\]$", text):
        text, shown = text[:found.start()], found[1]
    words = ["" if shown is None or option.is_flag else f"`{shown}`"]
    if option.required:
        words = ["needed"]
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return f"| {names} | {_cell(_value(option))} | {_cell(text)} | {words[0]} |"


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " or ".join(f"`{choice}`" for choice in option.type.choices)
    return f"`{option.metavar or option.type.name.upper()}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# ---- Python --------------------------------------------------------------------------------------

def api() -> str:
    """Every public name, then what the functions give back."""
    names = ", ".join(f"[`{name}`](#{name.lower()})" for name in sternpost.__all__)
    parts = ["# Python", MADE,
             "The public API is `sternpost.__all__`: what stands here keeps its name and its "
             "arguments within a major version. Errors are listed under [errors](../errors.md).",
             names]
    for name in sternpost.__all__:
        thing = getattr(sternpost, name)
        parts += [f"## {name}", _signature(name, thing), inspect.getdoc(thing) or ""]
        if inspect.isclass(thing):  # fields that say no more than the signature are left out
            parts.append(_list([(head, doc) for head, doc in _members(thing) if doc]))
    parts += ["# What they give back", "Records that the functions above return. Their fields may "
              "be read; make none yourself."]
    for kind in GIVEN_BACK:
        parts += [f"## {kind.__name__}", inspect.getdoc(kind) or "", _list(_members(kind))]
    return _page(parts)


def _signature(name: str, thing: Any) -> str:
    """The call as Python code; of an exception, its parents."""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return f"```python\nclass {name}({thing.__bases__[0].__name__})\n```"
    found = inspect.signature(thing)
    parameters = []
    starred = False
    for p in found.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not starred:
            parameters.append("*")
            starred = True
        parameters.append(_parameter(p))
    back = "" if inspect.isclass(thing) else _type(thing.__annotations__.get("return"))
    head = f"sternpost.{name}("
    tail = f") -> {back}" if back else ")"
    line = head + ", ".join(parameters) + tail
    if len(line) > 88:
        line = head + "\n" + "".join(f"    {text},\n" for text in parameters) + tail
        line = line.replace("    *,\n    ", "    *, ")
    return f"```python\n{line}\n```"


def _parameter(p: inspect.Parameter) -> str:
    name = "**" + p.name if p.kind is p.VAR_KEYWORD else p.name
    kind = "" if p.annotation is p.empty else f": {_type(p.annotation)}"
    return name + kind + ("" if p.default is p.empty else f" = {p.default!r}")


def _type(annotation: Any) -> str:
    """An annotation as it would be typed: no module names, no quotes around all of it."""
    if annotation is None:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)


def _list(members: list[tuple[str, str]]) -> str:
    """Fields, properties and methods as a list, each on a line."""
    return "\n".join(f"- `{head}`" + (f": {doc}" if doc else "") for head, doc in members)


def _members(kind: type) -> list[tuple[str, str]]:
    """Public fields, properties and methods of a class as written, with their docstrings."""
    return [(head, " ".join(inspect.cleandoc(doc).split()))
            for head, doc in _documented(_source(kind))]


def _source(kind: type) -> ast.ClassDef:
    """A class as it is written. The file is read, so that no decorator stands before it."""
    file = Path(str(sys.modules[kind.__module__].__file__))
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return next(node for node in tree.body
                if isinstance(node, ast.ClassDef) and node.name == kind.__name__)


def _documented(node: ast.ClassDef | ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for at, item in enumerate(node.body):
        if isinstance(item, ast.AnnAssign) and (name := _name(item.target)):
            yield f"{name}: {_written(item.annotation)}", _doc_after(node.body[at + 1:])
        elif isinstance(item, ast.FunctionDef) and item.name == "__init__":
            yield from _documented(item)
        elif isinstance(item, ast.FunctionDef) and item.name[0] != "_":
            back = f" -> {_written(item.returns)}" if item.returns else ""
            is_property = any(_written(d) == "property" for d in item.decorator_list)
            call = "" if is_property else f"({_arguments(item)})"
            shown = back.replace(" ->", ":", 1) if is_property else back
            yield item.name + call + shown, ast.get_docstring(item) or ""


def _name(target: ast.expr) -> str | None:
    """The public name of a field, `x: int`, or of `self.x: int`."""
    name = target.id if isinstance(target, ast.Name) else \
        target.attr if isinstance(target, ast.Attribute) else "_"
    return None if name[0] == "_" else name


def _arguments(function: ast.FunctionDef) -> str:
    text = re.sub(r"^(self|cls)(, )?", "", ast.unparse(function.args))
    return text.replace("=", " = ")


def _written(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return "" if node is None else ast.unparse(node)


def _doc_after(body: list[ast.stmt]) -> str:
    """The docstring below a field."""
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return str(first.value.value)
    return ""


# ---- architectures -------------------------------------------------------------------------------

LOST = ("padding", "positions", "chunks", "batch")


def models() -> str:
    """The table of architectures."""
    rows = [f"| `{name}` | `{row.blocks}` | " + " | ".join(
        "" if (off := getattr(row, key)) is None else f"{off:g}" for key in LOST) + " |"
        for name, row in ARCHITECTURES.items()]
    columns = "\n".join(f"- **{key}**: {doc}" for key, doc in (
        ("padding", "a left-padded row against its lone run"),
        ("positions", "the same where no `position_ids` are given; with them it is kept"),
        ("chunks", "a prompt read in two cached parts against one"),
        ("batch", "several rows carried on side by side from their state, against each alone")))
    return _page([
        "# Models", MADE,
        "Any Hugging Face causal language model can be steered. These architectures, by the "
        "`model_type` of their config, are tested: edits are the formula to 1e-5, a row does not "
        "depend on its neighbours, on padding, on the cache or on chunks. Others are found by "
        "their structure; `sternpost doctor --model M` says whether that was right.",
        "Some models do not keep all of that themselves, steered or not. The figure is max|dh| / "
        "max|h| of a tiny random model in float32 under transformers 5.23. sternpost raises an "
        "error where it would steer such a wrong result; an empty cell is kept to rounding.",
        columns,
        "\n".join(["| architecture | blocks | " + " | ".join(LOST) + " |",
                   "|---|---|" + "---|" * len(LOST), *rows])])


def _page(parts: list[str]) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


if __name__ == "__main__":
    for path, text in pages().items():
        write_text(path, text)
        click.echo(f"written: docs/reference/{path.name}")
