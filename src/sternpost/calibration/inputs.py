"""What a calibration reads besides a run's prompts, and the features that it may write."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from sternpost.calibration.settings import CalibrateSettings
from sternpost.calibration.writes import MEMBERS, Choice
from sternpost.errors import HookpointError, InputError
from sternpost.features import difference_in_means, strongest
from sternpost.files import read_json
from sternpost.gates.coverage import FEW
from sternpost.gates.logistic import FOLDS
from sternpost.prompts import Splits, groups, read_prompts
from sternpost.sae import SAE
from sternpost.trials.bench import Bench
from sternpost.trials.classifier import check_classifier
from sternpost.trials.find import Search, also_by_d, candidates, exemplars, grid
from sternpost.trials.inputs import Inputs, read_inputs
from sternpost.types import SPLITS, Completion, LabelledPrompt, Transcript

RAISED, LOWERED = 6, 3
"""Features that writes are built from."""
SCREENED = 150
"""Prompts of a side on which features are screened, where no features.json is given."""
SEEN = 1500
"""Replies that the direction of refusal is taken from, at most."""
EXPLAINED = 64
"""Refusals whose first token is attributed, at most."""
FEWEST = 5
"""Prompts of a side of a source that a direction needs."""
T = TypeVar("T")
Said = tuple[Sequence[LabelledPrompt], Sequence[Completion]]
"""Prompts, and the model's own replies to them."""


@dataclass(frozen=True)
class Given:
    """Prompts beside the splits."""

    tasks: tuple[LabelledPrompt, ...]
    """Capability prompts for development; the others are test."""
    must: dict[str, tuple[LabelledPrompt, ...]]
    """By what is wanted: "answer" and "refuse". Never fitted on."""
    warnings: tuple[str, ...]
    features: dict[str, Any] | None = None
    """features.json"""


def read_calibration(settings: CalibrateSettings) -> tuple[Inputs, Given]:
    """All input, checked: a run's, with half of the capability prompts for development, and the
    rows that must be answered or refused taken out of what is fitted on."""
    inputs = read_inputs(settings)
    must: dict[str, tuple[LabelledPrompt, ...]] = {}
    if settings.must_answer is not None:
        must["answer"] = read_prompts(settings.must_answer, "safe").prompts
    if settings.must_refuse is not None:
        must["refuse"] = read_prompts(settings.must_refuse, "unsafe").prompts
    refused = {p.request.sha256 for p in must.get("refuse", ())}
    if both := [p for p in must.get("answer", ()) if p.request.sha256 in refused]:
        raise InputError("--must-answer and --must-refuse both name "
                         f"{both[0].request.text[:80]!r}. Keep it in one of them.")
    _check_layers(settings, inputs)
    tasks, rest = halves([p for p in inputs.splits.test if p.kind == "capability"])
    test = [p for p in inputs.splits.test if p.kind != "capability"] + rest
    splits = replace(inputs.splits, test=tuple(test), warnings=())
    fitted = [p for name in SPLITS if name != "test" for p in getattr(splits, name)]
    out = _near([p for rows in must.values() for p in rows], fitted)
    splits = _without(splits, out)
    if settings.categories:
        _check_categories(splits.gate_fit)
    hashes = {spec: check_classifier(spec) for spec in settings.classifier}
    warnings = [f"{len(out)} prompts that would be fitted on are prompts of --must-answer or "
                "--must-refuse, or near-duplicates, or of their cluster; they were taken out."
                ] if out else []
    features = None if settings.features is None else _read_features(settings.features)
    if settings.capability is None:
        warnings.append("no --capability prompts: what a level costs in capability is not known.")
    return replace(
        inputs, splits=splits, hashes={**inputs.hashes, **({"classifiers": hashes} if hashes
                                                           else {})},
        warnings=tuple(w for w in inputs.warnings
                       if not w.startswith("Capability prompts are test only"))), Given(
            tuple(tasks), must, tuple(warnings), features)


def _check_layers(settings: CalibrateSettings, inputs: Inputs) -> None:
    """Raises HookpointError for a gate above what is written: it would read what was written."""
    above = [layer for layer in settings.gate_layer if layer > inputs.at.layer]
    if above:
        raise HookpointError(f"--gate-layer {above[0]} lies above block {inputs.at.layer}, which "
                             "is written, so the gate would read what the edits did. Give layers "
                             f"from 0 to {inputs.at.layer}.")
    own = {"sparse", "feature"}
    if settings.gate_layer and inputs.at.layer not in settings.gate_layer and \
            own >= set(settings.gate_kinds):
        raise InputError(f"Gates of kind {settings.gates} read the SAE's features, at block "
                         f"{inputs.at.layer}. Add --gate-layer {inputs.at.layer}, or --gates "
                         "residual,cosine,nullspace.")


def _check_categories(fit: Sequence[LabelledPrompt]) -> None:
    """Raises InputError where fewer than two hazard categories can have a gate."""
    rows: dict[str, list[str]] = {}
    for p in fit:
        if p.kind == "unsafe" and p.harm_kind != "offensive" and p.category \
                and p.category != "none":
            rows.setdefault(p.category, []).append(p.cluster or p.request.sha256)
    large = [name for name, some in rows.items() if len(some) >= FEW and len(set(some)) >= FOLDS]
    if len(large) < 2:
        counts = ", ".join(f"{name} {len(some)}" for name, some in sorted(rows.items())) or "none"
        raise InputError(f"--categories needs two hazard categories with at least {FEW} unsafe "
                         f"gate_fit prompts, of {FOLDS} clusters, each; got {counts}. Give the "
                         "column `category`, or more prompts, or leave --categories out.")


def halves(tasks: Sequence[LabelledPrompt],
           ) -> tuple[list[LabelledPrompt], list[LabelledPrompt]]:
    """Capability prompts for development and for the test: by their split column where every row
    has one, else every second group of clusters and near-duplicates."""
    if all(p.split for p in tasks) and len({p.split == "test" for p in tasks}) == 2:
        return [p for p in tasks if p.split != "test"], [p for p in tasks if p.split == "test"]
    together = sorted(groups(tasks), key=lambda rows: min(tasks[r].request.sha256 for r in rows))
    mine = {row for rows in together[::2] for row in rows}
    return ([p for at, p in enumerate(tasks) if at in mine],
            [p for at, p in enumerate(tasks) if at not in mine])


def _near(named: Sequence[LabelledPrompt], fitted: Sequence[LabelledPrompt]) -> set[str]:
    """sha256 of those of `fitted` that are prompts of `named`, or stand too near to one."""
    rows = [*named, *fitted]
    return {rows[at].request.sha256 for group in groups(rows) if min(group) < len(named)
            for at in group if at >= len(named)}


def _without(splits: Splits, named: set[str]) -> Splits:
    kept = {name: tuple(p for p in getattr(splits, name) if p.request.sha256 not in named)
            for name in SPLITS if name != "test"}
    return replace(splits, **kept)


def _read_features(path: str) -> dict[str, Any]:
    file = Path(path)
    file = file / "features.json" if file.is_dir() else file
    if not file.is_file():
        raise InputError(f"No features.json at {path}. Give the file that `sternpost features "
                         "find` wrote, or leave --features out.")
    found = read_json(file)
    if not isinstance(found.get("methods"), dict) or not isinstance(found.get("sets"), list):
        raise InputError(f"{file} is not a features.json: it has no methods and sets. Give the "
                         "file that `sternpost features find` wrote.")
    return found


class Refusal(NamedTuple):
    """How the model refuses, read where its reply begins."""

    safe: Tensor
    """Difference in means of refused and answered safe prompts, mean over sources so that it does
    not tell these apart."""
    every: Tensor
    """The same of all prompts, safe and unsafe together."""
    features: dict[int, float]
    """Features that write the first token of a refusal of a safe prompt, by attribution, with
    their mean activation there; those that do most first."""


@dataclass(frozen=True)
class Proposed:
    """What writes are built from."""

    raised: tuple[int, ...]
    """Features that make the model refuse, best first."""
    lowered: tuple[int, ...]
    """Features that see harm."""
    refusal: Refusal
    first: tuple[Choice, ...] = ()
    """Sets that were found before, as points of the space."""


def given_features(bench: Bench, settings: CalibrateSettings, sae: SAE, search: Search,
                   said: Said, given: Given) -> Proposed:
    """Features of --feature, else of features.json, else of a search as `sternpost run` does."""
    refusal = _refusal(bench, sae, *said)
    if settings.aim == "freer":
        return Proposed(tuple(refusal.features)[:RAISED], (), refusal)
    if settings.feature:
        return Proposed(tuple(dict.fromkeys(settings.feature)), (), refusal)
    if given.features is not None:
        return _of_file(given.features, sae, refusal)
    how = replace(settings, positions="tail+response", mode="threshold")
    some = _screening(search)
    shown = exemplars(bench, how, some)
    found = grid(bench, sae, candidates(bench, how, sae, shown), some, how)
    found = also_by_d(bench, sae, found, some, how)
    best = sorted(found.candidates[:found.finalists],
                  key=lambda entry: -entry["unsafe_refusal"]["hits"])
    return Proposed(tuple(entry["feature"] for entry in best[:RAISED]), (), refusal)


def _of_file(found: dict[str, Any], sae: SAE, refusal: Refusal) -> Proposed:
    ranked = found["methods"].get("causal_grid", [])
    if not ranked:
        raise InputError("features.json ranks no feature by its effect (causal_grid is empty). "
                         "Run `sternpost features find` again, or give --feature.")
    by_d = sorted(ranked, key=lambda e: -(e.get("discrimination") or {"points": -1e9})["points"])
    both = [e["feature"] for pair in zip(by_d, ranked, strict=True) for e in pair]
    members = [edit["feature"] for one in found["sets"][:1] for edit in one["edits"]
               if edit["edit"] == "Clamp"]
    raised = tuple(dict.fromkeys([*members, *both]))[:RAISED]
    cut = [edit["feature"] for one in found["sets"][:1] for edit in one["edits"]
           if edit["edit"] == "Ablate"]
    lowered = tuple(f for f in dict.fromkeys([*cut, *(e["feature"] for e in found["harm"])])
                    if f not in raised)[:LOWERED]
    if outside := [f for f in (*raised, *lowered) if f >= sae.d_sae]:
        raise InputError(f"features.json names features {outside}, and this SAE has {sae.d_sae}. "
                         "Give the SAE that `features find` used: its DIR/sae.")
    first = [{**{f"raise {f}": 1.0 for f in members}, **{f"ablate {f}": True for f in cut
                                                         if f in lowered}}] if members else []
    return Proposed(raised, lowered, refusal, tuple(first))


def _screening(search: Search) -> Search:
    """At most SCREENED prompts of each side, spread."""
    keep: list[int] = []
    for kind in ("unsafe", "safe"):
        mine = sorted((at for at, p in enumerate(search.prompts) if p.kind == kind),
                      key=lambda at: search.prompts[at].request.sha256)
        keep += mine[::max(1, -(-len(mine) // SCREENED))]
    chosen = sorted(keep)
    named = {search.prompts[at].request.sha256 for at in chosen}
    return Search([search.prompts[at] for at in chosen], [search.own[at] for at in chosen],
                  [line for line in search.baseline if line["prompt_sha256"] in named])


def _refusal(bench: Bench, sae: SAE, prompts: Sequence[LabelledPrompt],
             own: Sequence[Completion]) -> Refusal:
    pairs = list(zip(prompts, own, strict=True))
    safe = _some([pair for pair in pairs if pair[0].kind == "safe"], SEEN)
    every = _some([(replace(p, source=None), c) for p, c in pairs], SEEN)
    refused = [c for (_, c), side in zip(safe, bench.shown([c for _, c in safe]), strict=True)
               if side and c.reply_ids]
    if len(refused) < FEWEST:  # it refuses what is unsafe alone: what does that is all there is
        refused = [c for (_, c), side in zip(every, bench.shown([c for _, c in every]), strict=True)
                   if side and c.reply_ids]
    return Refusal(_means(bench, sae, safe), _means(bench, sae, every),
                   _refusing(bench, sae, _some(refused, EXPLAINED)))


def _some(rows: Sequence[T], most: int) -> list[T]:
    """At most so many of the rows, spread."""
    return list(rows[::max(1, -(-len(rows) // most))])


def _means(bench: Bench, sae: SAE,
           pairs: Sequence[tuple[LabelledPrompt, Completion]]) -> Tensor:
    """Difference in means of refused and answered prompts at the last token, of each source; mean
    over those that have enough of both, at unit length; 0 where there are none."""
    shown = bench.shown([c for _, c in pairs])
    rows = bench.engine.residuals([Transcript(ids=c.prompt_ids) for _, c in pairs], sae.hookpoint)
    last = [row.values[-1].cpu() for row in rows]
    found = []
    for source in sorted({p.source for p, _ in pairs}, key=str):
        sides = [[h for h, (p, _), side in zip(last, pairs, shown, strict=True)
                  if p.source == source and side == which] for which in (True, False)]
        if min(map(len, sides)) >= FEWEST:
            found.append(difference_in_means(*(torch.stack(side) for side in sides)))
    mean = torch.stack(found).mean(0) if found else torch.zeros(sae.d_model)
    return mean / mean.norm().clamp(min=1e-12)


def _refusing(bench: Bench, sae: SAE, refused: Sequence[Completion]) -> dict[int, float]:
    if not refused:
        return {}
    scores, acts = torch.zeros(sae.d_sae), torch.zeros(sae.d_sae)
    for row in bench.engine.gradients(refused, sae.hookpoint):
        assert row.gradient is not None
        h, gradient = row.values[-1:].to(sae.device), row.gradient[-1].to(sae.device).float()
        active = sae.encode(h).dense()[0].float()
        acts += active.cpu()
        scores += (active * (sae.W_dec.float() @ gradient)).cpu()
    return {f: float(acts[f] / len(refused)) for f in strongest(scores, max(MEMBERS))}
