"""Which replies a page shows: as many as it has place for, those that changed first.

    the changed ones fill most places before others get theirs; both in turn from each group, spread
    over the whole of it; cut off where the page grows too large
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Generic, TypeVar

BUDGET = 1_500_000
"""Bytes of prompts and replies in one page."""
VERDICTS = ("refusal", "partial", "compliance", "incoherent", "unparsed")
GOLDEN = (5 ** 0.5 - 1) / 2
_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shown(Generic[T]):
    """The prompts that a page shows, and of how many."""

    items: tuple[T, ...]
    prompts: int
    replies: int
    changed: int


def placed(changed: Sequence[T], rest: Sequence[T], places: int, share: float) -> list[T]:
    """The changed ones first, in `share` of the `places`, or in what the rest leave of them."""
    first = max(int(places * share), places - len(rest))
    return [*changed[:first], *rest][:places]


def mixed(items: Iterable[T], group: Callable[[T], Hashable]) -> list[T]:
    """The items in turn from each group, in the groups' own order of appearance, each spread over
    the whole of it: files are sorted by language.

    The fractional parts of i * golden ratio are spread evenly (a Weyl sequence).
    """
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    spread = [[some[i] for i in sorted(range(len(some)), key=lambda i: i * GOLDEN % 1)]
              for some in groups.values()]
    return [item for turn in zip_longest(*spread) for item in turn if item is not None]


def affordable(items: Iterable[T], size: Callable[[T], int]) -> list[T]:
    """Items until their bytes fill the page; at least one."""
    kept: list[T] = []
    spent = 0
    for item in items:
        spent += size(item)
        if spent > BUDGET and kept:
            break
        kept.append(item)
    return kept


def verdict_of(sample: Mapping[str, Any]) -> str:
    """What a page calls the reply: a verdict, or whether a task is right."""
    if sample["kind"] == "capability":
        return "right" if sample.get("hit") else "wrong"
    verdict = str(sample.get("verdict") or "unparsed")
    return verdict if verdict in VERDICTS else "unparsed"


def clean(text: str) -> str:
    """Control characters made visible, lone surrogates replaced."""
    return text.translate(_CONTROL).encode("utf-8", "replace").decode()
