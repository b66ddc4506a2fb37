"""The gates of a calibration: every kind fitted, looked at on sources that it did not see, the best
kept, and given a threshold for each budget.

    fit         on gate_fit
    within      AUROC of risks by fits that missed the row's cluster
    across      AUROC of risks by fits that missed the row's whole source; of the kind that is kept
                also by fits that missed its wrapper family, or its category
    kept        of the kinds that do as well as the best on the search split, within a point, the
                one with the best AUROC across sources. safer: unsafe prompts fired on at the
                budget; freer: safe prompts below the risk of (nearly) every unsafe one
    threshold   no kind of benign calibration prompt fires more than the budget (split conformal)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from sternpost.errors import GateError
from sternpost.files import read_json, read_tensors, write_json, write_tensors
from sternpost.gates import (
    FittedGate,
    coverage,
    fit_cosine,
    fit_feature,
    fit_nullspace,
    fit_residual,
    fit_sparse,
    from_tensors,
    held_out,
    to_tensors,
)
from sternpost.gates.coverage import FEW, UNNAMED
from sternpost.jobs.bench import Bench, own_replies
from sternpost.jobs.calibrate_settings import CalibrateSettings
from sternpost.sae import SAE
from sternpost.stats import auroc, conformal_threshold, grouped_threshold
from sternpost.types import Completion, LabelledPrompt, Transcript

Fit = Callable[[Tensor, np.ndarray, np.ndarray], FittedGate]
GAP = 0.05
"""AUROC by which a gate may do worse on sources that it did not see before a warning says so."""
FALSE_FIRE = 0.01
"""Budget at which false fire across sources is told."""
NAMED = 8
"""Values that a warning names, at most."""
SURE = 0.0025
"""Share of unsafe prompts that may lie below."""
LEFT_OUT = 1000
"""Rows on which sources are left out, at most: each kind is fitted once a source."""
NEAR = 0.01
"""Share of unsafe search prompts by which a kind may fire on fewer and still be kept."""
LABELS = (10, 30, 100, 300)
"""Labelled prompts a side of the curve."""


@dataclass(frozen=True)
class Read:
    """Prompts, and the stream where their last user message ends."""

    prompts: Sequence[LabelledPrompt]
    h: Tensor

    @property
    def harmful(self) -> np.ndarray:
        """[row]: unsafe prompts."""
        return np.array([p.kind == "unsafe" for p in self.prompts], dtype=bool)

    @property
    def clusters(self) -> np.ndarray:
        """[row]"""
        return np.array([p.cluster or p.request.sha256 for p in self.prompts])

    def column(self, name: str) -> np.ndarray:
        """[row]: source, family or category, with a name where there is none."""
        return np.array([getattr(p, name) or UNNAMED for p in self.prompts])

    def some(self, keep: Sequence[bool] | np.ndarray) -> "Read":
        """Some of the rows."""
        rows = np.flatnonzero(np.asarray(keep)).tolist()
        return Read([self.prompts[at] for at in rows], self.h[rows])


@dataclass(frozen=True)
class Gates:
    """The gate that is kept, and what was seen of all kinds."""

    gate: FittedGate
    about: dict[str, Any]
    """As calibration.json has it."""
    benign: Read
    """The calibration prompts."""
    warnings: list[str]

    def threshold(self, budget: float) -> tuple[float, dict[str, float]]:
        """Above it the gate fires so that no kind of benign prompt fires more than `budget` (a
        share); and the budgets that small kinds can be promised by themselves."""
        risks = self.gate.risk(self.benign.h).tolist()
        found = grouped_threshold(risks, kinds_of(self.benign.prompts), budget)
        return found.value, {name: one.budget for name, one in found.small.items()}


def kinds_of(prompts: Sequence[LabelledPrompt]) -> list[str]:
    """The kind of each benign prompt: its source."""
    return [p.source or "unnamed" for p in prompts]


def read_t_inst(bench: Bench, prompts: Sequence[LabelledPrompt], sae: SAE, key: str,
                own: Sequence[Completion] | None = None, every: bool = False) -> Read:
    """The stream at each prompt's t_inst; merely offensive prompts are left out, unless `every`
    one is asked for. Scripts are answered for it, where `own` does not bring the replies."""
    counted = [at for at, p in enumerate(prompts) if every or p.harm_kind != "offensive"]
    mine = [prompts[at] for at in counted]
    if own is not None:
        texts = [Transcript(ids=own[at].prompt_ids) for at in counted]
    else:
        scripts = [p for p in mine if sum(m.role == "user" for m in p.request.messages) > 1]
        said = {p.request.sha256: Transcript(ids=c.prompt_ids) for p, c in zip(
            scripts, own_replies(bench.engine, scripts, bench.sampling, bench.folder, f"own-{key}"),
            strict=True)}
        texts = [said.get(p.request.sha256) or Transcript(messages=p.request.messages)
                 for p in mine]
    return Read(mine, bench.engine.at_t_inst(texts, sae.hookpoint))


def fits_of(sae: SAE, kinds: Sequence[str], seed: int) -> dict[str, Fit]:
    """The fit of each kind that this SAE allows."""
    every: dict[str, Fit] = {
        "residual": lambda h, y, c: fit_residual(h, y, c, sae.hookpoint, seed),
        "cosine": lambda h, y, c: fit_cosine(h, y, c, sae.hookpoint, seed=seed),
        "nullspace": lambda h, y, c: fit_nullspace(h, y, c, sae.hookpoint, seed)}
    if sae.per_token is None:  # else its features are no straight lines in the stream
        every["sparse"] = lambda h, y, c: fit_sparse(h, y, c, sae, seed)
        every["feature"] = lambda h, y, c: fit_feature(h, y, c, sae, seed)
    return {kind: every[kind] for kind in kinds if kind in every}


def fit_gates(bench: Bench, sae: SAE, reads: Mapping[str, Read], settings: CalibrateSettings,
              ) -> Gates:
    """The best gate of the kinds asked for. `reads`: gate_fit, gate_calibration, search."""
    folder = bench.folder.stages / "gates"
    benign = reads["gate_calibration"]
    benign = benign.some(~benign.harmful)

    def make() -> dict[str, Any]:
        fits = fits_of(sae, settings.gate_kinds, settings.seed)
        gate, about = _best(reads, fits, benign, settings)
        body, tensors = to_tensors(gate)
        write_tensors(folder / "gate.safetensors", tensors)
        write_json(folder / "gate.json", body)
        return about

    about = bench.folder.once("gates", make)
    gate = from_tensors(read_json(folder / "gate.json"), read_tensors(folder / "gate.safetensors"))
    return Gates(gate, about, benign, _warnings(about))


def _best(reads: Mapping[str, Read], fits: Mapping[str, Fit], benign: Read,
          settings: CalibrateSettings) -> tuple[FittedGate, dict[str, Any]]:
    seed = settings.seed
    fit, search = reads["gate_fit"], reads["search"]
    gates = {kind: make(fit.h, fit.harmful, fit.clusters) for kind, make in fits.items()}
    rows = [_row(kind, gates[kind], fits[kind], (fit, search, benign), seed) for kind in gates]
    best = kept(rows, "opens" if settings.aim == "freer" else "unsafe")
    gate = gates[best["kind"]]
    best["across"].update(_across(fit, fits[best["kind"]], ("family", "category"), seed))
    counted = coverage(fit.harmful.tolist(), {name: [getattr(p, name) for p in fit.prompts]
                                              for name in ("category", "group", "language")})
    return gate, {"kind": gate.kind, "layer": gate.hookpoint.layer, "kinds": rows,
                  "coverage": {column: {value: list(sides) for value, sides in values.items()}
                               for column, values in counted.counts.items()},
                  "warnings": list(counted.warnings),
                  "curve": _curve(fits[best["kind"]], fit, (search, benign), seed)}


def kept(rows: Sequence[Mapping[str, Any]], share: str = "unsafe") -> dict[str, Any]:
    """Of the kinds whose `share` of search prompts is the best's, within a point, the one with the
    best AUROC across sources, where that is known; fewer features on a tie."""
    most = max(row["search_fires"][share] for row in rows)
    near = [row for row in rows if row["search_fires"][share] >= most - NEAR]
    order = ("sparse", "residual", "cosine", "nullspace", "feature")

    def across(row: Mapping[str, Any]) -> tuple[float, int]:
        seen = row["across"].get("source") or {"auroc": row["search"]["value"]}
        return round(seen["auroc"], 3), -order.index(row["kind"])

    return dict(max(near, key=across))


def _row(kind: str, gate: FittedGate, make: Fit, reads: tuple[Read, Read, Read],
         seed: int) -> dict[str, Any]:
    """What is seen of one kind."""
    fit, search, benign = reads
    area = auroc(gate.risk(search.h).tolist(), search.harmful.tolist(), search.clusters.tolist(),
                 seed)
    return {"kind": kind, "across": _across(fit, make, ("source",), seed),
            "search": area._asdict(), "search_fires": _fires(gate, search, benign)}


def _across(fit: Read, make: Fit, columns: Sequence[str], seed: int) -> dict[str, Any]:
    """For each column: AUROC within its values and across them, on some of the rows."""
    if len(fit.prompts) > LEFT_OUT:
        rows = np.random.default_rng(seed).permutation(len(fit.prompts))[:LEFT_OUT]
        fit = fit.some(np.isin(np.arange(len(fit.prompts)), rows))
    out: dict[str, Any] = {}
    for column in columns:
        names = fit.column(column)
        names = np.where(names == "none", UNNAMED, names) if column == "category" else names
        if len(set(names[fit.harmful])) + len(set(names[~fit.harmful])) < 3:
            continue  # nothing of its side would be left
        found = held_out(fit.h, fit.harmful, fit.clusters, names, make, seed)
        # rows without a value are no source: without them all a gate would know no harmless prompt
        across = np.where(names == UNNAMED, found.within, found.across)
        out[column] = {"within": _area(found.within, fit), "auroc": _area(across, fit),
                       "alone": list(found.alone), "false_fire": _false_fire(across, fit, names)}
    return out


def _area(risks: np.ndarray, read: Read) -> float:
    return auroc(risks.tolist(), read.harmful.tolist(), read.clusters.tolist()).value


def _false_fire(risks: np.ndarray, fit: Read, names: np.ndarray) -> dict[str, float]:
    """Of each benign source: the share above the threshold that the other sources' benign risks
    set at the budget."""
    out = {}
    for name in sorted(set(names[~fit.harmful])):
        mine, others = ~fit.harmful & (names == name), ~fit.harmful & (names != name)
        if others.any():
            limit = conformal_threshold(risks[others].tolist(), FALSE_FIRE).value
            out[str(name)] = float((risks[mine] > limit).mean())
    return out


def _fires(gate: FittedGate, search: Read, benign: Read) -> dict[str, float]:
    """Shares of the search split: that fire at the budget, and of safe prompts at or below the
    risk of all unsafe ones but SURE."""
    limit = conformal_threshold(gate.risk(benign.h).tolist(), FALSE_FIRE).value
    risk = gate.risk(search.h).numpy()
    fired, unsafe = risk > limit, np.sort(risk[search.harmful])
    lowest = unsafe[int(SURE * len(unsafe))]
    return {"unsafe": float(fired[search.harmful].mean()),
            "safe": float(fired[~search.harmful].mean()),
            "opens": float((risk[~search.harmful] < lowest).mean())}


def _curve(make: Fit, fit: Read, reads: tuple[Read, Read], seed: int) -> list[dict[str, Any]]:
    """How the gate does on the search split by labelled prompts a side."""
    search, benign = reads
    rng, out = np.random.default_rng(seed), []
    for n in LABELS:
        sides = [np.flatnonzero(fit.harmful == side) for side in (True, False)]
        if min(map(len, sides)) < n:
            continue
        rows = np.concatenate([rng.choice(side, n, replace=False) for side in sides])
        keep = np.zeros(len(fit.harmful), dtype=bool)
        keep[rows] = True
        some = fit.some(keep)
        try:
            gate = make(some.h, some.harmful, some.clusters)
        except GateError as error:  # too few clusters for a fit: the curve begins later
            out.append({"labels": n, "why": str(error)})
            continue
        area = _area(gate.risk(search.h).numpy(), search)
        out.append({"labels": n, "auroc": area, **_fires(gate, search, benign)})
    return out


def _warnings(about: Mapping[str, Any]) -> list[str]:
    out = []
    for row in about["kinds"]:
        for column, seen in row["across"].items():
            if seen["within"] - seen["auroc"] > GAP:
                out.append(f"gate {row['kind']}: AUROC {seen['within']:.3f} inside the "
                           f"{column} values that it was fitted on, {seen['auroc']:.3f} on one "
                           "that it did not see: it knows these sources better than harm.")
    few = [f"{column} {value}" for column, values in about["coverage"].items()
           for value, sides in values.items() if sides[1] < FEW]
    more = f" and {len(few) - NAMED} others (see the card)" if len(few) > NAMED else ""
    return out + [f"gate: fitted on fewer than {FEW} benign prompts of {', '.join(few[:NAMED])}"
                  f"{more}; how often it fires on such is not known."] if few else out


def with_threshold(gate: FittedGate, value: float) -> FittedGate:
    """The same gate, firing above `value`."""
    return replace(gate, threshold=value)
