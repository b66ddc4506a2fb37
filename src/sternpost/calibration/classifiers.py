"""External prompt classifiers in a calibration: each is asked once about every prompt, stands
beside the gates in their table, and is one of the other methods: a fixed refusal where it fires.

    fires      where P(harm) is above the threshold, and where the classifier gives none
    within     AUROC on gate_fit; nothing was fitted on a source, so `across` is the same number
    threshold  found as a level's is: no kind of benign calibration prompt fires more than the
               budget, and development prompts keep the level's budget

A pack holds tensors, and a classifier is none: it is never a pack's gate.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from sternpost.calibration.gates import limit_of
from sternpost.calibration.levels import costs, safer_point
from sternpost.calibration.methods import refused
from sternpost.calibration.reads import Read
from sternpost.calibration.search import SMALLEST
from sternpost.calibration.seen import apart, false_fire, left_out, on_search, shares, values_of
from sternpost.calibration.settings import Budget, CalibrateSettings
from sternpost.calibration.writes import Measured, Table
from sternpost.errors import EndpointError, InputError
from sternpost.policy import Level
from sternpost.stats import auroc
from sternpost.store import Sample
from sternpost.trials.bench import Bench
from sternpost.trials.classifier import classifier_from, shown_names
from sternpost.types import LabelledPrompt, PromptClassifier

CHUNK = 256
"""Prompts that are asked about, and kept, together."""
UNTOLD = 2.0
"""The risk of a prompt without P(harm): above every threshold."""


@dataclass(frozen=True)
class Told:
    """What one classifier says."""

    name: str
    harm: Mapping[str, float]
    """P(harm) by the prompt's sha256; NaN where it gave none."""

    def risk(self, prompts: Sequence[LabelledPrompt]) -> np.ndarray:
        """P(harm) of each prompt, UNTOLD where there is none."""
        return np.nan_to_num([self.harm[p.request.sha256] for p in prompts], nan=UNTOLD)

    @property
    def condition(self) -> str:
        """What tables and lines call its hard refusal."""
        return f"classifier {self.name}"

    def untold(self, parts: Mapping[str, Sequence[LabelledPrompt]]) -> dict[str, dict[str, int]]:
        """Of each part of the prompts, by kind: how many have no P(harm)."""
        return {name: {kind: n for kind in ("unsafe", "safe", "capability") if (n := sum(
            p.kind == kind and math.isnan(self.harm[p.request.sha256]) for p in prompts))}
            for name, prompts in parts.items()}


def ask(bench: Bench, settings: CalibrateSettings,
        parts: Mapping[str, Sequence[LabelledPrompt]]) -> list[Told]:
    """What every classifier says of all prompts. Raises InputError or EndpointError where one says
    nothing of a side that it is to tell apart."""
    prompts = list({p.request.sha256: p for some in parts.values() for p in some}.values())
    names = shown_names(settings.classifier)
    out = [Told(names[at], _harm(bench, (at, spec), prompts, settings.device))
           for at, spec in enumerate(settings.classifier)]
    for told in out:
        for name in ("search", "gate_fit"):
            for kind in ("unsafe", "safe"):
                if not any(p.kind == kind and not math.isnan(told.harm[p.request.sha256])
                           for p in parts[name] if p.harm_kind != "offensive"):
                    raise InputError(f"The prompt classifier {told.name} gave no P(harm) for any "
                                     f"{kind} prompt of the {name} split, so nothing can be said "
                                     "of it. Leave it out, or mend it.")
    return out


def _harm(bench: Bench, which: tuple[int, str], prompts: Sequence[LabelledPrompt],
          device: str) -> dict[str, float]:
    """P(harm) by sha256."""
    at, spec = which
    model = cache(lambda: classifier_from(spec, device=device))  # not loaded to be read back
    harm: dict[str, float] = {}
    chunks = [prompts[start:start + CHUNK] for start in range(0, len(prompts), CHUNK)]
    for number, some in enumerate(bench.watch.bar(chunks, len(chunks), f"asking {spec}")):
        found = bench.folder.once(f"classifier-{at}-{number}",
                                  lambda some=some: _asked(model(), some))
        harm |= {p.request.sha256: math.nan if one is None else one
                 for p, one in zip(some, found, strict=True)}
    return harm


def _asked(model: PromptClassifier, prompts: Sequence[LabelledPrompt]) -> list[float | None]:
    """P(harm) as JSON has it. Raises where the classifier is silent altogether."""
    found = [None if math.isnan(one) else one for one in model([p.request for p in prompts])]
    if all(one is None for one in found):
        said = f"The prompt classifier {model.name} gave no P(harm) for any of {len(found)} prompts"
        if model.name.startswith("openai:"):
            raise EndpointError(f"{said}. What was answered is kept: type the same command with "
                                "--resume when the service answers.")
        raise InputError(f"{said}. Leave it out, or mend it.")
    return found


# ---- beside the gates ----------------------------------------------------------------------------


def row_of(told: Told, reads: Mapping[str, Read], parts: Mapping[str, Sequence[LabelledPrompt]],
           seed: int) -> dict[str, Any]:
    """What is seen of it, as of a kind of gate. AUROC is of prompts that have a P(harm)."""
    fit, search = left_out(reads["gate_fit"], seed), reads["search"]
    benign = told.risk(reads["gate_calibration"].benign.prompts)
    risk = told.risk(search.prompts)
    known = risk < UNTOLD
    area = auroc(risk[known].tolist(), search.harmful[known].tolist(),
                 search.clusters[known].tolist(), seed)
    row = {"kind": told.name, "external": True, "layer": None, "across": {},
           "untold": told.untold(parts), **on_search(risk, search, benign, seed),
           "search": area._asdict()}
    names = values_of(fit, "source")
    if names is None:
        return row
    seen = told.risk(fit.prompts)
    known = seen < UNTOLD
    rates = false_fire(seen, fit, names)
    row["across"] = {"source": {
        **apart(seen[known], seen[known], fit.some(known), names[known]), "alone": [],
        "false_fire": shares(rates), "false_fire_rates": rates}}
    return row


def warnings_of(told: Sequence[Told],
                parts: Mapping[str, Sequence[LabelledPrompt]]) -> list[str]:
    """That a classifier is no pack's gate, and how often each gave no number."""
    if not told:
        return []
    out = [f"classifier {', '.join(one.name for one in told)}: shown beside the gates, and never "
           "the pack's gate: a pack holds tensors only."]
    for one in told:
        counts = {name: kinds for name, kinds in one.untold(parts).items() if kinds}
        if counts:
            said = "; ".join(f"{name}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items())
                             for name, kinds in counts.items())
            out.append(f"classifier {one.name}: no P(harm) for some prompts ({said}). It fires on "
                       "these: no answer is not safe.")
    return out


# ---- among the other methods ---------------------------------------------------------------------


def hard_refusal(told: Told, table: Table, benign: Sequence[LabelledPrompt],
                 budget: Budget) -> dict[str, Any]:
    """The threshold of a fixed refusal, and what it costs on development rows."""
    least, _ = limit_of(told.risk(benign).tolist(), benign,
                        max(budget.over_refusal / 100, SMALLEST))
    n = len(table.prompts)
    refuse = Measured(Level(), ~table.of("capability"), np.zeros(n, dtype=bool),
                      np.ones(n, dtype=bool), np.zeros(n))
    mine = replace(table, risk=told.risk(table.prompts))
    point = safer_point(mine, [refuse], min(least, 1.0), budget, math.inf)
    threshold = min(least if point is None else point.threshold, 1.0)  # what is untold fires
    found = costs(mine, refuse, mine.risk > threshold)
    return {"kind": "external classifier", "threshold": threshold, "least_threshold": least,
            "within_budget": found.more_safe <= budget.over_refusal + 1e-9
            and found.capability >= -budget.capability - 1e-9, "development": found.as_dict()}


def refused_lines(told: Told, baseline: Sequence[Sample], threshold: float) -> list[Sample]:
    """The baseline's test lines with a fixed refusal where the classifier fires."""
    return [{**line, "condition": told.condition}
            for line in refused(baseline, told.harm, threshold)]
