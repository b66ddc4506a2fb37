"""What a run gives back: results.json as an object, its tables, its lines."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from sternpost.engines.transformers import TransformersEngine
from sternpost.files import (
    read_json,
    read_jsonl,
    sha256_file,
    write_json,
    write_jsonl,
    write_tensors,
    write_text,
)
from sternpost.packs.make import build_pack
from sternpost.report import headline, render_report, results_html_table
from sternpost.sae import weights_in
from sternpost.store import Sample, write_pack
from sternpost.trials.bench import Bench
from sternpost.trials.find import Found
from sternpost.trials.gate import Gated, gate_entry
from sternpost.trials.inputs import Inputs
from sternpost.trials.load import template_sha256
from sternpost.trials.run_settings import RunSettings
from sternpost.trials.sae import Trained
from sternpost.trials.sweep import Chosen


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    path: Path
    results: dict[str, Any] = field(repr=False)
    """results.json"""

    @classmethod
    def read(cls, path: str | Path) -> "RunResult":
        """The run that was finished in `path`."""
        return cls(Path(path), read_json(Path(path) / "results.json"))

    @property
    def headline(self) -> str:
        """What the run showed, in one sentence."""
        return headline(self.results)

    @property
    def samples(self) -> list[Sample]:
        """The lines of samples.jsonl."""
        return read_jsonl(self.path / "samples.jsonl")

    def to_pandas(self) -> Any:
        """A row a condition: its name and value, and every rate's hits, n and interval."""
        import pandas as pd  # heavy: only for who asks

        return pd.json_normalize([{k: v for k, v in c.items() if k != "why"}
                                  for c in self.results["conditions"]])

    def _repr_html_(self) -> str:
        return f"<p>{self.headline}</p>{results_html_table(self.results)}"


@dataclass(frozen=True)
class Findings:
    """What the stages of a run found, in the order of the story."""

    trained: Trained
    found: Found
    chosen: Chosen
    gated: Gated | None
    conditions: list[dict[str, Any]]
    """Entries of results.json."""
    lines: list[Sample]
    """Of the test split."""
    warnings: list[str]


def results_of(settings: RunSettings, inputs: Inputs, bench: Bench,
               findings: Findings) -> dict[str, Any]:
    """The body of results.json."""
    judge, found, chosen = bench.judge, findings.found, findings.chosen
    accuracy = judge.accuracy
    return {
        "kind": "run", "model": settings.model, "feature": found.feature, "layer": inputs.at.layer,
        "candidates": found.candidates, "sae": findings.trained.as_dict(),
        "reference": {"value": chosen.reference, "relative": chosen.reference / found.high},
        "best_d": {"value": chosen.best_d}, "conditions": findings.conditions,
        **_gate(settings, findings),
        "judge": {"name": judge.name,
                  "accuracy": accuracy.accuracy.share if accuracy.accuracy else None,
                  "accuracy_interval": accuracy.accuracy.as_dict() if accuracy.accuracy else None,
                  "kappa": accuracy.kappa, "n": accuracy.n, "data": accuracy.data},
        "warnings": findings.warnings, "timing": bench.watch.seconds,
        "provenance": _provenance(settings, inputs, bench)}


def _gate(settings: RunSettings, findings: Findings) -> dict[str, Any]:
    if findings.gated is None:
        return {"gate": None, "why": {"gate": "--no-gate"}}
    lines = [line for line in findings.lines if line["condition"] == "gated_clamp"]
    return {"gate": gate_entry(findings.gated, lines, settings.seed)}


def _provenance(settings: RunSettings, inputs: Inputs, bench: Bench) -> dict[str, Any]:
    model = getattr(bench.engine, "model", None)
    return {
        "seed": settings.seed,
        "versions": {"python": python_version(), **{name: version(name) for name in (
            "sternpost", "torch", "transformers", "numpy", "scipy")}},
        "hashes": {**inputs.hashes, "sae": sha256_file(weights_in(bench.folder.path / "sae"))},
        "command": settings.command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {
            "max_new_tokens": settings.max_new_tokens,
            "dtype": str(getattr(model, "dtype", "none")).removeprefix("torch."),
            "batch_size": bench.engine.batch_size, "system": settings.system,
            "chat_template_sha256": template_sha256(bench.engine),
            "chat_template_kwargs": settings.template_arguments,
            "d_sae": inputs.d_sae, "k": inputs.k, "sae_reasons": inputs.reasons}}


def _pack(settings: RunSettings, inputs: Inputs, bench: Bench, findings: Findings,
          results: dict[str, Any]) -> str | None:
    """Writes the pack of a gated run, and gives its name; None where there is none."""
    if findings.gated is None or not isinstance(bench.engine, TransformersEngine):
        return None
    return write_pack(bench.folder.path / "pack", build_pack(
        bench.engine, findings.trained.sae, findings.gated, {
            "results": results, "settings": settings, "judge": bench.judge,
            "splits": inputs.splits.as_dict(),
            "sae_sha256": results["provenance"]["hashes"]["sae"],
            "requests": {p.request.sha256: p.request for p in inputs.splits.search}},
        _golden_lines(findings)))


def _golden_lines(findings: Findings) -> list[Sample]:
    """What the search prompts gave at the levels off and high."""
    assert findings.gated is not None
    value = findings.gated.value
    return [line for line in (*findings.found.lines, *findings.gated.lines)
            if line["condition"] == "baseline"
            or (line["condition"] == "gated_clamp" and line["value"] == value)]


def write_results(settings: RunSettings, inputs: Inputs, bench: Bench,
                  findings: Findings) -> RunResult:
    """All files of a finished run; results.json last, for it says that the run is finished."""
    path, lines = bench.folder.path, findings.lines
    results = results_of(settings, inputs, bench, findings)
    write_json(path / "splits.json", inputs.splits.as_dict(inputs.train))
    write_tensors(path / "diffmean.safetensors", {"direction": findings.chosen.direction})
    write_jsonl(path / "samples.jsonl", lines)
    write_jsonl(path / "search.jsonl", [*findings.found.lines, *findings.chosen.lines,
                                        *(findings.gated.lines if findings.gated else ())])
    results["pack"] = _pack(settings, inputs, bench, findings, results)
    write_text(path / "report.html", render_report(results, lines))
    write_json(path / "results.json", results)
    bench.folder.close()
    return RunResult.read(path)
