"""`sternpost calibrate`: levels of known cost, as a pack."""

import json

import click

from sternpost.calibration.settings import CalibrateSettings
from sternpost.cli.options import debug, from_recipe, from_settings, planned, settings_of


@click.command(context_settings={"show_default": False})
@from_recipe
@from_settings(CalibrateSettings)
@debug
def calibrate(recipe: str | None, changes: tuple[str, ...], as_json: bool,
              **options: object) -> None:
    """Find levels (low, medium, high, max) whose cost stays within a budget; write them as a pack.

    Takes what `sternpost run` takes. Gates are looked at on sources that they did not see; writes
    and thresholds are searched on development prompts; baseline and levels are measured once on
    test prompts.
    """
    from rich.console import Console

    from sternpost.engines.quiet import quiet_libraries
    from sternpost.jobs.calibrate import Calibration, calibrated
    from sternpost.report.calibration import show
    from sternpost.trials.progress import Watch

    quiet_libraries()
    settings = settings_of(CalibrateSettings, "calibrate", recipe, changes, options)
    done = calibrated(settings, Watch(Console(stderr=True)))
    if planned(done, as_json):
        return
    assert isinstance(done, Calibration)
    if as_json:
        click.echo(json.dumps(done.found, indent=2, ensure_ascii=False))
        return
    show(done.found, Console())
    click.echo(f"all of it: {done.path / 'calibration.json'}; the pack: {done.path / 'pack'}")
