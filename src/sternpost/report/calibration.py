"""A calibration in a terminal: the gates, the levels on test prompts, the prompts asked for."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sternpost.report.numerals import interval, percent, point_interval, points, with_interval

MISSING = "-"


def show(found: Mapping[str, Any], console: Console) -> None:
    """All tables of calibration.json, and its warnings."""
    console.print(gates_table(found["gate"]))
    if "categories" in found["gate"]:
        console.print(categories_table(found["gate"]["categories"]))
    console.print(conditions_table(found))
    if found["must"]:
        console.print(must_table(found))
    for warning in found["warnings"]:
        console.print(Text(f"note: {warning}"))


def gates_table(gate: Mapping[str, Any]) -> Table:
    """Every kind of gate, and every classifier: inside the sources that it was fitted on, and
    across; what fires at a budget of 1 %."""
    table = _table(f"Gates, AUROC; kept: {gate['kind']} at block {gate['layer']}", "kind", "block",
                   "search split", "inside sources", "across", "fires on unsafe", "false fire",
                   "false fire, worst source")
    for row in gate["kinds"]:
        seen = row["across"].get("source")
        worst = max(seen["false_fire"].items(), key=lambda one: one[1]) if seen and \
            seen["false_fire"] else None
        layer = row.get("layer")
        table.add_row(Text(row["kind"]), MISSING if layer is None else str(layer),
                      f"{row['search']['value']:.3f}",
                      f"{seen['within']:.3f}" if seen else MISSING,
                      f"{seen['auroc']:.3f}" if seen else MISSING,
                      *(f"{percent(row['fires'][side])} {interval(row['fires'][side])}"
                        for side in ("unsafe", "safe")),
                      Text(f"{percent(worst[1])} {worst[0]}") if worst else MISSING)
    return table


def categories_table(found: Mapping[str, Any]) -> Table:
    """What the risk of each hazard category tells, beside the overall one."""
    table = _table("Risk of each category, at a budget of "
                   f"{percent(found['budget'])}", "category", "AUROC", "threshold",
                   "fires on its own", "overall gate fires", "false fire")
    for name, row in found["by_category"].items():
        table.add_row(Text(name), f"{row['search']['value']:.3f}" if row["search"] else MISSING,
                      f"{row['threshold']:.3g}", *(
            with_interval(row[key]) if row[key] else MISSING
            for key in ("fires", "overall_fires", "false_fire")))
    return table


def category_lines(found: Mapping[str, Any]) -> list[str]:
    """The same as a card has it, in Markdown."""
    out = ["| category | AUROC | threshold | fires on its own | overall gate fires | false fire |",
           "|---|---|---|---|---|---|"]
    for name, row in found["by_category"].items():
        area = f"{row['search']['value']:.3f}" if row["search"] else MISSING
        cells = [with_interval(row[key]) if row[key] else MISSING
                 for key in ("fires", "overall_fires", "false_fire")]
        out.append(f"| {name} | {area} | {row['threshold']:.3g} | {' | '.join(cells)} |")
    return [*out, "", f"Each category has a threshold of its own, at {percent(found['budget'])} of "
            "the safe calibration prompts; levels go by the overall risk."]


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
