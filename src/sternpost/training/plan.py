"""`plan`: what a training takes, before anything runs: numbers, memory, disk, time.

    model     2 * parameters up to the layer, FLOP a token       (attention over the text: left out)
    SAE       2 * d_model * d_sae + 8 * k * d_model, FLOP a token and layer; the optimiser's part
              is memory traffic, 32 bytes a weight and step
    hours     FLOP / (share * peak) + bytes / bandwidth

Peaks are the makers' dense figures; the share of them that a training reaches is taken as 0.4. The
row of this machine is measured: one matrix product, of whose speed 0.6 is taken as reached, beside
a bandwidth of 10 GB/s.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sternpost.engines.shapes import Shape, shape_of
from sternpost.training.recipe import Recipe
from sternpost.trials.load import packed_folder
from sternpost.trials.settings import settings_from, takes

REACHED, REACHED_HERE, BANDWIDTH_HERE = 0.4, 0.6, 1e10
HARDWARE = {  # TFLOP/s of the model (16 bit) and of the SAE (float32 / TF32), GB/s, GB
    "NVIDIA H100 SXM": (989.0, 494.0, 3350.0, 80),
    "NVIDIA A100 80 GB": (312.0, 156.0, 2039.0, 80),
    "NVIDIA L40S": (362.0, 183.0, 864.0, 48),
    "NVIDIA RTX 4090": (165.0, 82.6, 1008.0, 24),
}


@dataclass(frozen=True)
class TrainPlan:
    """What a training would take. Nothing was written."""

    model: str
    layers: tuple[int, ...]
    d_model: int
    d_sae: int
    k: int
    tokens: int
    steps: int
    parameters: Mapping[str, int]
    """Of the model, of it up to the highest layer, of each SAE."""
    flop: Mapping[str, float]
    """Of the model and of the SAEs, all tokens."""
    memory: Mapping[str, int]
    """Bytes: the model's weights, SAEs with gradients and moments, the buffer, the step's own."""
    disk: Mapping[str, int]
    """Bytes: the SAEs, a checkpoint (two lie side by side while one is written), and what a
    harvest would take."""
    hours: Mapping[str, float]

    def to_pandas(self) -> Any:
        """A row a device."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([{"device": k, "hours": v} for k, v in self.hours.items()])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan in words."""
        p, flop = self.parameters, self.flop
        share = flop["model"] / max(flop["model"] + flop["saes"], 1.0)
        return [
            f"model      {self.model}: {_short(p['model'])} parameters, d_model {self.d_model}; "
            f"read up to block {max(self.layers)} ({_short(p['below'])})",
            f"SAE        {len(self.layers)} x {self.d_sae:,} features, k = {self.k}: "
            f"{_short(p['sae'])} parameters each",
            f"tokens     {self.tokens:,} in {self.steps:,} steps",
            f"work       {flop['model'] + flop['saes']:.2e} FLOP, {100 * share:.0f} % of it the "
            "model's reading",
            "memory     " + ", ".join(f"{k} {_bytes(v)}" for k, v in self.memory.items())
            + f"; together {_bytes(sum(self.memory.values()))}",
            "disk       " + ", ".join(f"{k} {_bytes(v)}" for k, v in self.disk.items()),
            f"time       estimated, at {REACHED:g} of a device's peak:",
            *(f"  {device}: {_hours(hours)}" + self._short_of(device)
              for device, hours in self.hours.items())]

    def _short_of(self, device: str) -> str:
        room = 1e9 * HARDWARE[device][-1] if device in HARDWARE else float("inf")
        need = sum(self.memory.values())
        return f"; its {_bytes(room)} of memory do not hold this" if need > room else ""


@takes(Recipe)
def plan(**settings: Any) -> TrainPlan:
    """What `train` of the same settings would take: parameters, FLOP, memory, disk, hours.

    Raises a SternpostError for a model without a config, or a block that it does not have.
    """
    recipe = settings_from(Recipe, settings, "plan")
    return plan_of(recipe, shape_of(str(packed_folder(recipe.model, "model")), recipe.revision))


def plan_of(recipe: Recipe, shape: Shape) -> TrainPlan:
    """The plan of a recipe for a model of this shape."""
    shape.check(recipe.layers, recipe.model)
    d, n = shape.d_model, len(recipe.layers)
    d_sae = recipe.d_sae or 8 * d
    top = max(recipe.layers)
    sae = 2 * d * d_sae + d_sae + d
    read = 0.0 if recipe.activations else 2.0 * shape.below(top) * recipe.tokens
    trained = n * recipe.tokens * (2.0 * d * d_sae + 8 * recipe.k * d)
    traffic = 32.0 * sae * n * recipe.steps
    half = recipe.dtype in ("float16", "bfloat16")
    width = 2 if half or torch.cuda.is_available() else 4
    memory = {"model": 0 if recipe.activations else width * shape.parameters,
              "SAEs and optimiser": 16 * sae * n,
              "buffer": 0 if recipe.activations else width * recipe.buffer * d * n,
              "step": 4 * ((1 << 23) + 4 * recipe.batch * d)}
    disk = {"SAEs": 4 * sae * n, "checkpoint": 12 * sae * n,
            "harvested": width * recipe.tokens * d * n}
    hours = {name: _time(read, trained, traffic, *rates) / 3600
             for name, rates in _devices().items()}
    return TrainPlan(recipe.model, recipe.layers, d, d_sae, recipe.k, recipe.tokens, recipe.steps,
                     {"model": shape.parameters, "below": shape.below(top), "sae": sae},
                     {"model": read, "saes": trained}, memory, disk, hours)


def _devices() -> dict[str, tuple[float, float, float]]:
    """FLOP/s reached by the model and by the SAE, and bytes a second."""
    known = {name: (REACHED * half * 1e12, REACHED * full * 1e12, bandwidth * 1e9)
             for name, (half, full, bandwidth, _) in HARDWARE.items()}
    mine = _measured()
    here = f"this machine ({os.cpu_count()} processors, {torch.get_num_threads()} threads)"
    return {**known, here: (REACHED_HERE * mine, REACHED_HERE * mine, BANDWIDTH_HERE)}


def _measured() -> float:
    """FLOP/s of a matrix product on this machine's processors."""
    x = torch.randn(1024, 1024)
    torch.mm(x, x)
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < 0.2:
        torch.mm(x, x)
        n += 1
    return n * 2 * 1024 ** 3 / (time.perf_counter() - start)


def _time(read: float, trained: float, traffic: float, model: float, sae: float,
          bandwidth: float) -> float:
    return read / model + trained / sae + traffic / bandwidth


def _short(n: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.2f} {letter}"
    return f"{n:.0f}"


def _bytes(n: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n / 1e3:.0f} kB"


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes" \
        if hours >= 1 / 60 else "under a minute"
