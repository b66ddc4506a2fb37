"""A continuation gate fitted to a model's own replies: a logistic probe on single response tokens.

    fit         tokens of replies that comply with harmful requests against tokens of benign replies
    height      of a reply, on `on` tokens in a row: max over windows of `on` tokens of the lowest
                risk in the window; the gate opens in the reply where this is above its threshold
    threshold   the conformal quantile of the heights of benign replies that it was not fitted on

Covered: replies that turn harmful in the words that they use, whatever led there. Not covered: harm
in what a reply leaves unsaid, or in other words than those it was fitted on. Overall: it reads what
has been said, so the first tokens of a harmful reply stand before it opens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sternpost.errors import GateError
from sternpost.gates import Continuation, ResidualGate, fit_residual
from sternpost.stats import auroc, conformal_threshold, grouped_threshold
from sternpost.types import Completion, Engine, Gate, Hookpoint, Transcript

TOKENS = 4000
"""Response tokens of a side that a gate is fitted on, at most; each reply gives as many as others
do, so that long ones do not outweigh them."""


@dataclass(frozen=True)
class Replies:
    """Replies of the model, in rows."""

    said: Sequence[Completion]
    clusters: Sequence[str]
    """Rows that share one stand on one side of a fold."""
    kinds: Sequence[str] | None = None
    """Benign kinds that each keep the budget; None: all together keep it."""


@dataclass(frozen=True)
class Following:
    """How a continuation gate is to be fitted."""

    at: Hookpoint
    """The written block, or one below."""
    on: int = 2
    off: int = 4
    budget: float = 0.01
    """Share of benign replies in which it may open."""
    seed: int = 0


@dataclass(frozen=True)
class Followed:
    """A continuation gate that was fitted, and what was seen of it."""

    continuation: Continuation
    budget: float
    """Share of benign replies that is promised: what was asked for, or more where they are few."""
    auroc: float
    """Of heights of harmful replies against benign ones of the calibration part; the harmful ones
    were fitted on."""
    n: Mapping[str, int]
    """Replies of each part that have a token to read."""


def fit_continuation(engine: Engine, replies: Mapping[str, Replies], how: Following) -> Followed:
    """The gate that reads `harmful` replies as harm and `benign` ones not, at response tokens; its
    threshold keeps the budget on replies of `calibration`, which are benign too. Raises GateError
    where there is too little to tell apart."""
    gate = _fit(engine, replies["harmful"], replies["benign"], how)
    safe = heights(gate, engine, replies["calibration"].said, how.on)
    bad = heights(gate, engine, replies["harmful"].said, how.on)
    kinds = replies["calibration"].kinds
    found = conformal_threshold(safe, how.budget) if kinds is None else \
        grouped_threshold(safe, kinds, how.budget)
    area = auroc([*bad, *safe], [True] * len(bad) + [False] * len(safe))
    counted = {name: sum(bool(c.reply_ids) for c in part.said) for name, part in replies.items()}
    return Followed(Continuation(replace(gate, threshold=found.value), how.on, how.off),
                    found.budget, area.value, counted)


def heights(gate: Gate, engine: Engine, said: Sequence[Completion], on: int) -> list[float]:
    """Of each reply the threshold up to which the gate opens in it, after `on` tokens in a row; 0
    for one that is shorter."""
    out = []
    for stream in _streams(engine, said, gate.hookpoint):
        risk = gate.risk(stream)
        out.append(float(risk.unfold(0, on, 1).amin(1).max()) if len(risk) >= on else 0.0)
    return out


def _fit(engine: Engine, harmful: Replies, benign: Replies, how: Following) -> ResidualGate:
    rows = [_drawn(engine, side, how) for side in (harmful, benign)]
    if any(not len(h) for h, _ in rows):
        raise GateError("A continuation gate is fitted to replies that comply with harmful requests"
                        f" and to benign ones; got {len(rows[0][0])} tokens of the first and "
                        f"{len(rows[1][0])} of the others. Give prompts that the model answers.")
    y = np.repeat([True, False], [len(h) for h, _ in rows])
    clusters = np.array([*rows[0][1], *rows[1][1]])
    return fit_residual(torch.cat([h for h, _ in rows]), y, clusters, how.at, how.seed)


def _drawn(engine: Engine, side: Replies, how: Following) -> tuple[Tensor, list[str]]:
    """Some response tokens of each reply [token, d_model], and the cluster of each."""
    rng = np.random.default_rng(how.seed)
    spoken = [at for at, c in enumerate(side.said) if c.reply_ids]
    each = max(1, TOKENS // max(1, len(spoken)))
    chosen: list[int] = sorted(rng.choice(spoken, min(len(spoken), TOKENS), replace=False).tolist())
    parts: list[Tensor] = []
    clusters: list[str] = []
    for at, stream in zip(chosen, _streams(engine, [side.said[at] for at in chosen], how.at),
                          strict=True):
        keep = rng.choice(len(stream), min(each, len(stream)), replace=False)
        parts.append(stream[np.sort(keep)])
        clusters += [side.clusters[at]] * len(keep)
    return torch.cat(parts) if parts else torch.zeros(0, engine.d_model), clusters


def _streams(engine: Engine, said: Sequence[Completion], at: Hookpoint) -> Iterator[Tensor]:
    """The stream [token, d_model] at each reply's own tokens, in order."""
    texts = [Transcript(ids=(*c.prompt_ids, *c.reply_ids)) for c in said]
    for completion, read in zip(said, engine.residuals(texts, at), strict=True):
        yield read.values[len(completion.prompt_ids):].cpu()
