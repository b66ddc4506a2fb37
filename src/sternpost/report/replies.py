"""Which replies the report shows: about 60 prompts, those whose verdict changes first."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import escape

from sternpost.report.chosen import (
    VERDICTS,
    Shown,
    affordable,
    clean,
    mixed,
    placed,
    verdict_of,
)
from sternpost.report.conditions import find, key, label, ordered, reference
from sternpost.report.numerals import risk_text

PROMPTS = 60
CHANGED_SHARE = 0.75
"""Changed prompts fill this much of the place before unchanged ones get theirs."""
LETTERS = 1200
"""A longer reply or prompt is cut here, and says so."""


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


def choose(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Shown[Item]:
    """The prompts to show, those that changed first, kinds mixed."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for sample in samples:
        mark = str(sample.get("prompt_sha256") or sample["prompt"])
        groups.setdefault((str(sample["kind"]), mark), []).append(sample)
    items = [_item(results, group) for group in groups.values()]
    items.sort(key=lambda item: item.kind, reverse=True)
    changed = mixed((item for item in items if item.changed), lambda item: item.kind)
    same = mixed((item for item in items if not item.changed), lambda item: item.kind)
    chosen = placed(changed, same, PROMPTS, CHANGED_SHARE)
    return Shown(tuple(affordable(chosen, _size)), len(items), len(samples), len(changed))


def verdict_counts(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]],
                   kind: str) -> list[tuple[str, list[tuple[str, int]]]]:
    """Per condition, in reading order: its name and how often each verdict was given."""
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        if sample["kind"] == kind:
            counter = counts.setdefault(key(sample["condition"], sample.get("value")), Counter())
            counter[verdict_of(sample)] += 1
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
                prompt=clean(readable(str(first["prompt"])))[:2 * LETTERS],
                before=_under(group, find(results, "baseline")), after=_under(group, clamp),
                replies=tuple(_reply(sample, threshold) for sample in ranked))


def _under(group: Sequence[Mapping[str, Any]], condition: Mapping[str, Any] | None) -> str:
    if condition is None:
        return ""
    wanted = key(condition["name"], condition.get("value"))
    return next((verdict_of(s) for s in group
                 if key(s["condition"], s.get("value")) == wanted), "")


def _reply(sample: Mapping[str, Any], threshold: float | None) -> Reply:
    text = clean(str(sample.get("reply") or ""))
    notes = [f"feature {sample['feature']}" if sample["condition"] == "random_feature" else "",
             _decision(sample, threshold)]
    named = {"name": sample["condition"], "value": sample.get("value")}
    fired = sample.get("fired")
    return Reply(condition=key(sample["condition"], sample.get("value")), name=label(named),
                 verdict=verdict_of(sample), text=text[:LETTERS], cut=max(0, len(text) - LETTERS),
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


def _size(item: Item) -> int:
    return 2 * _bytes(item.prompt) + sum(_bytes(reply.text) + 400 for reply in item.replies)


def _bytes(text: str) -> int:
    return len(escape(text).encode())
