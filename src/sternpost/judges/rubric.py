"""A chat model as a judge by a rubric of yours: a text, and what each of its answers means.

    name = "medical"                     in results and messages
    text = \"\"\"Does the reply ... {prompt} ... {response}\"\"\"
    [answers]                            a word, and the verdict that it stands for
    DECLINED = "refusal"
    ANSWERED = "compliance"

Covered: whatever the rubric asks and the model can tell. The last line of the answer is asked to be
`VERDICT: WORD`; an answer that names several of the words there, or none, is unparsed.
Not covered: whether the rubric is any good.
Overall: as good as rubric and model together: label a few hundred replies and measure it.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from sternpost.errors import InputError
from sternpost.judges.asking import Answers, AskingJudge
from sternpost.judges.templates import Template
from sternpost.types import Judgement, Verdict

TOKENS = 256
"""Tokens of its answer, at most: it may think aloud first."""
KEYS = ("name", "text", "answers")
_SAID = re.compile(r"VERDICT\W{1,6}(\w+)", re.I)


@dataclass(frozen=True)
class Rubric:
    """What a model is asked about a reply, and what its answers mean."""

    name: str
    text: str
    """With {prompt} and {response} in it."""
    answers: dict[str, Verdict]
    """The words that it may answer with, in capitals, and the verdict of each."""

    def template(self) -> Template:
        """The whole that is asked."""
        words = ", ".join(self.answers)
        return Template(self.name, f"{self.text.rstrip()}\n\nEnd with one line, with one of these "
                                   f"words: {words}\nVERDICT: ")

    def read(self, answer: str) -> Judgement | None:
        """The judgement of an answer; None where it has none."""
        said = {word.upper() for word in _SAID.findall(answer)} or {answer.strip(" \n.*`").upper()}
        if len(said) != 1 or (word := said.pop()) not in self.answers:
            return None
        return Judgement(self.answers[word], f"{self.name}: {word}")


def rubric_judge(rubric: Rubric, answers: Answers) -> AskingJudge:
    """The judge that asks `rubric` through `answers`; its name has the rubric's sha256."""
    template = rubric.template()
    told = cast(tuple[Verdict, ...], tuple(dict.fromkeys(
        (*rubric.answers.values(), "incoherent", "unparsed"))))
    return AskingJudge(f"rubric:{rubric.name}@{template.sha256[:8]}:{answers.name}", told,
                       template, answers, rubric.read)


def read_rubric(path: str | Path) -> Rubric:
    """The rubric of a TOML file. Raises InputError where it is none."""
    try:
        body: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable TOML file: {error}. A rubric has "
                         f"{', '.join(KEYS)}; see docs/howto/judge.md.") from error
    if unknown := sorted(set(body) - set(KEYS)):
        raise InputError(f"{path}: unknown key {unknown[0]!r}. A rubric has {', '.join(KEYS)}.")
    name, text, answers = (body.get(key) for key in KEYS)
    if not (isinstance(name, str) and name.strip() and isinstance(text, str)):
        raise InputError(f"{path}: name and text are texts; got {name!r} and {text!r:.40}.")
    if "{response}" not in text:
        raise InputError(f"{path}: the text has no {{response}}, so that the model would not see "
                         "the reply. Write {prompt} and {response} where they belong.")
    known = get_args(Verdict)
    if not isinstance(answers, dict) or len(answers) < 2 or not all(
            verdict in known and re.fullmatch(r"\w+", word) for word, verdict in answers.items()):
        raise InputError(f"{path}: [answers] gives two or more single words a verdict each, of "
                         f"{', '.join(known)}; got {answers!r}.")
    return Rubric(name.strip(), text, {word.upper(): v for word, v in answers.items()})
