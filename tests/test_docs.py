"""The documentation names what there is."""

import inspect
from pathlib import Path

import pytest

from sternpost import errors
from sternpost.cli import VERBS

ROOT = Path(__file__).parent.parent
ERRORS = [name for name, kind in inspect.getmembers(errors, inspect.isclass)
          if kind.__module__ == errors.__name__]


@pytest.fixture(scope="module")
def text() -> str:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_is_named(text: str, verb: str) -> None:
    assert f"sternpost {verb}" in text


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_named(text: str, name: str) -> None:
    assert name in text
