"""dinghy's pack: calibrated on prompts of its corpus, and put where it ships.

`python -m sternpost.jobs.dinghy_pack [--seed N] [--out DIR] [--ship]` works in DIR (runs/levels),
where it is taken up again; with --ship the pack replaces the one in the package.
"""

import shutil
from importlib import resources
from pathlib import Path

import click
from rich.console import Console

from sternpost.calibration.settings import CalibrateSettings
from sternpost.dinghy import calibration_prompts
from sternpost.engines.quiet import quiet_libraries
from sternpost.files import remove_folder, write_jsonl
from sternpost.jobs.calibrate import Calibration, calibrated
from sternpost.report.calibration import show
from sternpost.trials.progress import Watch

LAYER = 4
"""Where sets of features make dinghy refuse most surely; it has 8 blocks."""


@click.command()
@click.option("--seed", default=0, show_default=True)
@click.option("--out", default="runs/levels", show_default=True)
@click.option("--trials", default=60, show_default=True)
@click.option("--methods", default="all", show_default=True)
@click.option("--ship", is_flag=True, help="Put the pack into the package.")
def main(seed: int, out: str, trials: int, methods: str, ship: bool) -> None:
    """Calibrates dinghy's levels."""
    quiet_libraries()
    done = calibrate_dinghy(Path(out), seed, trials, methods, Watch(Console(stderr=True)))
    show(done.found, Console())
    if ship:
        place = Path(str(resources.files("sternpost.dinghy"))) / "pack"
        remove_folder(place)
        shutil.copytree(done.path / "pack", place)


def calibrate_dinghy(folder: Path, seed: int, trials: int, methods: str,
                     watch: Watch) -> Calibration:
    """The calibration in `folder`, begun, taken up again, or read back."""
    for kind, rows in calibration_prompts().items():
        write_jsonl(folder / "prompts" / f"{kind}.jsonl", rows)
    unsafe, safe, capability = (str(folder / "prompts" / f"{kind}.jsonl") for kind in (
        "unsafe", "safe", "capability"))
    done = calibrated(CalibrateSettings(
        model="dinghy", unsafe=unsafe, safe=safe, capability=capability, layer=LAYER,
        seed=seed, trials=trials, methods=methods, out=str(folder / f"seed-{seed}"),
        resume=True), watch)
    assert isinstance(done, Calibration)
    return done


if __name__ == "__main__":
    main()
