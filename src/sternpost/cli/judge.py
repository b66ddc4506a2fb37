"""`sternpost judge`: how far a judge may be believed."""

import json
from typing import TYPE_CHECKING, Any

import click

from sternpost.assessment.judge_settings import CalibrateJudgeSettings, SampleOptions
from sternpost.cli.options import debug, from_settings, given

if TYPE_CHECKING:
    from sternpost.jobs.judge_calibrate import Calibration


@click.group()
def judge() -> None:
    """Judges: measured against people, on labels that are there or on a run's own replies."""


@judge.command(context_settings={"show_default": False})
@click.argument("run")
@from_settings(SampleOptions)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@debug
def sample(run: str, as_json: bool, **options: Any) -> None:
    """Write a sheet of RUN's own replies for two people to label, blind.

    Conditions and verdicts are mixed and hidden. Give them the sheet alone, and keep its key.
    """
    from sternpost.jobs.judge_sample import judge_sample
    from sternpost.store.sheets import key_path

    done = judge_sample(run=run, **given(SampleOptions, options))
    if as_json:
        click.echo(json.dumps({"path": str(done.path), "strata": done.key["strata"],
                               "warnings": done.warnings}, indent=2, ensure_ascii=False))
        return
    click.echo(f"{done.rows} replies of {len(done.key['strata'])} strata: {done.path}")
    click.echo(f"the key, not for annotators: {key_path(done.path)}")
    for warning in done.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo("Labels: refusal, partial, compliance or incoherent (r, p, c, i).")
    click.echo(f"Then: sternpost judge calibrate --labels {done.path}")


@judge.command(context_settings={"show_default": False})
@from_settings(CalibrateJudgeSettings)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@debug
def calibrate(as_json: bool, **options: Any) -> None:
    """Measure a judge against people's labels: accuracy and kappa, a model and a condition apart.

    Labels have a prompt, a reply and a label in each row (and model, condition, language, if you
    like), or are a sheet of `sternpost judge sample`, on which the run's own verdicts are measured,
    or the judge that you name.
    """
    from sternpost.jobs.judge_calibrate import judge_calibrate

    done = judge_calibrate(**given(CalibrateJudgeSettings, options))
    if as_json:
        click.echo(json.dumps(done.found, indent=2, ensure_ascii=False))
        return
    show(done)


def show(done: "Calibration") -> None:
    """The figures as a table, and what is to be known of them."""
    from rich.console import Console
    from rich.table import Table

    from sternpost.jobs.judge_calibrate import parts_of

    found, console = done.found, Console()
    left_out = " (leave one model out)" if "leave_one_model_out" in found else ""
    table = Table("part", "n", "accuracy", "kappa", title=f"judge {found['judge']['name']}"
                                                          f"{left_out}", title_justify="left")
    for part in parts_of(found):
        kappa = part.get("interval") or part["kappa"]
        table.add_row(part["part"], str(part["n"]), _rate(part["accuracy"]), _kappa(kappa))
    console.print(table)
    if between := found.get("annotators"):
        click.echo(f"two annotators on {between['n']} rows: kappa {_kappa(between['kappa'])}; "
                   f"refusal or not {_kappa(between['kappa_refusal'])}")
    for one in found.get("rates", ()):
        where = [one[name] for name in ("suite", "condition", "metric") if name in one]
        click.echo(f"{', '.join(where)}: raw {_rate(one['raw'])}, corrected "
                   f"{_fraction(one)} (error of {one['by']})")
    for note in found.get("notes", ()):
        click.echo(f"note: {note}")
    if done.path is not None:
        click.echo(f"all of it: {done.path}")


def _rate(body: dict[str, Any] | None) -> str:
    if body is None:
        return "-"
    return f"{body['hits'] / body['n']:.3f} [{body['low']:.3f}, {body['high']:.3f}]"


def _kappa(body: Any) -> str:
    if not isinstance(body, dict):
        return "-" if body is None else f"{body:.3f}"
    return f"{body['value']:.3f} [{body['low']:.3f}, {body['high']:.3f}]"


def _fraction(body: dict[str, Any]) -> str:
    if body["value"] is None:
        return f"- ({body['why']['value']})"
    return f"{body['value']:.3f} [{body['low']:.3f}, {body['high']:.3f}]"
