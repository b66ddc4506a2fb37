"""dinghy's level `high` against other methods, tuned on the same development prompts and measured
once on the same test prompts. Takes two hours of a core; run by name alone: `python -m
benchmarks methods`. Work lies in runs/methods and is taken up again.
"""

from pathlib import Path
from typing import Any

from benchmarks.record import save
from sternpost.jobs.dinghy_pack import calibrate_dinghy
from sternpost.trials.progress import Watch

FOLDER = Path("runs/methods")
METHODS = "system,diffmean,alphasteer,cast,clamp"
TRIALS = 60
RATES = ("unsafe_refusal", "over_refusal", "capability", "incoherent")


def measure() -> None:
    """A row a rate of each condition; then its D, and the D of `high` minus it, paired."""
    found = calibrate_dinghy(FOLDER, 0, TRIALS, METHODS, Watch()).found
    rows: list[dict[str, Any]] = []
    for condition in found["conditions"]:
        name, about = condition["name"], found["methods"].get(condition["name"], {})
        rows += [{"name": f"{name}, {rate}", "unit": "share", **condition[rate],
                  "median": condition[rate]["hits"] / condition[rate]["n"]} for rate in RATES]
        rows.append({"name": f"{name}, D", "unit": "points", **condition["discrimination"],
                     "median": condition["discrimination"]["points"], **about})
    for name, one in found["against"].items():
        if name != "level":
            rows.append({"name": f"high - {name}, D", "unit": "points", **one["difference"],
                         "median": one["difference"]["points"], "holm": one["holm"]})
    save("methods", 1, rows, {}, "python -m sternpost.jobs.dinghy_pack --methods ...: each "
         "method's best D on development prompts within the budget of `high`, measured once on "
         "test prompts")
