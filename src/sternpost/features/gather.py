"""What every feature does on text, gathered in one pass and in memory of O(d_sae).

    density     share of tokens on which it is active
    histogram   of its activations, in steps of 1/16 of its high activation
    strongest   the texts in which it is most active: a bounded heap a feature
    drawn       texts in which it is active, each as likely as the other: the least of random keys
    held        the same from every fourth text, on which nothing else is built: to score labels on
    parts       its activity before the end of the request, on the template's tail, in the reply
    groups      of how many prompts of each group it is strongly active (>= half its high)
    coactive    |a and b| / |a or b| over an even sample of tokens

Covered: any SAE, any amount of text. Not covered: several tokens of one text (the strongest, or one
at random, stands for it). Overall: what is kept is a few windows of tokens a feature; dense
activations exist for one text at a time at most, and only on the tokens kept.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from torch import Tensor

from sternpost.sae import SAE

BEFORE, AFTER = 20, 8
"""Tokens kept around the one that a feature is active on."""
WIDTH = BEFORE + AFTER + 1
STRONGEST, DRAWN, HELD = 8, 16, 10
HELD_OUT = 4
"""Every so-many-th text is held out."""
STEPS = 24
"""Steps of the histogram, each 1/16 of the high activation; the last holds all beyond."""
STRONG = 0.5
SAMPLED = 8192
"""Tokens whose active features are kept, to count which are active together."""
QUIET = 256
"""Windows of held-out texts kept with all that is active in them, to draw inactive ones from."""
PARTS = ("prompt", "tail", "response", "text")
"""The last is text that is no conversation with the model."""


@dataclass(frozen=True)
class Read:
    """One text as it was read: token ids, the part of each, and where the text comes from."""

    ids: Int[Tensor, " token"]
    parts: Int[Tensor, " token"]
    """Index into PARTS."""
    source: int
    """Number of the text."""
    groups: tuple[int, ...] = ()
    """Groups of prompts that it belongs to."""
    benign: bool = False
    """Whether it belongs to a prompt that should be answered."""


class Kept:
    """The best few windows a feature, by a key: strongest, or drawn by chance."""

    def __init__(self, d_sae: int, keep: int) -> None:
        self.keys = torch.full((d_sae, keep), -torch.inf)
        self.value = torch.zeros(d_sae, keep)
        self.source = torch.full((d_sae, keep), -1, dtype=torch.int32)
        self.part = torch.zeros(d_sae, keep, dtype=torch.int8)
        self.ids = torch.full((d_sae, keep, WIDTH), -1, dtype=torch.int32)
        self.acts = torch.zeros(d_sae, keep, WIDTH)

    def offer(self, features: Tensor, keys: Tensor, where: Tensor, text: Read,
              acts: tuple[Tensor, Tensor]) -> None:
        """One token `where` of the text for each of these features, each feature once."""
        low, slot = self.keys[features].min(1)
        better = keys > low
        features, slot, where = features[better], slot[better], where[better]
        if not len(features):
            return
        span = where[:, None] + torch.arange(-BEFORE, AFTER + 1)
        inside = (span >= 0) & (span < len(text.ids))
        span = span.clamp(0, len(text.ids) - 1)
        values, indices = acts
        mine = ((indices[span] == features[:, None, None]) * values[span]).sum(-1) * inside
        self.keys[features, slot] = keys[better]
        self.value[features, slot] = mine[:, BEFORE]
        self.source[features, slot] = text.source
        self.part[features, slot] = text.parts[where].to(torch.int8)
        self.ids[features, slot] = torch.where(inside, text.ids[span], -1).to(torch.int32)
        self.acts[features, slot] = mine


class Gathered:
    """Takes texts one by one."""

    def __init__(self, sae: SAE, groups: int = 0, seed: int = 0) -> None:
        assert sae.stats is not None
        self.sae, n = sae, sae.d_sae
        high = sae.stats.high.float().cpu()
        self.high = torch.where(high > 0, high, torch.ones(()))
        self.tokens, self.texts = 0, 0
        self.active = torch.zeros(n, dtype=torch.long)
        self.benign, self.active_benign = 0, torch.zeros(n, dtype=torch.long)
        """Tokens of benign texts, and how many of them each feature is active on."""
        self.total = torch.zeros(n, dtype=torch.double)
        self.largest = torch.zeros(n)
        self.histogram = torch.zeros(n, STEPS, dtype=torch.int32)
        self.by_part = torch.zeros(n, len(PARTS), dtype=torch.double)
        self.in_group = torch.zeros(n, groups, dtype=torch.int32)
        self.strong = torch.zeros(n, dtype=torch.int32)
        """Grouped texts on which a feature is strongly active."""
        self.grouped = 0
        self.group_size = torch.zeros(groups, dtype=torch.long)
        self.strongest, self.drawn, self.held = (Kept(n, k) for k in (STRONGEST, DRAWN, HELD))
        self.quiet_ids = torch.full((QUIET, WIDTH), -1, dtype=torch.int32)
        self.quiet_on = torch.zeros(QUIET, n, dtype=torch.bool)
        self.quiet_source = torch.full((QUIET,), -1, dtype=torch.int32)
        self.quiet_keys = torch.full((QUIET,), -torch.inf)
        self.sampled: list[tuple[float, np.ndarray]] = []
        self.least = -1.0
        self.random = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def add(self, h: Float[Tensor, "token d_model"], text: Read) -> None:
        """One text's residual stream. A text without tokens is passed over."""
        if not len(text.ids):
            return
        acts = self.sae.encode(h.to(self.sae.device))
        values, indices = acts.values.float().cpu(), acts.indices.cpu()
        on = values > 0
        features, amounts = indices[on], values[on]
        rows = torch.arange(len(values))[:, None].expand_as(on)[on]
        self._count(features, amounts, text.parts[rows])
        if text.benign:
            self.benign += len(values)
            self.active_benign += torch.bincount(features, minlength=self.sae.d_sae)
        best = self._strongest_of(features, amounts, text)
        if text.source % HELD_OUT == HELD_OUT - 1:
            self._offer(self.held, features, rows, None, text, (values, indices))
            self._keep_quiet(text, (values, indices))
        else:
            self._offer(self.strongest, features, rows, amounts, text, (values, indices))
            self._offer(self.drawn, features, rows, None, text, (values, indices))
        self.largest = torch.maximum(self.largest, best)
        self._sample(values, indices)
        self.tokens += len(values)
        self.texts += 1

    def _count(self, features: Tensor, amounts: Tensor, parts: Tensor) -> None:
        ones = torch.ones(len(features), dtype=torch.int32)
        self.active += torch.bincount(features, minlength=self.sae.d_sae)
        self.total.index_add_(0, features, amounts.double())
        step = (amounts / self.high[features] * 16).long().clamp(0, STEPS - 1)
        self.histogram.view(-1).index_add_(0, features * STEPS + step, ones)
        self.by_part.view(-1).index_add_(0, features * len(PARTS) + parts.long(), amounts.double())

    def _strongest_of(self, features: Tensor, amounts: Tensor, text: Read) -> Tensor:
        """[d_sae]: the largest activation in this text; counts the groups that it belongs to."""
        best = torch.zeros(self.sae.d_sae).scatter_reduce_(0, features, amounts, "amax")
        if text.groups:
            strong = best >= STRONG * self.high
            self.strong += strong
            self.grouped += 1
            for group in text.groups:
                self.in_group[:, group] += strong
                self.group_size[group] += 1
        return best

    def _offer(self, kept: Kept, features: Tensor, rows: Tensor, amounts: Tensor | None,
               text: Read, acts: tuple[Tensor, Tensor]) -> None:
        """Of each active feature the token of the largest amount, or one at random."""
        by = torch.rand(len(features), generator=self.random) if amounts is None else amounts
        order, n = torch.argsort(by, stable=True), self.sae.d_sae
        last = torch.full((n,), -1).scatter_reduce_(0, features[order], torch.arange(len(order)),
                                                    "amax")
        some = torch.nonzero(last >= 0).flatten()
        at = torch.zeros(n, dtype=torch.long)
        at[some] = order[last[some]]
        keys = amounts[at[some]] if amounts is not None else torch.rand(
            len(some), generator=self.random)
        kept.offer(some, keys, rows[at[some]], text, acts)

    def _keep_quiet(self, text: Read, acts: tuple[Tensor, Tensor]) -> None:
        """A window of this text, perhaps, with everything that is active in it."""
        key, slot = torch.rand((), generator=self.random), int(self.quiet_keys.argmin())
        if key <= self.quiet_keys[slot]:
            return
        where = int(torch.randint(len(text.ids), (), generator=self.random))
        first, last = max(0, where - BEFORE), min(len(text.ids), where + AFTER + 1)
        at = first - where + BEFORE
        self.quiet_ids[slot] = -1
        self.quiet_ids[slot, at:at + last - first] = text.ids[first:last].to(torch.int32)
        self.quiet_on[slot] = False
        values, indices = (part[first:last] for part in acts)
        self.quiet_on[slot, indices[values > 0]] = True
        self.quiet_source[slot], self.quiet_keys[slot] = text.source, key

    def _sample(self, values: Tensor, indices: Tensor) -> None:
        """An even sample of tokens: those with the largest of random keys."""
        keys = torch.rand(len(values), generator=self.random).tolist()
        self.sampled += [(key, indices[row][values[row] > 0].numpy().astype(np.int32))
                         for row, key in enumerate(keys) if key > self.least]
        if len(self.sampled) >= 2 * SAMPLED:
            self._trim()

    def _trim(self) -> None:
        self.sampled.sort(key=lambda pair: -pair[0])
        if len(self.sampled) > SAMPLED:
            del self.sampled[SAMPLED:]
            self.least = self.sampled[-1][0]

    def coactive(self, nearest: int, least: int = 5) -> list[list[tuple[int, float]]]:
        """Per feature the features that it is most often active with: (id, share of the tokens
        on which either is that both are); those active on fewer than `least` sampled tokens have
        none."""
        self._trim()
        lengths = [len(ids) for _, ids in self.sampled]
        columns = np.concatenate([ids for _, ids in self.sampled]) if lengths else np.zeros(0, int)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        n = self.sae.d_sae
        matrix = csr_matrix((np.ones(len(rows), np.int32), (rows, columns)),
                            shape=(max(len(lengths), 1), n))
        counts, turned = np.bincount(columns, minlength=n), matrix.T.tocsr()
        out: list[list[tuple[int, float]]] = []
        for start in range(0, n, 512):  # a block of rows at a time: d_sae^2 is never held
            both = (turned[start:start + 512] @ matrix).tocsr()
            for row in range(both.shape[0]):
                feature = start + row
                cells = slice(both.indptr[row], both.indptr[row + 1])
                ids, hits = both.indices[cells], both.data[cells]
                good = (ids != feature) & (counts[ids] >= least) & (counts[feature] >= least)
                ids, hits = ids[good], hits[good]
                share = hits / (counts[feature] + counts[ids] - hits)
                best = np.lexsort((ids, -share))[:nearest]
                out.append([(int(ids[i]), float(share[i])) for i in best])
        return out
