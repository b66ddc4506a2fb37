"""A run's own lines as annotators and judges are to see them: what had been said, and the reply.

    a plain prompt          itself
    a build-up, turn k      its user turns up to the k-th, with the model's earlier replies between
    an attack, turn k       what the attacker asked up to the k-th turn, likewise

Earlier replies stand in the lines of their own turns. Of a build-up that has one line alone, that
of its last reply, they were not kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from json import loads
from pathlib import Path
from typing import Any

from sternpost.errors import InputError
from sternpost.files import read_jsonl, sha256_file, sha256_text
from sternpost.store import Sample
from sternpost.store.sheets import named
from sternpost.types import Completion, Message, Request

KINDS = ("unsafe", "safe")
"""Of the prompts whose replies are labelled."""
ROLES = ("system", "user", "assistant")
LOST = "[a reply that was not kept]"
_CUT = "cut off while still thinking"


def lines_of(samples: Path) -> list[Sample]:
    """The lines of samples.jsonl that can stand on a sheet."""
    return [line for line in read_jsonl(samples) if line.get("kind") in KINDS]


class Talks:
    """The conversations that a run's replies were made in."""

    def __init__(self, lines: Iterable[Sample]) -> None:
        self._turns = {(*_talk(line), line["turn"]): line for line in lines
                       if line.get("turn") is not None}

    def before(self, line: Sample) -> tuple[Message, ...]:
        """What had been said when the line's reply was made."""
        at, script = line.get("turn"), turns_of(line["prompt"])
        if at is None:
            return script
        earlier = [self._turns.get((*_talk(line), turn), {}) for turn in range(at)]
        if "asked" in line:
            script = tuple(Message("user", one["asked"]) for one in (*earlier, line) if one)
        return _until(script, [one.get("reply") for one in earlier])

    def shown(self, line: Sample) -> str:
        """The same as a text to read: a plain prompt as it is, else a line a turn."""
        said = self.before(line)
        return line["prompt"] if said == (Message("user", line["prompt"]),) else _transcript(said)

    def completion(self, line: Sample) -> Completion:
        """The reply as a judge is given it: no verdict in it."""
        reply = line["reply"]
        answer = None if _CUT in (line.get("reason") or "") else reply.rpartition("</think>")[2]
        return Completion(Request(turns_of(line["prompt"]), line["prompt"]), reply, answer,
                          messages=(*self.before(line), Message("assistant", reply)))


def completions_of(path: str, key: Mapping[str, Any],
                   rows: Sequence[Mapping[str, Any]]) -> list[Completion]:
    """The replies that rows of a key stand for, out of the run's own lines: annotators may have
    changed the sheet's texts. Raises InputError where the run is not there as it was."""
    lines = lines_of(_samples(path, key))
    talks, known = Talks(lines), dict[tuple[Any, ...], Sample]()
    for line in lines:  # one reply at two turns of a build-up: the first turn's stands for both
        known.setdefault((named(line), line.get("suite"), line.get("prompt_sha256"),
                          sha256_text(line["reply"].strip()), line["verdict"]), line)
    return [talks.completion(known[row["condition"], row["suite"], row["prompt_sha256"],
                                   row["reply_sha256"], row["verdict"]]) for row in rows]


def _samples(path: str, key: Mapping[str, Any]) -> Path:
    identity, run = key["identity"], key.get("run")
    source = Path(run or "") / "samples.jsonl"
    if run and source.is_file() and sha256_file(source) == identity["samples"]:
        return source
    wrong = "the sheet's key does not say where its run lies" if not run else \
        f"{source} was changed since the sheet was drawn" if source.is_file() else \
        f"{source} is not there"
    raise InputError(
        f"--judge judges the replies of the sheet's run anew, and {wrong}. Type: sternpost judge "
        f"sample RUN --n {identity['n']} --seed {identity['seed']} --out {path} with the run's "
        "folder: where that is the sheet's run, its place is noted and the labels stay as they "
        "are. Or leave out --judge to measure the verdicts that the run came with.")


def _talk(line: Sample) -> tuple[Any, ...]:
    return line["condition"], line.get("value"), line.get("suite"), line["prompt"]


def turns_of(prompt: str) -> tuple[Message, ...]:
    """The turns of a prompt: of a `messages` row, which is JSON, or the one of a plain text."""
    try:
        turns = loads(prompt) if prompt.startswith("[{") else ()
        found = tuple(Message(turn["role"], turn["content"]) for turn in turns)
    except (ValueError, KeyError, TypeError, RecursionError):
        found = ()
    good = all(turn.role in ROLES and isinstance(turn.content, str) for turn in found)
    return found if found and good else (Message("user", prompt),)


def _until(script: Sequence[Message], replies: Sequence[str | None]) -> tuple[Message, ...]:
    """The script up to the turn that has so many replies before it, with those that are known."""
    said: list[Message] = []
    met = 0
    for turn, after in zip_longest(script, script[1:]):
        given = turn.role == "assistant"  # the script has a reply of its own there
        if given and met == len(replies):
            break
        said.append(turn)
        if given:
            met += 1
        elif turn.role == "user" and not (after and after.role == "assistant"):
            if met == len(replies):
                break
            reply, met = replies[met], met + 1
            said += [] if reply is None else [Message("assistant", reply)]
    return tuple(said)


def _transcript(said: Sequence[Message]) -> str:
    lines: list[str] = []
    for turn, after in zip_longest(said, said[1:]):
        lines.append(f"{turn.role}: {turn.content}")
        if after and turn.role == after.role == "user":
            lines.append(f"assistant: {LOST}")
    return "\n".join(lines)
