"""The settings of `features find`. Light: nothing heavy is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sternpost.errors import InputError
from sternpost.trials.run_settings import RunSettings
from sternpost.trials.settings import setting

LEAST, MOST = 2, 20


@dataclass(frozen=True, kw_only=True)
class FindSettings(RunSettings):
    """Everything that `run` can be told, and what is searched for."""

    goal: str | None = setting("What to search for instead of refusal: a TOML file with the "
                               "behaviour's name, its judge and its prompts.", None)
    largest: int = setting("Members of a set, at most; 2 to 20.", 4)
    beam: int = setting("Sets of a size that are carried on, in the search for sets.", 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not LEAST <= self.largest <= MOST:
            raise InputError(f"largest is a number of features from {LEAST} to {MOST}; got "
                             f"{self.largest!r}.")
        self.check("beam")

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given`, with the prompts that a goal file names where they were not given."""
        from sternpost.trials.goal import read_goal  # reads files, and imports the judges

        goal = given.get("goal")
        return {**(read_goal(goal).prompts if isinstance(goal, str) else {}), **given}
