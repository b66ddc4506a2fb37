"""Levels in a terminal: what each was measured to do, beside what its pack says."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sternpost.report.numerals import bounds, percent, point_bounds, points


def levels_table(found: Mapping[str, Any], stated: Mapping[str, Any] | None = None) -> Table:
    """levels.json's body as a table, with 95 % intervals; below each level what `stated`, another
    such body, says."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    for column in ("level", "unsafe\nrefusal", "over-\nrefusal", "D", "capability", "incoherent"):
        table.add_column(Text(column))
    for name, level in (("baseline", found["baseline"]), *found["levels"].items()):
        if name == "off" and level == found["baseline"]:
            continue
        table.add_row(*_cells(name, level))
        said = stated and (stated["baseline"] if name == "baseline" else
                           stated["levels"].get(name))
        if said:
            table.add_row(*_cells("  in the pack", said), style="dim")
    return table


def _cells(name: str, level: Mapping[str, Any]) -> list[Text]:
    unsafe, safe, right, broken = (_rate(level[key]) for key in (
        "unsafe_refusal", "over_refusal", "capability", "incoherent"))
    ends = point_bounds(level["discrimination"])
    d = points(level["discrimination"]) + (f"\n{ends[0]:.0f} to {ends[1]:.0f}" if ends else "")
    return [Text(cell) for cell in (name, unsafe, safe, d, right, broken)]


def _rate(rate: Any) -> str:
    """Two lines: `53.1 %`, and `47-59 n=320`."""
    ends = bounds(rate)
    return percent(rate) + (f"\n{100 * ends[0]:.0f}-{100 * ends[1]:.0f} n={rate['n']}"
                            if ends else "")
