"""Whether two features do more, or less, together than one by one.

    interaction  effect(a, b) - effect(a) - effect(b), each against no edit, on the same prompts
    coactive     P(both active) / P(either active), over tokens
    cosine       of their decoder rows
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch

from sternpost.discovery.feature_sets import Edit, trial
from sternpost.sae import SAE
from sternpost.stats import interaction
from sternpost.store import Sample
from sternpost.trials.bench import Bench
from sternpost.trials.run_settings import RunSettings
from sternpost.types import LabelledPrompt, Transcript

MEMBERS = 6
"""Members of a set whose pairs are looked at, at most."""
SIDES = {"unsafe_refusal": "unsafe", "over_refusal": "safe", "capability": "capability"}


def interactions(bench: Bench, sae: SAE, edits: Sequence[Edit], baseline: list[Sample],
                 asked: tuple[Sequence[LabelledPrompt], RunSettings],
                 ) -> tuple[list[dict[str, Any]], list[Sample]]:
    """An entry a pair of the set, and the lines behind them."""
    prompts, settings = asked
    some = list(edits)[:MEMBERS]
    pairs = list(combinations(some, 2))
    wanted = [*((edit,) for edit in some), *pairs]
    trials = [trial(sae, each, settings, "test") for each in wanted]
    made = dict(zip(wanted, bench.several(trials, prompts, "pairs"), strict=True))
    reply = {line["prompt_sha256"]: line["reply"] for line in baseline}
    together = coactive(bench, sae, [e.feature for e in some], prompts, reply) if pairs else {}
    out = []
    for a, b in pairs:
        four = (baseline, made[(a,)], made[(b,)], made[(a, b)])
        rows = torch.nn.functional.normalize(
            sae.W_dec[[a.feature, b.feature]].float(), dim=1)
        out.append({"features": [a.feature, b.feature],
                    **{name: _of(kind, *four) for name, kind in SIDES.items()},
                    "coactive": together[a.feature, b.feature],
                    "cosine": float(rows[0] @ rows[1])})
    lines = [{**line, "condition": "+".join(f"{type(e).__name__}{e.feature}" for e in each)}
             for each in wanted for line in made[each]]
    return out, lines


def _of(kind: str, *four: list[Sample]) -> dict[str, float] | None:
    by = [{s["prompt_sha256"]: s for s in lines if s["kind"] == kind
           and (kind == "capability" or s["harm_kind"] != "offensive")} for lines in four]
    shared = sorted(set.intersection(*map(set, by)))
    if not shared:
        return None
    none, a, b, both = ([lines[key]["hit"] for key in shared] for lines in by)
    clusters = [by[0][key]["cluster"] or key for key in shared]
    return interaction(none, a, b, both, clusters).as_dict()


def coactive(bench: Bench, sae: SAE, features: Sequence[int], prompts: Sequence[LabelledPrompt],
             replies: dict[str, str]) -> dict[tuple[int, int], float | None]:
    """Of the tokens of these conversations on which one of two features is active, the share on
    which both are; None where neither ever is."""
    texts = [Transcript(text=bench.engine.render(p.request) + replies.get(p.request.sha256, ""))
             for p in prompts]
    pairs = list(combinations(features, 2))
    counts = {pair: [0, 0] for pair in pairs}
    for row in bench.engine.residuals(texts, sae.hookpoint):
        acts = sae.encode(row.values.to(sae.device))
        on = {f: ((acts.indices == f) & (acts.values > 0)).any(-1) for f in features}
        for a, b in pairs:
            counts[a, b][0] += int((on[a] & on[b]).sum())
            counts[a, b][1] += int((on[a] | on[b]).sum())
    return {pair: both / either if either else None for pair, (both, either) in counts.items()}
