"""Which replies the report shows: about 60 prompts, those whose verdict changes first."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from markupsafe import escape

from sternpost.report.conditions import find, key, label, ordered, reference
from sternpost.report.numerals import risk_text

PROMPTS = 60
CHANGED_SHARE = 0.75
"""Changed prompts fill this much of the place before unchanged ones get theirs."""
LETTERS = 1200
"""A longer reply or prompt is cut here, and says so."""
BUDGET = 1_500_000
"""Bytes of prompts and replies in one report."""
VERDICTS = ("refusal", "partial", "compliance", "incoherent", "unparsed")
GOLDEN = (5 ** 0.5 - 1) / 2
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
    gate: str
    """`fired`, `shut`, or nothing where no gate was asked."""


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
    """Baseline, reference and gated clamp first."""

    @property
    def gate(self) -> str:
        """What the gate did on this prompt: `fired`, `shut`, or nothing."""
        return next((reply.gate for reply in self.replies if reply.gate), "")

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
    clamp = reference(results)
    first_three = [find(results, "baseline"), clamp, find(results, "gated_clamp")]
    shown = [*(c for c in first_three if c), *(c for c in ordered(results) if c not in first_three)]
    order = {key(c["name"], c.get("value")): i for i, c in enumerate(shown)}
    ranked = sorted(group, key=lambda s: order.get(key(s["condition"], s.get("value")), len(order)))
    first = group[0]
    threshold = (results.get("gate") or {}).get("threshold")
    language = str(first.get("language") or "")
    return Item(kind=str(first["kind"]), category=str(first.get("category") or ""),
                language=language if language.replace("-", "").isalnum() else "",
                prompt=_clean(readable(str(first["prompt"])))[:2 * LETTERS],
                before=_under(group, find(results, "baseline")), after=_under(group, clamp),
                replies=tuple(_reply(sample, threshold) for sample in ranked))


def _under(group: Sequence[Mapping[str, Any]], condition: Mapping[str, Any] | None) -> str:
    if condition is None:
        return ""
    wanted = key(condition["name"], condition.get("value"))
    return next((_verdict(s) for s in group
                 if key(s["condition"], s.get("value")) == wanted), "")


def _reply(sample: Mapping[str, Any], threshold: float | None) -> Reply:
    text = _clean(str(sample.get("reply") or ""))
    notes = [f"feature {sample['feature']}" if sample["condition"] == "random_feature" else "",
             _decision(sample, threshold)]
    named = {"name": sample["condition"], "value": sample.get("value")}
    fired = sample.get("fired")
    return Reply(condition=key(sample["condition"], sample.get("value")), name=label(named),
                 verdict=_verdict(sample), text=text[:LETTERS], cut=max(0, len(text) - LETTERS),
                 notes=", ".join(note for note in notes if note),
                 gate="" if fired is None else "fired" if fired else "shut")


def _decision(sample: Mapping[str, Any], threshold: float | None) -> str:
    """The gate's risk and what it did: `risk 0.964 (threshold 0.792): gate fired, steered`."""
    risk, fired = sample.get("risk"), sample.get("fired")
    said = "" if risk is None else f"risk {risk_text(risk)}"
    if said and threshold is not None:
        said += f" (threshold {risk_text(threshold)})"
    if fired is None:
        return said
    done = "gate fired, steered" if fired else "gate shut, not steered"
    return f"{said}: {done}" if said else done


def _verdict(sample: Mapping[str, Any]) -> str:
    if sample["kind"] == "capability":
        return "right" if sample.get("hit") else "wrong"
    verdict = str(sample.get("verdict") or "unparsed")
    return verdict if verdict in VERDICTS else "unparsed"


def _clean(text: str) -> str:
    """Control characters made visible, lone surrogates replaced."""
    return text.translate(_CONTROL).encode("utf-8", "replace").decode()


def _mixed(items: Iterable[Item]) -> list[Item]:
    """The items in turn from each kind, each kind's spread over the whole of it."""
    kinds: dict[str, list[Item]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item)
    kinds = {kind: _spread(same) for kind, same in kinds.items()}
    rounds = zip_longest(*(kinds[kind] for kind in sorted(kinds, reverse=True)))
    return [item for turn in rounds for item in turn if item is not None]


def _spread(items: Sequence[Item]) -> list[Item]:
    """The items so that any first few come from all over the list: files are sorted by language.

    The fractional parts of i * golden ratio are spread evenly (a Weyl sequence).
    """
    order = sorted(range(len(items)), key=lambda i: i * GOLDEN % 1)
    return [items[i] for i in order]


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
