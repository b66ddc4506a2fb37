"""Which replies an evaluation's page shows: a few hundred prompts, changed verdicts first.

A prompt is shown with the baseline's reply and the steered one side by side, a script with all its
turns.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sternpost.report.chosen import Shown, affordable, clean, mixed, placed, verdict_of
from sternpost.report.evaluation_rows import title_of
from sternpost.report.numerals import risk_text, value_text
from sternpost.report.replies import readable

PROMPTS = 240
CHANGED_SHARE = 0.8
"""Changed prompts fill this much of the place before unchanged ones get theirs."""
LETTERS = 900
"""A longer reply or prompt is cut here, and says so."""
SIDES = ("baseline", "steered")
Sample = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """One reply as it is shown."""

    side: str
    verdict: str
    text: str
    cut: int
    """How many letters are left out."""
    reason: str
    judge: str
    risk: str
    gate: str
    """`fired`, `shut`, or nothing where no gate was asked."""
    edits: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a prompt: what was asked, and both replies."""

    number: int
    """From 1; 0 for a prompt that has one turn."""
    harmful: bool
    asked: str
    replies: tuple[Said, ...]

    @property
    def pair(self) -> tuple[str, ...]:
        """The verdicts, baseline first."""
        return tuple(reply.verdict for reply in self.replies)


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt with its replies."""

    suite: str
    title: str
    kind: str
    """unsafe, safe, capability, or script."""
    category: str
    language: str
    prompt: str
    turns: tuple[Turn, ...]

    @property
    def changed(self) -> bool:
        """Whether some verdict differs."""
        return any(len(set(turn.pair)) > 1 for turn in self.turns)

    @property
    def shown(self) -> Turn:
        """The turn whose verdicts stand in the list: the last that changed, else the last."""
        return next((t for t in reversed(self.turns) if len(set(t.pair)) > 1), self.turns[-1])

    @property
    def verdict(self) -> str:
        """The steered verdict in the list."""
        return self.shown.pair[-1]

    @property
    def harmful(self) -> bool:
        """Whether prompt and replies are blurred until asked for."""
        return self.kind not in ("safe", "capability")


def choose(results: Mapping[str, Any], samples: Sequence[Sample]) -> Shown[Item]:
    """The prompts to show: those that changed first, benchmarks and kinds mixed."""
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        mark = str(sample.get("prompt_sha256") or sample["prompt"])
        groups.setdefault((str(sample.get("suite")), _kind(sample), mark), []).append(sample)
    changed_keys = [key for key, lines in groups.items() if _differs(lines)]
    same = [key for key in groups if key not in set(changed_keys)]
    changed, rest = (mixed(keys, lambda key: key[:2]) for keys in (changed_keys, same))
    chosen = placed(changed, rest, PROMPTS, CHANGED_SHARE)
    items = (_item(results, key, groups[key]) for key in chosen)
    return Shown(tuple(affordable(items, _bytes)), len(groups), len(samples), len(changed))


def _kind(sample: Sample) -> str:
    safe = sample["kind"] == "safe"
    return "script" if sample.get("turn") is not None and not safe else str(sample["kind"])


def _differs(lines: Sequence[Sample]) -> bool:
    by_turn: dict[Any, set[str]] = {}
    for line in lines:
        by_turn.setdefault(line.get("turn"), set()).add(verdict_of(line))
    return any(len(verdicts) > 1 for verdicts in by_turn.values())


def _item(results: Mapping[str, Any], key: tuple[str, str, str],
          lines: Sequence[Sample]) -> Item:
    suite, kind, _ = key
    numbers = sorted({line["turn"] for line in lines if line.get("turn") is not None})
    first = lines[0]
    language = str(first.get("language") or "")
    return Item(suite, title_of(results, suite), kind, str(first.get("category") or ""),
                language if language.replace("-", "").isalnum() else "",
                clean(readable(str(first["prompt"])))[:2 * LETTERS],
                tuple(_turn(lines, number, at) for at, number in enumerate(numbers, 1))
                or (_turn(lines, None, 0),))


def _turn(lines: Sequence[Sample], number: int | None, at: int) -> Turn:
    mine = [line for line in lines if line.get("turn") == number]
    ranked = sorted(mine, key=lambda line: SIDES.index(line["condition"])
                    if line["condition"] in SIDES else len(SIDES))
    return Turn(at, bool(mine[0].get("harmful_turn")), _asked(str(mine[0]["prompt"]), at),
                tuple(_said(line) for line in ranked))


def _asked(prompt: str, at: int) -> str:
    """What the user said in a script's turn; nothing where the prompt is no script."""
    if not at or not prompt.startswith("[{"):
        return ""
    try:
        said = [turn["content"] for turn in json.loads(prompt) if turn["role"] == "user"]
    except (ValueError, KeyError, TypeError):
        return ""
    return clean(str(said[at - 1]))[:LETTERS] if at <= len(said) else ""


def _said(line: Sample) -> Said:
    text, fired = clean(str(line.get("reply") or "")), line.get("fired")
    return Said(str(line["condition"]), verdict_of(line), text[:LETTERS],
                max(0, len(text) - LETTERS), clean(str(line.get("reason") or ""))[:300],
                str(line.get("judge") or ""),
                "" if line.get("risk") is None else risk_text(line["risk"]),
                "" if fired is None else "fired" if fired else "shut",
                edits_text(line.get("edits")))


def edits_text(edits: Any) -> str:
    """`clamp 597 12.0; scale 12 0.5`: what was written."""
    if not isinstance(edits, list | tuple):
        return "" if edits is None else str(edits)[:300]
    return "; ".join(" ".join(
        value_text(part) if isinstance(part, float) else str(part)
        for part in (edit.values() if isinstance(edit, Mapping) else [edit])
        if isinstance(part, str | int | float)) for edit in edits)[:300]


def _bytes(item: Item) -> int:
    said = [reply for turn in item.turns for reply in turn.replies]
    texts = [item.prompt, item.prompt[:160], *(turn.asked for turn in item.turns),
             *(part for reply in said for part in (reply.text, reply.reason, reply.edits))]
    return sum(len(text.encode()) for text in texts) + 600 * len(said)
