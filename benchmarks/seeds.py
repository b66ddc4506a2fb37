"""How much of the demo is chance: three seeds of SAE, search and gate on the shipped dinghy, and
dinghys of three training seeds. Takes two hours; run by name alone: `python -m benchmarks seeds`.
Work lies in runs/seeds and is taken up again. The first seed is what is shipped.
"""

from pathlib import Path
from typing import Any

import sternpost
from benchmarks.record import save
from sternpost.dinghy.__main__ import make
from sternpost.dinghy.training import Recipe
from sternpost.jobs.dinghy import figures

SEEDS = (0, 1, 2)
FOLDER = Path("runs/seeds")
RATES = ("unsafe_refusal", "over_refusal", "capability", "incoherent")


def measure() -> None:
    """Both, each in a file of its own."""
    demos = {seed: _demo(seed) for seed in SEEDS}
    rows = [{"name": f"seed {seed}, {which}, {rate}", "unit": "share", **found}
            for seed, conditions in demos.items() for which, condition in conditions.items()
            for rate, found in condition.items()]
    save("demo_seeds", len(SEEDS), rows, {}, "sternpost demo --seed N on the shipped dinghy; "
         "reference: the clamp with the highest unsafe refusal on the search split")
    rows = [{"name": f"seed {seed}, {figure.name}", "unit": "share", **figure.rate.as_dict(),
             "median": figure.rate.share} for seed in SEEDS for figure in _trained(seed)]
    save("dinghy_seeds", len(SEEDS), rows, {}, "python -m sternpost.dinghy --seed N; figures of "
         "the model card, greedy, on the same held-out prompts")


def _demo(seed: int) -> dict[str, dict[str, Any]]:
    found = sternpost.demo(out=str(FOLDER / f"demo-{seed}"), seed=seed, resume=True).results
    reference = found["reference"]["value"]
    chosen = {"baseline": None, "reference": reference, "gated": found["gate"]["value"]}
    names = {"baseline": "baseline", "reference": "clamp", "gated": "gated_clamp"}
    conditions = {which: next(c for c in found["conditions"] if c["name"] == names[which]
                              and c["value"] == value) for which, value in chosen.items()}
    rates = {which: {rate: {**c[rate], "median": c[rate]["hits"] / c[rate]["n"]} for rate in RATES}
             for which, c in conditions.items()}
    fires, area = found["gate"]["false_fire"], found["gate"]["auroc"]
    rates["gate"] = {"false_fire": {**fires, "median": fires["hits"] / fires["n"]},
                     "auroc": {**area, "median": area["value"]}}
    return rates


def _trained(seed: int) -> Any:
    folder = FOLDER / f"dinghy-{seed}"
    if seed == SEEDS[0]:
        return figures("dinghy").values()
    if not (folder / "recipe.json").is_file():
        make(folder, Recipe(seed=seed))
    return figures(str(folder)).values()
