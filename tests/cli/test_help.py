"""Help and version: quick, and without torch."""

import subprocess
import sys
from typing import Any

import click
import pytest

from sternpost import __version__
from sternpost.cli import VERBS
from sternpost.cli.options import spread

HEAVY = {"torch", "transformers", "numpy", "scipy", "pandas", "pyarrow", "statsmodels"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that are loaded after `code`, in a process of its own."""
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n" \
              "print('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=True)
    return set(done.stdout.rpartition("loaded: ")[2].split())


@pytest.mark.parametrize("code", [
    "import sternpost", "import sternpost.cli; sternpost.cli.main(['--help'])",
    "import sternpost.cli; sternpost.cli.main(['run', '--help'])",
    "import sternpost.cli; sternpost.cli.main(['--version'])"])
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    loaded = modules_after(code)
    assert "sternpost" in loaded
    assert not loaded & HEAVY


def test_version(cli: Any) -> None:
    said = cli("--version")
    assert said.code == 0
    assert said.out == f"sternpost, version {__version__}\n"


def test_help_lists_every_verb(cli: Any) -> None:
    said = cli("--help")
    assert said.code == 0
    for verb in VERBS:
        assert f"\n  {verb.name} " in said.out


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_and_nearly_every_option_says_what_it_is_for(cli: Any,
                                                                verb: click.Command) -> None:
    said = cli(verb.name, "--help")
    assert said.code == 0
    assert verb.help
    assert verb.help.splitlines()[0][:50] in said.out
    plain = {"device", "dtype"}  # their default says it
    for option in verb.params:
        if isinstance(option, click.Option) and option.name not in plain:
            assert option.help, option.name


def test_an_unknown_verb(cli: Any) -> None:
    said = cli("sail")
    assert said.code == 2
    assert "No such command 'sail'" in said.err


@pytest.mark.parametrize(("words", "want"), [
    ("--feature 1 2 --seed 3", "--feature 1 --feature 2 --seed 3"),
    ("--archetype a b r.toml", "--archetype a --archetype b r.toml"),
    ("--clamp 1=2 3=-4", "--clamp 1=2 --clamp 3=-4"),
    ("r.toml --seed 1", "r.toml --seed 1"), ("--values 1,2 r.toml", "--values 1,2 r.toml"),
    ("--feature 1 --feature 2 3", "--feature 1 --feature 2 --feature 3")])
def test_lists_of_words_are_spread(words: str, want: str) -> None:
    assert spread(words.split()) == want.split()
