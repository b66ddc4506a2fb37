"""Which replies the report shows: about 60 prompts, those whose verdict changes first."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from markupsafe import escape

from sternpost.report.conditions import find, key, label, ordered, reference

PROMPTS = 60
CHANGED_SHARE = 0.75
"""Changed prompts fill this much of the place before unchanged ones get theirs."""
LETTERS = 1200
"""A longer reply or prompt is cut here, and says so."""
BUDGET = 1_500_000
"""Bytes of prompts and replies in one report."""
VERDICTS = ("refusal", "partial", "compliance", "incoherent", "unparsed")
_GATE = {"True": "gate open", "False": "gate closed"}
_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply as it is shown."""

    condition: str
    """What tells its condition from others."""
    name: str
    verdict: str
    text: str
    cut: int
    """How many letters are left out."""
    notes: str


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt with its replies under all conditions."""

    kind: str
    category: str
    language: str
    prompt: str
    before: str
    """The baseline's verdict, or nothing."""
    after: str
    """The reference clamp's, or nothing."""
    replies: tuple[Reply, ...]

    @property
    def changed(self) -> bool:
        """Whether the reference clamp changed the verdict."""
        return bool(self.before and self.after and self.before != self.after)

    @property
    def harmful(self) -> bool:
        """Whether prompt and replies are blurred until asked for."""
        return self.kind not in ("safe", "capability")


@dataclass(frozen=True, slots=True)
class Shown:
    """The prompts that a report shows, and of how many."""

    items: tuple[Item, ...]
    prompts: int
    replies: int
    changed: int


def choose(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Shown:
    """The prompts to show, those that changed first, kinds mixed."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for sample in samples:
        mark = str(sample.get("prompt_sha256") or sample["prompt"])
        groups.setdefault((str(sample["kind"]), mark), []).append(sample)
    items = [_item(results, group) for group in groups.values()]
    changed = _mixed(item for item in items if item.changed)
    same = _mixed(item for item in items if not item.changed)
    first = max(int(PROMPTS * CHANGED_SHARE), PROMPTS - len(same))
    chosen = [*changed[:first], *same][:PROMPTS]
    return Shown(tuple(_affordable(chosen)), len(items), len(samples), len(changed))


def verdict_counts(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]],
                   kind: str) -> list[tuple[str, list[tuple[str, int]]]]:
    """Per condition, in reading order: its name and how often each verdict was given."""
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        if sample["kind"] == kind:
            counter = counts.setdefault(key(sample["condition"], sample.get("value")), Counter())
            counter[_verdict(sample)] += 1
    rows = []
    for condition in ordered(results):
        counter = counts.get(key(condition["name"], condition.get("value")))
        if counter:
            rows.append((label(condition), [(name, counter[name]) for name in VERDICTS]))
    return rows


def readable(prompt: str) -> str:
    """A `messages` row (canonical JSON) as `user: ...` lines; any other prompt as it is."""
    if prompt.startswith("[{"):
        try:
            turns = json.loads(prompt)
            return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
        except (ValueError, KeyError, TypeError):
            pass
    return prompt


def _item(results: Mapping[str, Any], group: Sequence[Mapping[str, Any]]) -> Item:
    order = {key(c["name"], c.get("value")): i for i, c in enumerate(ordered(results))}
    ranked = sorted(group, key=lambda s: order.get(key(s["condition"], s.get("value")), len(order)))
    clamp = reference(results)
    first = group[0]
    language = str(first.get("language") or "")
    return Item(kind=str(first["kind"]), category=str(first.get("category") or ""),
                language=language if language.replace("-", "").isalnum() else "",
                prompt=_clean(readable(str(first["prompt"])))[:2 * LETTERS],
                before=_under(group, find(results, "baseline")), after=_under(group, clamp),
                replies=tuple(_reply(sample) for sample in ranked))


def _under(group: Sequence[Mapping[str, Any]], condition: Mapping[str, Any] | None) -> str:
    if condition is None:
        return ""
    wanted = key(condition["name"], condition.get("value"))
    return next((_verdict(s) for s in group
                 if key(s["condition"], s.get("value")) == wanted), "")


def _reply(sample: Mapping[str, Any]) -> Reply:
    text = _clean(str(sample.get("reply") or ""))
    notes = [f"feature {sample['feature']}" if sample["condition"] == "random_feature" else "",
             "" if sample.get("risk") is None else f"risk {sample['risk']:.2f}",
             _GATE.get(str(sample.get("fired")), "")]
    named = {"name": sample["condition"], "value": sample.get("value")}
    return Reply(condition=key(sample["condition"], sample.get("value")), name=label(named),
                 verdict=_verdict(sample), text=text[:LETTERS], cut=max(0, len(text) - LETTERS),
                 notes=", ".join(note for note in notes if note))


def _verdict(sample: Mapping[str, Any]) -> str:
    if sample["kind"] == "capability":
        return "right" if sample.get("hit") else "wrong"
    verdict = str(sample.get("verdict") or "unparsed")
    return verdict if verdict in VERDICTS else "unparsed"


def _clean(text: str) -> str:
    """Control characters made visible, lone surrogates replaced."""
    return text.translate(_CONTROL).encode("utf-8", "replace").decode()


def _mixed(items: Iterable[Item]) -> list[Item]:
    """The items in turn from each kind."""
    kinds: dict[str, list[Item]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item)
    rounds = zip_longest(*(kinds[kind] for kind in sorted(kinds, reverse=True)))
    return [item for turn in rounds for item in turn if item is not None]


def _affordable(items: Sequence[Item]) -> list[Item]:
    kept, spent = [], 0
    for item in items:
        spent += 2 * _bytes(item.prompt) + sum(_bytes(r.text) + 400 for r in item.replies)
        if spent > BUDGET and kept:
            break
        kept.append(item)
    return kept


def _bytes(text: str) -> int:
    return len(escape(text).encode())
