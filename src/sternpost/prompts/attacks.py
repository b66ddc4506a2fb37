"""What every attack keeps of its prompt, and rows of whole attack families set apart.

    family    the attack's name: a wrapper's, or build_up:SCRIPT
    cluster   the prompt's own or, without one, its sha256: by it `split_prompts` and the leakage
              check keep a prompt and all attacks that carry it on one side
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sternpost.errors import InputError
from sternpost.prompts.rows import conversation
from sternpost.types import LabelledPrompt, Message, Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows in two parts, each in order."""

    held: tuple[LabelledPrompt, ...]
    """Those of the named families."""
    rest: tuple[LabelledPrompt, ...]


def held_out(prompts: Sequence[LabelledPrompt], names: Sequence[str]) -> HeldOut:
    """The rows of the families `names`, and all others. `build_up` names all its scripts.

    It looks at families alone: a request that is held in one wrapper may stand in the rest plain
    or in another. Split the requests as well, before they are wrapped.
    """
    marks = {mark for p in prompts if p.family for mark in (p.family, p.family.split(":")[0])}
    if unknown := sorted(set(names) - marks):
        raise InputError(f"No prompt is of the family {', '.join(unknown)}, so nothing would be "
                         f"held out by that name. The prompts' families: "
                         f"{', '.join(sorted(marks)) or 'none'}.")
    held = [bool({p.family, (p.family or "").split(":")[0]} & set(names)) for p in prompts]
    return HeldOut(tuple(p for p, is_held in zip(prompts, held, strict=True) if is_held),
                   tuple(p for p, is_held in zip(prompts, held, strict=True) if not is_held))


def asked(prompt: LabelledPrompt) -> str:
    """The words that an attack is put around: those of the last turn, the user's. Raises
    InputError where there is none, or where the prompt stands in an attack already."""
    messages = prompt.request.messages
    if not messages or messages[-1].role != "user":
        raise InputError(f"Only a request of a user can be put into an attack; got "
                         f"{prompt.request.text[:80]!r} of kind {prompt.kind}.")
    if prompt.family is not None and prompt.kind in ("unsafe", "safe"):
        raise InputError(f"{prompt.request.text[:80]!r} is of the family {prompt.family!r} "
                         "already; in a second attack it could no longer be held out by its first. "
                         "Give prompts whose family is empty.")
    return messages[-1].content


def marked(prompt: LabelledPrompt, turns: Sequence[str], family: str) -> LabelledPrompt:
    """The prompt with its last turn replaced by the user's `turns`; all that is known of it is
    kept but for its family and cluster."""
    request = prompt.request
    plain = len(request.messages) == len(turns) == 1 and conversation(request.messages) != request
    messages = (*request.messages[:-1], *(Message("user", turn) for turn in turns))
    return replace(prompt, request=Request(messages, turns[0]) if plain else conversation(messages),
                   family=family, cluster=prompt.cluster or request.sha256)


def chosen(names: Sequence[str], known: Sequence[str], what: str) -> Sequence[str]:
    """The names, each once, or all that are known. Raises InputError where one is not."""
    if unknown := sorted(set(names) - set(known)):
        raise InputError(f"There is no {what} {', '.join(unknown)}. Name of these: "
                         f"{', '.join(known)}.")
    return list(dict.fromkeys(names)) or known


def worded(library: Mapping[str, T], language: str) -> T:
    """What a library has in a language. Raises InputError where it has nothing."""
    if language not in library:
        raise InputError(f"Attacks are worded in {', '.join(library)}; got {language!r}. Prompts "
                         "in other languages are given the English ones.")
    return library[language]
