"""What was gathered of each feature, as plain data: contexts, tokens, neighbours, categories.

    promoted     the tokens that W_dec[f] pushes up most through the unembedding (logit lens)
    lift         P(strongly active | category) / P(strongly active), over prompts
    q            hypergeometric p of a count so large, after Benjamini and Hochberg over all
                 features and categories
    quantile     1: the strongest of all; else the place among texts drawn at random in which the
                 feature is active

Overall: what a feature is active on and what it writes are two things; neither says what clamping
it does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import false_discovery_control, hypergeom
from torch import Tensor

from sternpost.features.gather import BEFORE, PARTS, STEPS, Gathered, Kept

QUANTILES = (0.9, 0.75, 0.5, 0.25)
NEAREST, TOKENS, CATEGORIES = 5, 10, 6
LIFT, RATE = 2.0, 0.05
"""A category is linked to a feature from this lift up, where it is a discovery at this rate."""


@dataclass(frozen=True)
class Group:
    """A group of prompts."""

    id: str
    name: str
    concept: str | None = None
    """The hazard of a public standard that it belongs to."""


@dataclass(frozen=True)
class Source:
    """Where a text comes from."""

    kind: str
    category: str | None = None


Piece = Callable[[int], str]
"""The text of a token id."""


def described(found: Gathered, groups: Sequence[Group], sources: Sequence[Source], piece: Piece,
              unembedding: Tensor) -> Iterator[dict[str, Any]]:
    """An entry a feature, in order; labels are given by others."""
    sae, n = found.sae, found.sae.d_sae
    assert sae.stats is not None
    lifts = _lifts(found)
    together = found.coactive(NEAREST)
    rows = torch.nn.functional.normalize(sae.W_dec.float().cpu(), dim=1)
    for start in range(0, n, 256):
        some = slice(start, min(start + 256, n))
        written = _written(sae.W_dec[some], unembedding)
        cosine = rows[some] @ rows.T
        for feature in range(some.start, some.stop):
            cosine[feature - start, feature] = -2
            near = cosine[feature - start].topk(min(NEAREST, n - 1))
            active = int(found.active[feature])
            yield {
                "feature": feature, "density": active / max(found.tokens, 1),
                "density_safe": int(found.active_benign[feature]) / found.benign
                if found.benign else None,
                "high": float(sae.stats.high[feature]), "max": float(found.largest[feature]),
                "mean": float(found.total[feature]) / active if active else None,
                "histogram": _histogram(found, feature),
                "contexts": _contexts(found, feature, sources, piece) if active else [],
                **{name: [[piece(int(i)), round(float(v), 4)] for i, v in zip(
                    ids[feature - start], values[feature - start], strict=True)]
                   for name, (values, ids) in written.items()},
                "near": {"cosine": [[int(i), round(float(v), 4)]
                                    for v, i in zip(*near, strict=True)],
                         "coactive": [[i, round(v, 4)] for i, v in together[feature]]},
                "parts": _parts(found, feature), **_categories(found, feature, groups, lifts)}


def _written(directions: Tensor, unembedding: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    logits = directions.float().to(unembedding.device) @ unembedding.float().T
    k = min(TOKENS, logits.shape[1])
    low = (-logits).topk(k)
    top = logits.topk(k)
    return {"promoted": (top.values, top.indices), "suppressed": (-low.values, low.indices)}


def _histogram(found: Gathered, feature: int) -> dict[str, list[float]]:
    width = float(found.high[feature]) / 16
    last = max(float(found.largest[feature]), width * STEPS)
    return {"edges": [round(width * step, 5) for step in range(STEPS)] + [round(last, 5)],
            "counts": found.histogram[feature].tolist()}


def _contexts(found: Gathered, feature: int, sources: Sequence[Source],
              piece: Piece) -> list[dict[str, Any]]:
    strongest = _order(found.strongest, feature)
    out = [context(found.strongest, feature, slot, sources, piece, 1.0) for slot in strongest]
    drawn = _order(found.drawn, feature)
    used: set[int] = set()
    for quantile in QUANTILES if drawn else ():
        slot = drawn[round((1 - quantile) * (len(drawn) - 1))]
        if slot not in used:
            used.add(slot)
            out.append(context(found.drawn, feature, slot, sources, piece, quantile))
    return out


def _order(kept: Kept, feature: int) -> list[int]:
    """Slots that are filled, the most active first."""
    values = torch.where(kept.source[feature] >= 0, kept.value[feature], -torch.inf)
    return [slot for slot in values.argsort(descending=True, stable=True).tolist()
            if kept.source[feature, slot] >= 0]


def context(kept: Kept, feature: int, slot: int, sources: Sequence[Source], piece: Piece,
            quantile: float | None = None) -> dict[str, Any]:
    """A kept window as data."""
    ids, acts = kept.ids[feature, slot], kept.acts[feature, slot]
    real = ids >= 0
    source = sources[int(kept.source[feature, slot])]
    return {"quantile": quantile, "activation": round(float(kept.value[feature, slot]), 4),
            "tokens": [piece(i) for i in ids[real].tolist()],
            "acts": [round(v, 3) for v in acts[real].tolist()],
            "at": BEFORE - int(torch.nonzero(real)[0]), "kind": source.kind,
            "category": source.category, "part": PARTS[int(kept.part[feature, slot])]}


def _parts(found: Gathered, feature: int) -> dict[str, float]:
    total = float(found.by_part[feature].sum())
    return {name: round(float(amount) / total, 4) if total else 0.0
            for name, amount in zip(PARTS, found.by_part[feature], strict=True)}


@dataclass(frozen=True)
class _Lifts:
    lift: np.ndarray
    q: np.ndarray


def _lifts(found: Gathered) -> _Lifts:
    """[feature, group]: how many times as often as in all prompts a feature is strongly active."""
    hits, size = found.in_group.numpy(), found.group_size.numpy()
    strong, n = found.strong.numpy(), found.grouped
    if not n or not hits.size:
        return _Lifts(np.zeros(hits.shape), np.ones(hits.shape))
    expected = np.outer(strong / n, size)
    lift = np.divide(hits, expected, out=np.zeros(hits.shape), where=expected > 0)
    p = hypergeom.sf(hits - 1, n, strong[:, None], size[None, :])
    q = false_discovery_control(np.clip(p, 0, 1).ravel()).reshape(p.shape)
    return _Lifts(lift, q)


def _categories(found: Gathered, feature: int, groups: Sequence[Group],
                lifts: _Lifts) -> dict[str, Any]:
    order = np.argsort(-lifts.lift[feature], kind="stable")[:CATEGORIES]
    rows = [{"category": groups[g].id, "name": groups[g].name, "concept": groups[g].concept,
             "lift": round(float(lifts.lift[feature, g]), 3),
             "active": int(found.in_group[feature, g]), "n": int(found.group_size[g]),
             "q": float(lifts.q[feature, g])}
            for g in order if found.in_group[feature, g]]
    return {"categories": rows, "concepts": [
        row["category"] for row in rows if row["lift"] >= LIFT and row["q"] <= RATE
        and row["category"] not in ("safe", "unsafe")]}


def words_label(entry: Mapping[str, Any]) -> str:
    """A label without a language model: what a feature is active on, in which requests, and what
    it writes."""
    if not entry["contexts"]:
        return "never active"
    peaks = [c["tokens"][c["at"]].strip() or repr(c["tokens"][c["at"]]) for c in entry["contexts"]]
    counts = {token: peaks.count(token) for token in dict.fromkeys(peaks)}
    often = sorted(counts, key=lambda token: -counts[token])
    often = [token for token in often if counts[token] >= 2][:3] or often[:2]
    parts = {"prompt": "in requests", "tail": "where the reply is about to begin",
             "response": "in replies", "text": "in plain text"}
    share = max(entry["parts"].values(), default=0)
    place = next((text for part, text in parts.items() if entry["parts"][part] == share
                  and share >= 0.6), "")
    names = {row["category"]: row["name"] for row in entry["categories"]}
    about = [names[concept].lower() for concept in entry["concepts"][:2]]
    said = "on " + ", ".join(f'"{token}"' for token in often) + (f" {place}" if place else "")
    if about:
        said += f", about {' or '.join(about)}" if place == "in requests" else \
            f", with requests about {' or '.join(about)}"
    written = [token.strip() for token, _ in entry["promoted"] if token.strip().isprintable()
               and token.strip() and "\N{REPLACEMENT CHARACTER}" not in token][:3]
    return said + (f"; writes {', '.join(map(_quoted, written))}" if written else "")


def _quoted(token: str) -> str:
    return f'"{token}"'
