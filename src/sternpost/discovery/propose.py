"""What each method says of every feature, from the search and gate_fit prompts: a score a feature.

Read on the template's tail, where the reply is decided, or at t_inst, where the request ends.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sternpost.engines.steer import steer
from sternpost.engines.transformers import TransformersEngine
from sternpost.features import ablation_path, active_counts, attribution, difference_in_means
from sternpost.features.contrast import Contrast, Contrasted, discovered
from sternpost.features.delta import delta, mean_acts
from sternpost.features.output import output_score, promoted
from sternpost.prompts import led_in
from sternpost.sae import SAE
from sternpost.trials.find import EXPLAINED, Exemplars, clamp_value
from sternpost.types import Clamp, Completion, LabelledPrompt, Plan, Transcript

Entry = dict[str, Any]
LISTED = 100
"""Features a method lists, at most."""
PAIRS = 256
"""Requests that are read plain and wrapped, at most."""
WRAPPERS = ("role_play", "prefix_injection", "refusal_suppression", "new_rules", "translation",
            "story", "hypothetical", "emotional_appeal", "authority")
"""Families that they are wrapped in: short ones that leave the request's words as they are."""
WRAPS = 2
"""Wrappers a request."""
NEUTRAL = "From my experience,"
SCORED = 60
"""Features whose output is scored, at most: the best of the other methods."""
AMPLIFIED = 2.0
"""Multiples of its high activation to which a feature is pushed for that."""


def ranked(scores: Sequence[float] | np.ndarray | Tensor, more: dict[str, np.ndarray] | None = None,
           ) -> list[Entry]:
    """The features of positive score, best first."""
    values = np.asarray(scores, dtype=float)
    order = np.argsort(-values, kind="stable")[:LISTED]
    return [{"feature": int(f), "score": float(values[f]),
             **{name: float(column[f]) for name, column in (more or {}).items()}}
            for f in order if values[f] > 0]


class Proposals:
    """The methods, on one model and SAE."""

    def __init__(self, engine: TransformersEngine, sae: SAE,
                 pairs: Sequence[tuple[LabelledPrompt, Completion]],
                 shown: Sequence[bool]) -> None:
        self.engine, self.sae, self.pairs, self.shown = engine, sae, pairs, shown
        assert sae.stats is not None
        self.high = sae.stats.high.cpu()

    def paper(self, shown: Exemplars) -> list[Entry]:
        """Active on at least two tokens of the reply to an archetype; of those that are active on
        as many, the more active in units of their high activation first."""
        texts = [Transcript(ids=(*c.prompt_ids, *c.reply_ids)) for c in shown.archetypes]
        seen = list(self.engine.residuals(texts, self.sae.hookpoint))
        replies = [r.values[len(c.prompt_ids):] for r, c in
                   zip(seen, shown.archetypes, strict=True)]
        counts = active_counts(replies, self.sae).cpu()
        much = torch.stack([mean_acts(h, self.sae) for h in replies]).amax(0)
        share = torch.where(self.high > 0, much / self.high, 0).clamp(max=1) / 2
        entries = ranked(torch.where(counts >= 2, counts + share, 0))
        return [{**entry, "score": float(int(entry["score"]))} for entry in entries]

    def contrast(self) -> list[Entry]:
        """More active where the model shows the goal than where it does not."""
        return self._contrasted(self.shown, self._tail)

    def answering(self) -> list[Entry]:
        """More active where the model does not show the goal."""
        return self._contrasted([not one for one in self.shown], self._tail)

    def harm(self) -> list[Entry]:
        """More active where an unsafe request ends than where a safe one does."""
        return self._contrasted([p.kind == "unsafe" for p, _ in self.pairs],
                                lambda h, at: h[at:at + 1])

    def _contrasted(self, sides: Sequence[bool],
                    part: Callable[[Tensor, int], Tensor]) -> list[Entry]:
        if len(set(sides)) < 2:
            return []
        contrast = Contrast(self.sae)
        contrast.add(self._read(part), [int(side) for side in sides])
        found: Contrasted = contrast.result()
        scores = np.where(discovered(found), found.d, 0.0)
        return ranked(scores, {"d": found.d, "auroc": found.auroc, "p": found.p, "q": found.q,
                               "active_on_one": found.active[1], "active_on_other":
                               found.active[0]})

    def _read(self, part: Callable[[Tensor, int], Tensor]) -> list[Tensor]:
        prompts = [list(c.prompt_ids) for _, c in self.pairs]
        ends = self.engine.template.t_inst(prompts)
        rows = self.engine.residuals([Transcript(ids=tuple(ids)) for ids in prompts],
                                     self.sae.hookpoint)
        return [part(row.values.cpu(), end) for row, end in zip(rows, ends, strict=True)]

    @staticmethod
    def _tail(h: Tensor, at: int) -> Tensor:
        return h[at + 1:] if at + 1 < len(h) else h[-1:]

    def diffmean_cosine(self) -> list[Entry]:
        """Along the difference in means of prompts where the goal is shown and where it is not."""
        last = self._read(lambda h, at: h[-1:])
        sides = [torch.cat([h for h, side in zip(last, self.shown, strict=True) if side == which])
                 for which in (True, False)] if len(set(self.shown)) == 2 else []
        if not sides:
            return []
        direction = difference_in_means(*sides)
        rows = self.sae.W_dec.cpu().float()
        return ranked((rows @ direction) / rows.norm(dim=-1).clamp(min=1e-12))

    def attribution(self, shown: Exemplars) -> list[Entry]:
        """What it adds to the logit of the first token of a reply that shows the goal."""
        explained = [c for c in (*shown.archetypes, *shown.others) if c.reply_ids]
        found = self.engine.gradients(explained[:EXPLAINED], self.sae.hookpoint,
                                      lambda h: ablation_path(h, self.sae))
        scores = [attribution(r.values, r.gradient, self.sae) for r in found
                  if r.gradient is not None]
        return ranked(torch.stack(scores).mean(0).cpu())

    def cc_delta(self) -> list[Entry]:
        """Silent on the same words when the request is wrapped."""
        clusters: dict[str, LabelledPrompt] = {}
        for prompt, _ in self.pairs:
            if prompt.kind == "unsafe" and prompt.family is None and len(
                    prompt.request.messages) == 1:
                clusters.setdefault(prompt.cluster or prompt.request.sha256, prompt)
        some = list(clusters.values())[:PAIRS]  # one of each cluster: rows must be independent
        if len(some) < 10:
            return []
        # a prompt is one row, whatever the number of wrappers: their differences hang together
        both = self._both(some).mean(1)
        found = delta(both[:, 0], both[:, 1], self.high)
        return ranked(found.score, {"mean": found.mean, "q": found.q})

    def _both(self, prompts: Sequence[LabelledPrompt]) -> Tensor:
        """[prompt, wrapper, 2, d_sae]: mean activations on the same words, plain and wrapped."""
        again = [prompt for prompt in prompts for _ in range(WRAPS)]
        behind = led_in(prompts, WRAPPERS, each=WRAPS)
        ids = [self.engine.encode(self.engine.template.render(one.request.messages))
               for pair in zip(again, behind, strict=True) for one in pair]
        ends = self.engine.template.t_inst(ids)
        same = [_same(ids[at:at + 2], ends[at:at + 2]) for at in range(0, len(ids), 2)]
        rows = self.engine.residuals([Transcript(ids=tuple(one)) for one in ids],
                                     self.sae.hookpoint)
        means = [mean_acts(r.values[ends[at] + 1 - same[at // 2]:ends[at] + 1], self.sae)
                 for at, r in enumerate(rows)]
        return torch.stack(means).view(len(prompts), WRAPS, 2, -1)

    @torch.no_grad()
    def output_score(self, features: Sequence[int]) -> list[Entry]:
        """Pushed, these make the model say what they stand for."""
        some = list(features)[:SCORED]
        if not some:
            return []
        ids = torch.tensor([self.engine.encode(NEUTRAL)] * len(some))
        unembedding = self.engine.model.get_output_embeddings().weight
        tokens = promoted(self.sae.W_dec[some].to(unembedding.device), unembedding)
        edits = tuple((Clamp(f, clamp_value(self.sae, f, AMPLIFIED)),) for f in some)
        with steer(self.engine.model, Plan(self.sae, edits)):
            logits = self.engine.model(ids.to(unembedding.device)).logits[:, -1]
        scores = np.zeros(self.sae.d_sae)
        scores[some] = [output_score(row, top) for row, top in zip(logits, tokens, strict=True)]
        return ranked(scores)


def _same(ids: Sequence[Sequence[int]], ends: Sequence[int]) -> int:
    """How many tokens, back from where each request ends, are the same in both."""
    count = 0
    while count <= min(ends) and ids[0][ends[0] - count] == ids[1][ends[1] - count]:
        count += 1
    return max(count, 1)
