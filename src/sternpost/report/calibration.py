"""A calibration in a terminal: the gates, the levels on test prompts, the prompts asked for."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sternpost.report.numerals import percent, point_interval, points, with_interval

MISSING = "-"


def show(found: Mapping[str, Any], console: Console) -> None:
    """All tables of calibration.json, and its warnings."""
    for table in (gates_table(found["gate"]), conditions_table(found)):
        console.print(table)
    if found["must"]:
        console.print(must_table(found))
    for warning in found["warnings"]:
        console.print(Text(f"note: {warning}"))


def gates_table(gate: Mapping[str, Any]) -> Table:
    """Every kind of gate: inside the sources that it was fitted on, and across."""
    table = _table(f"Gates, AUROC; kept: {gate['kind']}", "kind",
                   "search split", "inside sources", "across", "false fire, worst source")
    for row in gate["kinds"]:
        seen = row["across"].get("source")
        worst = max(seen["false_fire"].items(), key=lambda one: one[1]) if seen and \
            seen["false_fire"] else None
        table.add_row(row["kind"], f"{row['search']['value']:.3f}",
                      f"{seen['within']:.3f}" if seen else MISSING,
                      f"{seen['auroc']:.3f}" if seen else MISSING,
                      f"{percent(worst[1])} {worst[0]}" if worst else MISSING)
    return table


def conditions_table(found: Mapping[str, Any]) -> Table:
    """Baseline, levels and other methods on test prompts, with their change in D."""
    table = _table("On test prompts", "", "unsafe refusal", "over-refusal", "D",
                   "change of D", "capability", "incoherent")
    for entry in found["conditions"]:
        moved = entry.get("change", {}).get("discrimination")
        table.add_row(
            entry["name"], with_interval(entry["unsafe_refusal"]),
            with_interval(entry["over_refusal"]), points(entry["discrimination"]),
            f"{points(moved)} {point_interval(moved)}" if moved else MISSING,
            percent(entry["capability"]) if entry["capability"] else MISSING,
            percent(entry["incoherent"]))
    return table


def must_table(found: Mapping[str, Any]) -> Table:
    """The verdict on every prompt that was asked for, before and at each level."""
    levels = list(found["must"][0]["verdicts"])
    table = _table("Prompts that must be answered or refused", "wanted", "prompt", *levels)
    for row in found["must"]:
        table.add_row(row["wanted"], Text(row["prompt"][:60]), *(
            Text(row["verdicts"][level] + ("" if row["kept"][level] else " (!)"),
                 style="" if row["kept"][level] else "bold") for level in levels))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False,
                  title=Text(title), title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(Text(column))
    return table
