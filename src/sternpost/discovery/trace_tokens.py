"""What trace.json says of tokens and features: plain numbers from what is active."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Entry = dict[str, Any]


@dataclass(frozen=True)
class Active:
    """What is active, a row a token; a slot whose activation is 0 is not used. On the CPU."""

    features: Int[Tensor, "token K"]
    acts: Float[Tensor, "token K"]
    high: Float[Tensor, " d_sae"] | None
    """The features' high activations."""
    contribution: Float[Tensor, "prompt K"] | None
    """To the goal's logit, of the prompt's tokens."""
    surprise: Float[Tensor, "token K"] | None

    def totals(self) -> dict[int, float]:
        """What each feature contributes on all tokens of the prompt."""
        if self.contribution is None:
            return {}
        features, back = self.features[:len(self.contribution)].unique(return_inverse=True)
        sums = torch.zeros(len(features), dtype=torch.float64)
        sums.index_add_(0, back.flatten(), self.contribution.double().flatten())
        return dict(zip(features.tolist(), sums.tolist(), strict=True))

    def entries(self, at: int, given: Sequence[int] = ()) -> list[Entry]:
        """The features that are active at a token, and those given."""
        used = self.acts[at] > 0
        rows = {feature: slot for slot, feature in enumerate(self.features[at].tolist())
                if used[slot]}
        return [self._entry(at, feature, rows.get(feature)) for feature in
                dict.fromkeys([*rows, *given])]

    def _entry(self, at: int, feature: int, slot: int | None) -> Entry:
        act, surprise, added = 0.0, None, None
        if slot is not None:
            act = float(self.acts[at, slot])
        if self.surprise is not None:
            surprise = 0.0 if slot is None else short(self.surprise[at, slot])
        if self.contribution is not None and at < len(self.contribution):
            added = 0.0 if slot is None else short(self.contribution[at, slot])
        high = 0.0 if self.high is None else float(self.high[feature])
        return {"feature": feature, "activation": short(act),
                "relative": short(act / high) if high > 0 else None, "surprise": surprise,
                "contribution": added}


def pieces(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[str]:
    """The text of each token, which together are the text; of tokens that share a letter the
    first has it."""
    out: list[str] = []
    for at in range(len(ids)):
        start, known = max(0, len(out) - 4), len(out)
        before = decode(ids[start:known]) if known > start else ""
        text = decode(ids[start:at + 1])[len(before):]
        if text.endswith("\ufffd") and at - known < 3 and at + 1 < len(ids):
            continue
        out += [text] + [""] * (at - known)
    return out


def short(value: Any) -> float:
    """A number to five digits."""
    return float(f"{float(value):.5g}") + 0.0


def largest(totals: Mapping[int, float], n: int, given: Sequence[int]) -> list[int]:
    """The `n` features that contribute most, either way, and those given."""
    ranked = sorted((f for f in totals if totals[f]), key=lambda f: -abs(totals[f]))
    return list(dict.fromkeys([*ranked[:n], *given]))


def with_features(active: Active, tokens: Sequence[Entry], top: int,
                  given: Sequence[int]) -> list[Entry]:
    """The tokens with their sums, and of each the features to show."""
    out = []
    for at, token in enumerate(tokens):
        entries = active.entries(at, given)
        added = [e["contribution"] for e in entries if e["contribution"] is not None]
        out.append({**token, "contribution": short(sum(added)) if added else None,
                    "surprise": None if active.surprise is None else
                    max((e["surprise"] for e in entries), default=0.0),
                    "features": chosen(entries, top, given)})
    return out


def chosen(entries: Sequence[Entry], top: int, given: Sequence[int]) -> list[Entry]:
    """The `top` entries that contribute most or are most unusual, one of each in turn, and those
    `given`; those that contribute most first."""
    orders = [sorted(entries, key=_unusual)]
    if any(entry["contribution"] is not None for entry in entries):
        orders.insert(0, sorted(entries, key=_contributes))
    turns = dict.fromkeys(entry["feature"] for turn in zip(*orders, strict=True) for entry in turn)
    kept = {*list(turns)[:top], *given}
    return [entry for entry in orders[0] if entry["feature"] in kept]


def _contributes(entry: Entry) -> tuple[float, ...]:
    return (-abs(entry["contribution"] or 0.0), *_unusual(entry))


def _unusual(entry: Entry) -> tuple[float, ...]:
    return (-(entry["surprise"] or 0.0), -(entry["relative"] or 0.0), -entry["activation"])


def features_of(active: Active, checked: Sequence[Entry], top: int,
                given: Sequence[int], n: int) -> list[Entry]:
    """Of each checked feature, each given and the `top` most unusual of the prompt's `n` tokens:
    where it is the most active there (in the reply, where it is not), and what it contributes."""
    best: dict[int, Entry] = {}
    asked = set(given) - set(active.features[:n][active.acts[:n] > 0].tolist())
    for at in range(len(active.acts)):
        for entry in active.entries(at, given):
            feature, known = entry["feature"], best.get(entry["feature"])
            if (at < n or feature in asked) and (
                    known is None or entry["activation"] > known["activation"]):
                best[feature] = {**entry, "at": at if entry["activation"] else None}
    exact = {entry["feature"]: entry for entry in checked}
    unusual = [entry["feature"] for entry in sorted(best.values(), key=_unusual)[:top]]
    totals, known = active.totals(), active.contribution is not None
    return [{**best[feature], "contribution": short(totals.get(feature, 0.0)) if known else None,
             **{key: exact.get(feature, {}).get(key) for key in ("ablation", "contrast")}}
            for feature in dict.fromkeys([*exact, *given, *unusual])]


def agreement(checked: Sequence[Mapping[str, Any]]) -> Entry | None:
    """How well contributions stand for ablations: Pearson's correlation, and the largest gap."""
    if len(checked) < 2:
        return None
    pairs = np.array([[entry["contribution"], entry["ablation"]] for entry in checked])
    gaps = np.abs(pairs[:, 0] - pairs[:, 1])
    same = bool((pairs.std(0) == 0).any())
    return {"n": len(checked), "pearson": None if same else short(np.corrcoef(pairs.T)[0, 1]),
            "largest_gap": short(gaps.max()), "feature": checked[int(gaps.argmax())]["feature"],
            **({"why": {"pearson": "all of one side are the same"}} if same else {})}
