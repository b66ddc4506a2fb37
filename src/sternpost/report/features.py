"""What a person sees of a search for features, in the terminal."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from sternpost.report.numerals import percent, points


def methods_table(found: Mapping[str, Any], shown: int) -> Table:
    """The best features of every method, a column a method; and those that see harm."""
    columns = {**found["methods"], "harm (read)": found["harm"]}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False,
                  title=f"{found['model']}, layer {found['layer']}: features by method",
                  title_justify="left")
    table.add_column("", justify="right")
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    for rank in range(min(shown, max(map(len, columns.values()), default=0))):
        cells = [str(entries[rank]["feature"]) if rank < len(entries) else ""
                 for entries in columns.values()]
        table.add_row(str(rank + 1), *cells)
    return table


def confirmed_table(found: Mapping[str, Any]) -> Table:
    """The best feature of each method and the best set, on test prompts."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False,
                  title="clamped, on test prompts", title_justify="left")
    for name in ("", "edits", "unsafe refusal", "over-refusal", "D", "incoherent", "capability"):
        table.add_column(name, justify="left" if name in ("", "edits") else "right")
    for name, entry in found["confirmed"].items():
        if name == "set_against_paper":
            continue
        edits = ", ".join(f"{e['feature']}" + (f" at {e['value']:g}" if "value" in e else " off")
                          for e in entry.get("edits", ()))
        table.add_row(name.replace("_", " "), edits, *(
            percent(entry[key]) for key in ("unsafe_refusal", "over_refusal")),
            points(entry["discrimination"]), percent(entry["incoherent"]),
            percent(entry["capability"]))
    return table
