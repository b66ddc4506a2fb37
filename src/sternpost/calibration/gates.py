"""The gates of a calibration: every kind fitted at every layer asked for, looked at on sources that
it did not see, the best kept, and given a threshold for each budget.

    fit         on gate_fit
    seen        on the search split, and on gate_fit rows whose cluster, or whole source, the fit
                missed; of the one that is kept also whose wrapper family, or category
    kept        of those that do as well as the best on the search split, within a point, the one
                with the best AUROC across sources. safer: unsafe prompts fired on at the budget;
                freer: safe prompts below the risk of (nearly) every unsafe one
    categories  with --categories: the same fit for each hazard category against benign rows
    threshold   no kind of benign calibration prompt fires more than the budget (split conformal)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sternpost.calibration.reads import Read, Reads, kinds_of
from sternpost.calibration.seen import (
    FALSE_FIRE,
    Fit,
    across,
    by_category,
    curve,
    limit_at,
    on_search,
)
from sternpost.calibration.settings import CalibrateSettings
from sternpost.errors import GateError, InputError
from sternpost.files import read_json, read_tensors, write_json, write_tensors
from sternpost.gates import (
    CategoryGate,
    FittedGate,
    coverage,
    fit_categories,
    fit_cosine,
    fit_feature,
    fit_nullspace,
    fit_residual,
    fit_sparse,
    from_tensors,
    to_tensors,
)
from sternpost.gates.coverage import FEW
from sternpost.sae import SAE
from sternpost.stats import grouped_threshold
from sternpost.trials.bench import Bench
from sternpost.types import Hookpoint, LabelledPrompt

GAP = 0.05
"""AUROC by which a gate may do worse on sources that it did not see before a warning says so."""
NAMED = 8
"""Values that a warning names, at most."""
NEAR = 0.01
"""Share of unsafe search prompts by which a kind may fire on fewer and still be kept."""
ORDER = ("sparse", "residual", "cosine", "nullspace", "feature")
"""Which kind is kept on a tie: fewer features first."""


@dataclass(frozen=True)
class Gates:
    """The gate that is kept, and what was seen of all kinds."""

    gate: FittedGate
    about: dict[str, Any]
    """As calibration.json has it."""
    benign: Read
    """The calibration prompts, where this gate reads."""
    warnings: list[str]

    def threshold(self, budget: float) -> tuple[float, dict[str, float]]:
        """Above it the gate fires so that no kind of benign prompt fires more than `budget` (a
        share); and the budgets that small kinds can be promised by themselves."""
        return limit_of(self.gate.risk(self.benign.h).tolist(), self.benign.prompts, budget)


def limit_of(risks: Sequence[float], benign: Sequence[LabelledPrompt],
             budget: float) -> tuple[float, dict[str, float]]:
    """The threshold of `Gates`, of the risks of these benign prompts."""
    found = grouped_threshold(risks, kinds_of(benign), budget)
    return found.value, {name: one.budget for name, one in found.small.items()}


@dataclass(frozen=True)
class Candidate:
    """A kind of gate at a layer."""

    kind: str
    at: Hookpoint
    fit: Fit
    own: bool
    """Whether the SAE reads there too."""

    @property
    def name(self) -> str:
        """As tables have it."""
        return self.kind if self.own else f"{self.kind} at {self.at.layer}"


def candidates_of(sae: SAE, settings: CalibrateSettings) -> list[Candidate]:
    """Every kind at every layer asked for that this SAE allows: its features are read where it
    reads. Raises InputError where none is left."""
    places = [Hookpoint(layer) for layer in dict.fromkeys(settings.gate_layer)] or [sae.hookpoint]
    out = [Candidate(kind, at, fits[kind], at == sae.hookpoint) for at in places
           for fits in [_fits(sae, at, settings.seed)] for kind in settings.gate_kinds
           if kind in fits]
    if not out:
        raise InputError(f"Gates of kind {settings.gates} read the SAE's features, at block "
                         f"{sae.hookpoint.layer}; none can be fitted for --gate-layer "
                         f"{', '.join(map(str, settings.gate_layer)) or '(its own)'}. Add that "
                         "layer, or --gates residual,cosine,nullspace.")
    return out


def _fits(sae: SAE, at: Hookpoint, seed: int) -> dict[str, Fit]:
    every: dict[str, Fit] = {
        "residual": lambda h, y, c: fit_residual(h, y, c, at, seed),
        "cosine": lambda h, y, c: fit_cosine(h, y, c, at, seed=seed),
        "nullspace": lambda h, y, c: fit_nullspace(h, y, c, at, seed)}
    # the features of an SAE that scales tokens are no straight lines in the stream
    if at == sae.hookpoint and sae.per_token is None:
        every["sparse"] = lambda h, y, c: fit_sparse(h, y, c, sae, seed)
        every["feature"] = lambda h, y, c: fit_feature(h, y, c, sae, seed)
    return every


def fit_gates(bench: Bench, sae: SAE, reads: Reads, settings: CalibrateSettings) -> Gates:
    """The best gate of the kinds and layers asked for."""
    folder = bench.folder.stages / "gates"

    def make() -> dict[str, Any]:
        gate, about = _best(reads, candidates_of(sae, settings), settings)
        body, tensors = to_tensors(gate)
        write_tensors(folder / "gate.safetensors", tensors)
        write_json(folder / "gate.json", body)
        return about

    about = bench.folder.once("gates", make)
    gate = from_tensors(read_json(folder / "gate.json"), read_tensors(folder / "gate.safetensors"))
    return Gates(gate, about, reads.at(gate.hookpoint)["gate_calibration"].benign,
                 warnings_of(about))


def _best(reads: Reads, candidates: Sequence[Candidate],
          settings: CalibrateSettings) -> tuple[FittedGate, dict[str, Any]]:
    seed = settings.seed
    fitted, failed = _fitted(reads, candidates, seed)
    rows = [row for _, _, row in fitted]
    best = kept(rows, "opens" if settings.aim == "freer" else "unsafe")
    one, gate, row = next(some for some in fitted if some[2]["kind"] == best["kind"])
    mine = reads.at(one.at)
    fit, search, benign = mine["gate_fit"], mine["search"], mine["gate_calibration"].benign
    row["across"].update(across(fit, one.fit, ("family", "category"), seed))
    counted = coverage(fit.harmful.tolist(), {name: [getattr(p, name) for p in fit.prompts]
                                              for name in ("category", "group", "language")})
    about = {"kind": gate.kind, "layer": gate.hookpoint.layer, "kinds": rows, "failed": failed,
             "coverage": {column: {value: list(sides) for value, sides in values.items()}
                          for column, values in counted.counts.items()},
             "warnings": list(counted.warnings),
             "curve": curve(one.fit, fit, (search, benign), seed)}
    if not settings.categories:
        return gate, about
    gate, told = _with_categories(one.fit, mine, seed)
    return gate, {**about, "categories": told}


def _fitted(reads: Reads, candidates: Sequence[Candidate], seed: int,
            ) -> tuple[list[tuple[Candidate, FittedGate, dict[str, Any]]], dict[str, str]]:
    """Every gate with what is seen of it, and why others could not be fitted. Raises GateError
    where none could."""
    out, failed = [], {}
    for one in candidates:
        mine = reads.at(one.at)
        fit = mine["gate_fit"]
        try:
            gate = one.fit(fit.h, fit.harmful, fit.clusters)
            out.append((one, gate, _row(one, gate, mine, seed)))
        except GateError as error:
            if len(candidates) == 1:
                raise
            failed[one.name] = str(error)
    if not out:
        raise GateError(f"No gate could be fitted. {failed[candidates[-1].name]}")
    return out, failed


def _with_categories(make: Fit, mine: Mapping[str, Read],
                     seed: int) -> tuple[CategoryGate, dict[str, Any]]:
    """The gate with a member for each category, each with a threshold of its own, and what is seen
    of these. The overall risk is what it was."""
    fit, benign = mine["gate_fit"], mine["gate_calibration"].benign
    gate = fit_categories(fit.h, fit.harmful, fit.clusters, named_categories(fit.prompts), make,
                          FEW)
    limits = [limit_at(column) for column in gate.risks(benign.h).T.numpy()]
    gate = replace(gate, limits=tuple(limits[1:]))
    return gate, {"budget": FALSE_FIRE, "left_out": list(gate.left_out), "by_category": by_category(
        gate, mine["search"], benign, limits[0], seed)}


def named_categories(prompts: Sequence[LabelledPrompt]) -> list[str | None]:
    """The hazard category of each prompt."""
    return [None if p.category in (None, "none") else p.category for p in prompts]


def kept(rows: Sequence[Mapping[str, Any]], share: str = "unsafe") -> dict[str, Any]:
    """Of the kinds whose `share` of search prompts is the best's, within a point, the one with the
    best AUROC across sources, where that is known; on a tie fewer features, then the layer named
    first."""
    most = max(row["search_fires"][share] for row in rows)
    near = [row for row in rows if row["search_fires"][share] >= most - NEAR]

    def beyond(row: Mapping[str, Any]) -> tuple[float, int]:
        seen = row["across"].get("source") or {"auroc": row["search"]["value"]}
        return round(seen["auroc"], 3), -ORDER.index(row["gate"])

    return dict(max(near, key=beyond))


def _row(one: Candidate, gate: FittedGate, mine: Mapping[str, Read], seed: int) -> dict[str, Any]:
    """What is seen of one kind."""
    search, benign = mine["search"], mine["gate_calibration"].benign
    return {"kind": one.name, "gate": one.kind, "layer": one.at.layer,
            "across": across(mine["gate_fit"], one.fit, ("source",), seed),
            **on_search(gate.risk(search.h).numpy(), search,
                        np.asarray(gate.risk(benign.h)), seed)}


def warnings_of(about: Mapping[str, Any]) -> list[str]:
    """What a user has to know of these gates."""
    out = [f"gate {name}: not fitted, nor kept. {why}" for name, why in about["failed"].items()]
    for row in about["kinds"]:
        for column, seen in row["across"].items():
            if seen["within"] - seen["auroc"] > GAP:
                out.append(f"gate {row['kind']}: AUROC {seen['within']:.3f} inside the "
                           f"{column} values that it was fitted on, {seen['auroc']:.3f} on one "
                           "that it did not see: it knows these sources better than harm.")
    left = about.get("categories", {}).get("left_out")
    if left:
        out.append(f"gate: no gate of their own for the categories {_some(left)}: fewer than {FEW} "
                   "prompts or 5 clusters to fit on, or nothing that tells them from benign ones; "
                   "only the overall risk knows them.")
    few = [f"{column} {value}" for column, values in about["coverage"].items()
           for value, sides in values.items() if sides[1] < FEW]
    return out + [f"gate: fitted on fewer than {FEW} benign prompts of {_some(few)}; how often it "
                  "fires on such is not known."] if few else out


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} others (see the card)" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
