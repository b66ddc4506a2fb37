"""The documentation names what there is, links to what there is, and runs."""

import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import click
import pytest
import torch

import sternpost
from sternpost import errors
from sternpost.cli import VERBS
from sternpost.prompts import families, wrapper
from sternpost.sae import SAE, save_sae

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS, *sorted((ROOT / "notebooks").glob("*.ipynb"))]
ERRORS = [name for name, kind in inspect.getmembers(errors, inspect.isclass)
          if kind.__module__ == errors.__name__]


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def words_of(page: Path) -> str:
    """A page's Markdown; of a notebook, of its cells that are Markdown."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]
                       if cell["cell_type"] == "markdown")


@pytest.fixture(scope="module")
def text() -> str:
    return "\n".join(words_of(page) for page in [ROOT / "README.md", *DOCS])


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_is_named(text: str, verb: str) -> None:
    assert f"sternpost {verb}" in text


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_named(text: str, name: str) -> None:
    assert name in text


# ---- links -------------------------------------------------------------------------------------

def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def anchors(page: Path) -> set[str]:
    """The anchors that headings get: lower case, no punctuation, hyphens for blanks."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", words_of(page),
                                            flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(words_of(page))):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        assert target.exists(), f"{link} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_every_page_is_reached_from_the_index() -> None:
    index = words_of(ROOT / "docs" / "README.md")
    for page in DOCS:
        name = page.relative_to(ROOT / "docs").as_posix()
        if name not in ("README.md", "plan.md") and not name.startswith("decisions/"):
            assert f"({name})" in index


# ---- the reference -----------------------------------------------------------------------------

def test_the_reference_is_what_the_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    for path, wanted in reference.pages().items():
        assert path.is_file(), f"{page_id(path)} is missing. Type: {reference.TYPE}"
        assert path.read_text(encoding="utf-8") == wanted, \
            f"{page_id(path)} is stale. Type: {reference.TYPE}"
        for verb in VERBS if path.name == "cli.md" else ():
            assert f"\n## sternpost {verb.name}\n" in wanted
        for name in sternpost.__all__ if path.name == "api.md" else ():
            assert f"\n## {name}\n" in wanted


# ---- commands and code ---------------------------------------------------------------------------

def commands(text: str) -> Iterator[tuple[str, str]]:
    """Every `sternpost VERB ...` of a page, in code: the verb, and what follows it."""
    text = text.replace("\\\n", " ")
    lines = re.findall(r"^(?: {4}|> ?)?\s*(sternpost .*)$", text, re.M)
    for line in [*lines, *re.findall(r"`(sternpost [^`]*)`", text)]:
        found = re.match(r"sternpost ([a-z]+)\b(.*)", line)
        if found:
            yield found[1], found[2]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_have_the_options_that_they_are_given(page: Path) -> None:
    known = {verb.name: {name for part in (verb, *getattr(verb, "commands", {}).values())
                         for option in part.params if isinstance(option, click.Option)
                         for name in option.opts} | {"--help"} for verb in VERBS}
    for verb, rest in commands(words_of(page)):
        if verb in known:
            assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)) <= known[verb], (verb, rest)


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", words_of(page), re.M | re.S)


@pytest.mark.parametrize("page", [page for page in PAGES if "reference" not in page.parts
                                  and python_blocks(page)], ids=page_id)
def test_python_is_python(page: Path) -> None:
    for block in python_blocks(page):
        compile(block, page_id(page), "exec")


def test_steering_from_python_runs_as_written(tiny_models: dict[str, str], tmp_path: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    wide = SAE(torch.randn(600, 32), torch.randn(600, 32), torch.zeros(600), torch.zeros(32),
               sternpost.Hookpoint(1), k=8, threshold=torch.rand(600))
    save_sae(wide, tmp_path / "sae")
    space: dict[str, Any] = {}
    for block in python_blocks(ROOT / "docs" / "howto" / "python.md"):
        if "sternpost.run(" not in block:
            block = block.replace("path/to/model", tiny_models["phi3"])
            exec(block.replace("path/to/sae", str(tmp_path / "sae")), space)
    assert space["plain"].features == ()
    assert space["steered"].features == (597, 12)
    assert space["always"].where.names == "all"
    assert space["proof"].fired is True
    assert space["proof"].after == (8.0,)
    assert "layers.1" in capsys.readouterr().out


def test_the_page_on_attacks_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("unsafe", "safe"):
        rows = [json.dumps({"prompt": f"{kind} {n} of {kind} {n}"}) for n in range(120)]
        Path(f"{kind}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    page, space = ROOT / "docs" / "howto" / "attacks.md", dict[str, Any]()
    for block in python_blocks(page):
        exec(block, space)
    assert {row.family for row in space["test"]} == set(space["unseen"])
    assert not {row.family for row in space["fit"]} & set(space["unseen"])
    assert not {row.cluster for row in space["test"]} & {row.cluster for row in space["fit"]}
    assert {row.kind for row in space["test"]} == {"unsafe", "safe"}
    assert "build_up:" in capsys.readouterr().out
    told = re.findall(r"^\| `(\w+)` .*\| (yes|no) \|$", words_of(page), re.M)
    assert dict(told) == {name: "yes" if wrapper(name).verbatim else "no" for name in families()}


def test_the_readmes_show_the_same_example() -> None:
    both = [[line.partition("#")[0].rstrip() for line in python_blocks(ROOT / name)[0].splitlines()]
            for name in ("README.md", "README.zh.md")]
    assert both[0] == both[1]
