"""What comes of a training: the SAEs with thresholds and statistics, their quality, the report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch

from sternpost.engines.streams import recovered
from sternpost.engines.transformers import TransformersEngine
from sternpost.files import read_json, read_jsonl, sha256_file, write_json, write_text
from sternpost.report import render_training, training_headline, training_html_table
from sternpost.report.training import BINS, NEVER
from sternpost.sae import SAE, calibrate, measure_agreement, measure_fit, save_sae, weights_in
from sternpost.sae.train import Trainer
from sternpost.store import RunFolder
from sternpost.training.corpus import left_out
from sternpost.training.inputs import Read
from sternpost.training.metrics import FILE
from sternpost.training.sources import FromModel, Source
from sternpost.trials.progress import Watch
from sternpost.types import Hookpoint

SPLICED = 32
"""Held-out texts on which cross-entropy is measured, at most."""


@dataclass(frozen=True)
class TrainResult:
    """A finished training."""

    path: Path
    results: dict[str, Any] = field(repr=False)
    """results.json"""

    @classmethod
    def read(cls, path: str | Path) -> "TrainResult":
        """The training that was finished in `path`."""
        return cls(Path(path), read_json(Path(path) / "results.json"))

    @property
    def headline(self) -> str:
        """What it came to, in one sentence."""
        return training_headline(self.results)

    def to_pandas(self) -> Any:
        """A row an SAE."""
        import pandas as pd  # heavy: only for who asks

        return pd.json_normalize([{k: v for k, v in sae.items() if k not in (
            "why", "density_histogram")} for sae in self.results["saes"]])

    def _repr_html_(self) -> str:
        return f"<p>{self.headline}</p>{training_html_table(self.results)}"


def finish(inputs: Read, engine: TransformersEngine | None, source: Source,
           trainers: Sequence[Trainer], folder: RunFolder, watch: Watch) -> TrainResult:
    """All files of a finished training; results.json last, for it says that it is finished."""
    recipe, path = inputs.recipe, folder.path
    with watch.stage("measure", "Measuring what was learned"):
        samples, unseen = source.sample(), source.unseen()
        entries = []
        for layer, trainer, sample, held in zip(recipe.layers, trainers, samples, unseen,
                                                strict=True):
            sae = _calibrated(trainer, layer, sample, held)
            save_sae(sae.to("cpu"), path / f"layers.{layer}")
            entries.append({
                "layer": layer, "folder": f"layers.{layer}", "kind": recipe.kind,
                "d_sae": sae.d_sae, "k": recipe.k, **_quality(sae, sample, held),
                **_spliced(engine, source, sae, recipe.context),
                "sha256": sha256_file(weights_in(path / f"layers.{layer}"))})
    skipped = left_out(source.windows.following.cursor) if isinstance(source, FromModel) else []
    results = {
        "kind": "train", "model": recipe.model, "layers": list(recipe.layers),
        "tokens": recipe.steps * recipe.batch, "saes": entries, "metrics": FILE,
        "recipe": recipe.identity(),
        "warnings": [*skipped, *_warnings(entries)], "timing": watch.seconds,
        "provenance": {"seed": recipe.seed, "date": datetime.now(UTC).isoformat(timespec="seconds"),
                       "hashes": inputs.hashes,
                       "versions": {"python": python_version(), **{name: version(name) for name in (
                           "sternpost", "torch", "transformers")}}}}
    write_text(path / "report.html", render_training(results, read_jsonl(path / FILE)))
    write_json(path / "results.json", results)
    folder.close()
    return TrainResult.read(path)


def _calibrated(trainer: Trainer, layer: int, sample: torch.Tensor, held: torch.Tensor) -> SAE:
    sae = trainer.sae(Hookpoint(layer))
    sae = calibrate(sae, sample.to(sae.device))
    if sae.kind == "topk" and sae.stats is not None:
        agreement = measure_agreement(sae, held.to(sae.device))
        sae = replace(sae, stats=replace(sae.stats, agreement=agreement))
    return sae


def _quality(sae: SAE, sample: torch.Tensor, held: torch.Tensor) -> dict[str, Any]:
    fit = measure_fit(sae, held)
    assert sae.stats is not None
    logs = sae.stats.density.cpu().double().clamp(min=10 ** NEVER).log10()
    ends = torch.linspace(NEVER, 0.0, BINS + 1, dtype=torch.float64)
    counts = torch.histogram(logs, ends).hist.long().tolist()
    return {"fvu": fit.fvu, "l0": fit.l0, "measured_on": fit.tokens,
            "dead_fraction": float((sae.stats.density == 0).double().mean()),
            "sampled": len(sample), "residual_norm": sae.residual_norm,
            "density_histogram": {"log10": [round(x, 3) for x in ends.tolist()],
                                  "features": counts}}


def _spliced(engine: TransformersEngine | None, source: Source, sae: SAE,
             longest: int) -> dict[str, Any]:
    """Cross-entropy with the SAE spliced in, where there are texts to read."""
    if engine is None or not isinstance(source, FromModel):
        return {"ce": None, "ce_recovered": None, "why": {
            "ce": "trained on harvested activations: no text was read"}}
    found = recovered(engine, source.reader.walk.held_out()[:SPLICED], sae, longest)
    body = {"plain": found.plain, "spliced": found.spliced, "mean": found.mean,
            "tokens": found.tokens}
    if found.share is None or not math.isfinite(found.share):
        return {"ce": body, "ce_recovered": None,
                "why": {"ce_recovered": "the mean in the stream's place costs the model nothing"}}
    return {"ce": body, "ce_recovered": found.share}


def _warnings(entries: Sequence[dict[str, Any]]) -> list[str]:
    out = []
    for sae in entries:
        if sae["dead_fraction"] > 0.3:
            out.append(f"layer {sae['layer']}: {sae['dead_fraction']:.0%} of the features were "
                       f"active on none of {sae['sampled']:,} tokens. More tokens, or fewer "
                       "features, leave fewer dead.")
        if sae["fvu"] > 0.3:
            out.append(f"layer {sae['layer']}: FVU {sae['fvu']:.2f}: much of the stream is not "
                       "explained. More tokens, features or active features explain more.")
    return out
