"""The gate of a run: fitted, chosen, given a threshold, and a value to write where it fires.

Fitted on gate_fit; of the kinds the better on the search split is kept; the threshold is the
conformal quantile of the benign calibration prompts; the value is chosen on the search split, run
as a pack runs it (mode threshold, error keep, tail+response).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from sternpost.files import read_json, read_tensors, write_json, write_tensors
from sternpost.gates import (
    FittedGate,
    fit_residual,
    fit_sparse,
    from_tensors,
    to_tensors,
)
from sternpost.prompts import Splits, is_script
from sternpost.sae import SAE
from sternpost.stats import Threshold, auroc, conformal_threshold
from sternpost.store import Sample, line_rate
from sternpost.trials.bench import Bench, Trial, own_replies
from sternpost.trials.find import Found, Search, d_points
from sternpost.trials.sweep import Chosen
from sternpost.types import Clamp, Completion, LabelledPrompt, Plan, Transcript

BUDGET = 0.01
"""Share of benign prompts on which the gate may fire."""


@dataclass(frozen=True)
class Gated:
    """A gate at work: when it opens and what is written then."""

    gate: FittedGate
    plan: Plan
    """The clamp at `value` where the gate fires, and nothing elsewhere; a pack runs it so."""
    budget: float
    """False fires promised, as a share."""
    value: float
    """The clamp, activation units, with the best D on the search split; the smaller on a tie."""
    compared: dict[str, float]
    """AUROC of each kind on the search split."""
    lines: list[Sample]
    warnings: list[str]


def fit_gate(bench: Bench, sae: SAE, found: Found, chosen: Chosen, splits: Splits,
             what: tuple[Search, Sequence[Completion], int]) -> Gated:
    """The gate of a run. `what`: the search, the model's own replies to the search and gate_fit
    prompts, the seed."""
    search, own, seed = what
    replies = own[len(search.prompts):]
    gate, threshold, compared = _fitted(bench, sae, splits, (search, replies, seed))
    gate = replace(gate, threshold=threshold.value)
    plans = {value: Plan(sae, (Clamp(found.feature, value),), mode="threshold", gate=gate)
             for value in chosen.values}
    trials = [Trial(f"search-gated-{value!r}", "gated_clamp", plan, found.feature, value)
              for value, plan in plans.items()]
    swept = dict(zip(plans, bench.several(trials, search.prompts, "sweeping gated values"),
                     strict=True))
    value = max(swept, key=lambda v: (d_points(swept[v]), -v))
    return Gated(gate, plans[value], threshold.budget, value, compared,
                 [line for lines in swept.values() for line in lines], _warnings(threshold))


def _fitted(bench: Bench, sae: SAE, splits: Splits, what: tuple[Search, Sequence[Completion], int],
            ) -> tuple[FittedGate, Threshold, dict[str, float]]:
    """The better kind, its threshold, and how the kinds compare; kept in the run's folder."""
    folder = bench.folder.stages / "gate"

    def make() -> dict[str, Any]:
        gate, threshold, compared = _fit(bench, sae, splits, what)
        body, tensors = to_tensors(gate)
        write_tensors(folder / "gate.safetensors", tensors)
        write_json(folder / "gate.json", body)
        return {"threshold": list(threshold), "compared": compared}

    note = bench.folder.once("gate", make)
    gate = from_tensors(read_json(folder / "gate.json"), read_tensors(folder / "gate.safetensors"))
    return gate, Threshold(*note["threshold"]), note["compared"]


def _fit(bench: Bench, sae: SAE, splits: Splits, what: tuple[Search, Sequence[Completion], int],
         ) -> tuple[FittedGate, Threshold, dict[str, float]]:
    search, replies, seed = what
    prompts = [p for p in splits.gate_fit if p.harm_kind != "offensive"]
    kept = [c for p, c in zip(splits.gate_fit, replies, strict=True) if p.harm_kind != "offensive"]
    h = _read(bench, kept, sae)
    y, clusters = _labels(prompts)
    gates: dict[str, FittedGate] = {
        "residual": fit_residual(h, y, clusters, sae.hookpoint, seed)}
    if sae.per_token is None:  # else its features are no straight lines in the stream
        gates["sparse"] = fit_sparse(h, y, clusters, sae, seed)
    asked = [(p, c) for p, c in zip(search.prompts, search.own, strict=True)
             if p.harm_kind != "offensive"]
    seen = _read(bench, [c for _, c in asked], sae)
    harmful, groups = _labels([p for p, _ in asked])
    compared = {kind: auroc(gate.risk(seen).tolist(), harmful.tolist(), groups.tolist(), seed).value
                for kind, gate in gates.items()}
    best = gates[max(compared, key=lambda kind: (compared[kind], kind == "sparse"))]
    benign = _calibration(bench, [p for p in splits.gate_calibration
                                  if p.kind == "safe" and p.harm_kind != "offensive"], sae)
    return best, conformal_threshold(best.risk(benign).tolist(), BUDGET), compared


def _labels(prompts: Sequence[LabelledPrompt]) -> tuple[np.ndarray, np.ndarray]:
    return (np.array([p.kind == "unsafe" for p in prompts]),
            np.array([p.cluster or p.request.sha256 for p in prompts]))


def _read(bench: Bench, replies: Sequence[Completion], sae: SAE) -> Tensor:
    """The stream at t_inst of each conversation's last turn."""
    return bench.engine.at_t_inst([Transcript(ids=c.prompt_ids) for c in replies], sae.hookpoint)


def _calibration(bench: Bench, prompts: Sequence[LabelledPrompt], sae: SAE) -> Tensor:
    """The same of the calibration prompts; only scripts have to be answered for it."""
    scripts = [p for p in prompts if is_script(p)]
    said = {p.request.sha256: Transcript(ids=c.prompt_ids) for p, c in zip(scripts, own_replies(
        bench.engine, scripts, bench.sampling, bench.folder, "own-calibration"), strict=True)}
    return bench.engine.at_t_inst(
        [said.get(p.request.sha256) or Transcript(messages=p.request.messages) for p in prompts],
        sae.hookpoint)


def _warnings(threshold: Threshold) -> list[str]:
    if threshold.budget <= BUDGET:
        return []
    n = round(1 / threshold.budget) - 1
    return [f"gate: with {n} calibration prompts no false-fire budget below 1/{n + 1} can be "
            f"promised; {threshold.budget:.3g} was used instead of {BUDGET:g}."]


def gate_entry(gated: Gated, lines: Sequence[Sample], seed: int) -> dict[str, Any]:
    """The gate as results.json has it, measured on the test lines of `gated_clamp`."""
    counted = [s for s in lines if s["kind"] != "capability" and s["harm_kind"] != "offensive"]
    clusters = [s["cluster"] or s["prompt_sha256"] for s in counted]
    area = auroc([s["risk"] for s in counted], [s["kind"] == "unsafe" for s in counted], clusters,
                 seed)
    safe = [s for s in counted if s["kind"] == "safe"]

    def fires(some: Sequence[Sample]) -> dict[str, Any]:
        found = line_rate(some, "fired")
        assert found is not None
        return found.as_dict()

    sources = sorted({s["source"] or "unnamed" for s in lines})
    by_source = {source: fires([s for s in lines if (s["source"] or "unnamed") == source])
                 for source in sources}
    return {"kind": gated.gate.kind, "layer": gated.gate.hookpoint.layer, "auroc": area._asdict(),
            "threshold": gated.gate.threshold, "budget_asked": BUDGET, "budget": gated.budget,
            "false_fire": fires(safe), "value": gated.value, "search_auroc": gated.compared,
            "fires": by_source}
