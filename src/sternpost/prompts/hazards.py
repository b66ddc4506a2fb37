"""The hazard taxonomy: names for what may be harmful in a request.

A `category` column may say anything; these names are those that sternpost's own data use and that
public standards are mapped to.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Hazard:
    """One category."""

    id: str
    name: str
    about: str
    mlcommons: str | None = None
    """The hazard of MLCommons AILuminate that it belongs to."""


@cache
def hazards() -> dict[str, Hazard]:
    """Every category of the taxonomy, by id; `none` is no hazard."""
    text = resources.files("sternpost.prompts").joinpath("hazards.toml").read_text("utf-8")
    return {key: Hazard(key, **entry) for key, entry in tomllib.loads(text).items()}
