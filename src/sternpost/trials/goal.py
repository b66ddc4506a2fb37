"""What a search looks for: refusal, or what a goal file says.

    name = "apology"                     in results and messages
    about = "the reply says sorry"
    patterns = ["\\\\bsorry\\\\b"]           regular expressions that give it away in a reply; or
    judge = "judges.py:apologises"       a Judge of yours, and which of its verdicts are wanted:
    wanted = ["shown"]
    unsafe = "should.jsonl"              prompts that should bring it about, seen from the file
    safe = "should-not.jsonl"            those that should not; --unsafe and --safe win over both
    archetype = ["Say sorry."]           prompts whose replies show it best
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from sternpost.errors import InputError
from sternpost.files import sha256_file, sha256_text
from sternpost.judges import WordListJudge
from sternpost.judges.phrases import PhraseJudge
from sternpost.trials.own import own_object
from sternpost.types import (
    REFUSAL,
    Completion,
    Goal,
    Judge,
    JudgeAccuracy,
    Judgement,
    Verdict,
)

KEYS = ("name", "about", "patterns", "judge", "wanted", "unsafe", "safe", "archetype")
MakeJudge = Callable[..., Judge]
"""Takes nll and nll_limit, both or neither."""


@dataclass(frozen=True)
class Sought:
    """A goal, and how its judge is made."""

    goal: Goal
    judge: MakeJudge
    prompts: Mapping[str, Any]
    """Settings that the file gives: unsafe, safe, archetype."""
    sha256: str | None = None
    """Of the goal file."""


REFUSALS = Sought(REFUSAL, WordListJudge, {})


def read_goal(path: str | None) -> Sought:
    """The goal of a file; refusal without one. Raises InputError where the file is none."""
    if path is None:
        return REFUSALS
    place = Path(path)
    try:
        body = tomllib.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"No goal file at {path}. Give a TOML file with name, about and patterns, "
                         "or leave out --goal to search for refusal.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a TOML file: {error}.") from error
    _check(body, path)
    prompts = {key: body[key] if body[key].startswith("hf:") else str(place.parent / body[key])
               for key in ("unsafe", "safe") if key in body}
    if "archetype" in body:
        prompts["archetype"] = tuple(body["archetype"])
    told = {"prompts": prompts, "sha256": sha256_file(place)}
    if "judge" in body:
        judge = OwnJudge(body["judge"], *own_object(
            body["judge"], place.parent, "judge",
            "takes completions and gives one Judgement each"))
        goal = Goal(body["name"], body["about"], tuple(body["wanted"]))
        told["sha256"] = sha256_text(told["sha256"] + judge.sha256)
        return Sought(goal, lambda nll=None, nll_limit=None: judge, **told)
    patterns = _compiled(body["patterns"], path)
    return Sought(Goal(body["name"], body["about"], ("shown",)),
                  lambda nll=None, nll_limit=None: PhraseJudge(patterns, nll, nll_limit), **told)


def _check(body: Mapping[str, Any], path: str) -> None:
    for key in body:
        if key not in KEYS:
            raise InputError(f"{path}: unknown key {key!r}. A goal has {', '.join(KEYS)}.")
    for key in ("name", "about"):
        if not isinstance(body.get(key), str) or not body[key].strip():
            raise InputError(f"{path}: {key} is a text; got {body.get(key)!r}.")
    if ("patterns" in body) == ("judge" in body):
        raise InputError(f"{path}: give either patterns (regular expressions) or judge "
                         "(file.py:name), so that it is known who tells whether a reply shows it.")
    for key in ("unsafe", "safe", "judge"):
        if not isinstance(body.get(key, ""), str):
            raise InputError(f"{path}: {key} is a text; got {body[key]!r}.")
    for key in ("patterns", "wanted", "archetype"):
        given = body.get(key, [""])
        if not isinstance(given, list) or not given or not all(isinstance(x, str) for x in given):
            raise InputError(f"{path}: {key} is a list of texts; got {given!r}.")
    unknown = set(body.get("wanted", ())) - set(get_args(Verdict))
    if unknown or ("judge" in body) != ("wanted" in body):
        raise InputError(f"{path}: wanted lists, beside judge, those of its verdicts that show the "
                         f"behaviour: some of {', '.join(get_args(Verdict))}; got "
                         f"{body.get('wanted')!r}.")


def _compiled(patterns: list[str], path: str) -> list[re.Pattern[str]]:
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise InputError(f"{path}: {error.pattern!r} is no regular expression: {error}.") from error


class OwnJudge:
    """A judge of the user's own, with what it gives checked: one of `verdicts`, and a reason."""

    accuracy = JudgeAccuracy(None, None, 0, "not measured")

    def __init__(self, spec: str, told: Callable[..., Any], sha256: str,
                 verdicts: tuple[Verdict, ...] = get_args(Verdict)) -> None:
        self.name, self.told, self.sha256, self.verdicts = spec, told, sha256, verdicts

    def __call__(self, completions: Sequence[Completion]) -> list[Judgement]:
        """One judgement a completion. Raises InputError where the judge fails or gives another
        thing."""
        try:
            found = list(self.told(completions))
        except Exception as error:
            raise InputError(f"The judge {self.name} raised {type(error).__name__}: {error}. It "
                             "takes completions and gives one Judgement each.") from error
        wrong = [f for f in found if not isinstance(f, Judgement) or f.verdict not in self.verdicts
                 or not isinstance(f.reason, str)]
        if wrong or len(found) != len(completions):
            got = f"{wrong[0]!r:.80}" if wrong else f"{len(found)} things" if found else "nothing"
            raise InputError(f"The judge {self.name} gave {got} for {len(completions)} replies. It "
                             f'gives one sternpost.types.Judgement("{self.verdicts[0]}", "why") '
                             f"each; verdicts are {', '.join(self.verdicts)}.")
        return found
