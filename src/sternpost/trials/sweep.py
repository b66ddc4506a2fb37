"""Values and strengths, chosen on the search split; then every condition on the test split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sternpost.features import difference_in_means, matched_features
from sternpost.sae import SAE
from sternpost.store import Sample, change, condition, incoherent_rate, refusal_rate
from sternpost.trials.bench import Bench, Trial
from sternpost.trials.find import (
    MULTIPLES,
    Found,
    Search,
    clamp_plan,
    clamp_trial,
    clamp_value,
    d_points,
)
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Add, LabelledPrompt, Plan, Transcript

STRENGTHS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.2)
"""Difference in means, in median residual norms."""
RANDOM = 4
"""Features pooled in `random_feature`."""
PLAIN = ("all", "exact", "keep")
BROKEN = 0.1
"""Share of incoherent replies beyond which a chosen value is warned of."""


@dataclass(frozen=True)
class Chosen:
    """What the search split chose."""

    values: tuple[float, ...]
    """The clamp values swept, ascending."""
    reference: float
    """The value with the highest unsafe refusal; the smaller on a tie."""
    best_d: float
    """The value with the best D; the smaller on a tie."""
    direction: torch.Tensor
    strength: float
    """Of `diffmean`, in residual norms: the one with the best D."""
    lines: list[Sample]
    warnings: list[str]
    gated: tuple[Plan, float] | None = None
    """The plan behind a gate, and its value."""


def choose(bench: Bench, sae: SAE, found: Found, search: Search,
           settings: RunSettings) -> Chosen:
    """Sweeps clamp values and diffmean strengths over the search prompts."""
    prompts = search.prompts
    values = tuple(sorted(settings.values)) or tuple(sorted(
        {clamp_value(sae, found.feature, multiple) for multiple in MULTIPLES}))
    sweep, fresh = _sweep(bench, sae, found, values, (prompts, settings))
    direction = _direction(bench, sae, search)
    trials = [Trial(f"search-diffmean-{strength!r}", "diffmean",
                    diffmean_plan(sae, direction, strength), value=strength)
              for strength in STRENGTHS]
    added = dict(zip(STRENGTHS, bench.several(trials, prompts, "sweeping diffmean"), strict=True))
    reference = _best(values, lambda v: _unsafe(sweep[v]))
    best_d = _best(values, lambda v: d_points(sweep[v]))
    return Chosen(values, reference, best_d, direction,
                  strength=_best(STRENGTHS, lambda s: d_points(added[s])),
                  lines=fresh + [line for lines in added.values() for line in lines],
                  warnings=_broken({"reference": reference, "best_d": best_d}, sweep))


def _broken(named: dict[str, float], sweep: dict[float, list[Sample]]) -> list[str]:
    """Says so where a chosen value leaves many replies no language."""
    out = []
    for name, value in named.items():
        found = incoherent_rate(sweep[value])
        if found is not None and found.share > BROKEN:
            out.append(f"{name}: at {value:g} {found} of the search replies are incoherent.")
    return out


def _sweep(bench: Bench, sae: SAE, found: Found, values: Sequence[float],
           what: tuple[Sequence[LabelledPrompt], RunSettings],
           ) -> tuple[dict[float, list[Sample]], list[Sample]]:
    """All search lines of each value, and those that the grid had not made."""
    prompts, settings = what
    seen = {value: mine for value in values if (mine := [
        line for line in found.lines if line["condition"] == "clamp" and
        (line["feature"], line["value"]) == (found.feature, value)])}
    left = [value for value in values if value not in seen]
    trials = [clamp_trial(sae, found.feature, value, settings, "sweep") for value in left]
    more = dict(zip(left, bench.several(trials, prompts, "sweeping clamp values"), strict=True))
    return seen | more, [line for mine in more.values() for line in mine]


def _best(options: Sequence[float], worth: Any) -> float:
    """The option of the highest worth; the smallest of those on a tie."""
    return max(options, key=lambda option: (worth(option), -option))


def _unsafe(lines: Sequence[Sample]) -> float:
    found = refusal_rate(lines, "unsafe")
    return found.share if found else float("-inf")


def _direction(bench: Bench, sae: SAE, search: Search) -> torch.Tensor:
    means = []
    for kind in ("unsafe", "safe"):
        texts = [Transcript(ids=c.prompt_ids) for p, c in zip(search.prompts, search.own,
                                                              strict=True) if p.kind == kind]
        rows = bench.engine.residuals(texts, sae.hookpoint)
        means.append(torch.stack([residual.values[-1].cpu() for residual in rows]))
    return difference_in_means(*means)


def diffmean_plan(sae: SAE, direction: torch.Tensor, strength: float) -> Plan:
    """Adds the difference in means, at every position."""
    return Plan(sae, (Add(direction, strength),))


def conditions(bench: Bench, sae: SAE, found: Found, chosen: Chosen,
               prompts: Sequence[LabelledPrompt],
               settings: RunSettings) -> tuple[list[dict[str, Any]], list[Sample]]:
    """Every condition on the same test prompts: its entry of results.json, and its lines."""
    how = (settings.positions, settings.mode, settings.error)
    out: list[dict[str, Any]] = []
    lines: list[Sample] = []

    def add(name: str, mine: list[Sample], value: float | None,
            way: tuple[str, str, str] = PLAIN) -> None:
        entry = condition(name, mine, value, way)
        against = {"baseline": [s for s in lines if s["condition"] == "baseline"]}
        if way[2] == "drop" and name == "clamp":
            against["splice_in"] = [s for s in lines if s["condition"] == "splice_in"]
        if name not in ("baseline", "random_feature"):
            entry["change"] = {other: change(was, mine) for other, was in against.items()}
        out.append(entry)
        lines.extend(mine)

    def said(key: str, name: str, plan: Plan | None = None, **used: Any) -> list[Sample]:
        return bench.lines(Trial(f"test-{key}", name, plan, **used), prompts)

    add("baseline", said("baseline", "baseline"), None)
    add("splice_in", said("splice_in", "splice_in", Plan(sae, error="drop")), None,
        ("all", "exact", "drop"))
    for value in bench.watch.bar(chosen.values, len(chosen.values), "clamping"):
        plan = clamp_plan(sae, found.feature, value, settings)
        add("clamp", said(f"clamp-{value!r}", "clamp", plan, feature=found.feature, value=value),
            value, how)
    add("random_feature", _random(bench, sae, found, chosen, (prompts, settings)), None, how)
    add("diffmean", said("diffmean", "diffmean", diffmean_plan(
        sae, chosen.direction, chosen.strength), value=chosen.strength), chosen.strength)
    if chosen.gated is not None:
        plan, value = chosen.gated
        add("gated_clamp", said("gated", "gated_clamp", plan, feature=found.feature, value=value),
            value, (str(plan.where), plan.mode, plan.error))
    return out, lines


def _random(bench: Bench, sae: SAE, found: Found, chosen: Chosen,
            what: tuple[Sequence[LabelledPrompt], RunSettings]) -> list[Sample]:
    """Random features, each clamped at the reference's multiple of its own high activation."""
    prompts, settings = what
    relative = chosen.reference / found.high
    out: list[Sample] = []
    features = matched_features(sae, found.feature, RANDOM, settings.seed)
    for feature in bench.watch.bar(features, len(features), "random features"):
        value = clamp_value(sae, feature, relative)
        out += bench.lines(Trial(f"test-random-{feature}", "random_feature",
                                 clamp_plan(sae, feature, value, settings), feature, value),
                           prompts)
    return out
