"""What a person sees of a search for features, in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sternpost.report.numerals import NONE, percent, points


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
    table = _table(f"{_goal(found)} under the best of each, on test prompts", "", "edits",
                   "D, search", "on unsafe", "on safe", "D", "incoherent", "capability", left=2)
    for name, entry in found["confirmed"].items():
        if name == "set_against_paper":
            continue
        searched = (entry.get("search") or {}).get("discrimination")
        unsafe, safe, incoherent, capability = (percent(entry[key]) for key in (
            "unsafe_refusal", "over_refusal", "incoherent", "capability"))
        edits = ", ".join(map(_edit, entry.get("edits", ())))
        table.add_row(name.replace("_", " "), edits, points(searched), unsafe, safe,
                      points(entry["discrimination"]), incoherent, capability)
    return table


def verdict(found: Mapping[str, Any]) -> str:
    """Whether the best set is better than the paper's single feature, in a sentence."""
    gap = found["confirmed"].get("set_against_paper")
    if not gap:
        return "No set was compared with the paper's feature."
    said = {True: "better than", False: "not shown to differ from"}[gap["better"]]
    if gap["high"] < 0:
        said = "worse than"
    return (f"The best set is {said} the paper's single feature: D {gap['points']:+.1f} points "
            f"[{gap['low']:+.1f}, {gap['high']:+.1f}], paired, on test prompts.")


def pairs_table(found: Mapping[str, Any]) -> Table:
    """What the pairs of the best set do together beyond what each does alone."""
    table = _table("together beyond each alone, in points, on test prompts", "pair", "on unsafe",
                   "on safe", "capability", "coactive", "cosine", left=1)
    for pair in found["interactions"]:
        table.add_row(" + ".join(map(str, pair["features"])), *(
            _change(pair[key]) for key in ("unsafe_refusal", "over_refusal", "capability")),
            percent(pair["coactive"]), f"{pair['cosine']:+.2f}")
    return table


def effects_table(found: Mapping[str, Any], which: str, shown: int) -> Table:
    """What else moves under a condition: the groups that moved most, those beyond chance marked."""
    rows = sorted(found["side_effects"].get(which, ()), key=lambda r: -abs(r["change"]["points"]))
    table = _table(f"what moves under {which.replace('_', ' ')}: the {min(shown, len(rows))} of "
                   f"{len(rows)} groups that move most (* beyond chance, q <= 0.05)", "prompts",
                   "group", "n", "before", "after", "change, points", left=2)
    for row in rows[:shown]:
        star = "*" if row["q"] <= 0.05 else ""
        table.add_row(row["kind"], Text(f"{row['by']}: {row['group']}"), str(row["before"]["n"]),
                      percent(row["before"]), percent(row["after"]), _change(row["change"]) + star)
    return table


def agreement_table(found: Mapping[str, Any]) -> Table:
    """Spearman's rank correlation between methods, over the features that both list."""
    names = [name for name, entries in found["methods"].items() if entries]
    short = {name: name.replace("_", " ") for name in names}
    table = _table("rank agreement (Spearman) between methods", "", *short.values(), left=1)
    for one in names:
        table.add_row(short[one], *(_agreed(found["agreement"], one, other) for other in names))
    return table


def _agreed(agreement: Mapping[str, float], one: str, other: str) -> str:
    rho = agreement.get(f"{one}/{other}", agreement.get(f"{other}/{one}"))
    return NONE if rho is None else f"{rho:+.2f}"


def _goal(found: Mapping[str, Any]) -> str:
    return found.get("goal", "refusal")


def _edit(edit: Mapping[str, Any]) -> str:
    return f"{edit['feature']}" + (f" at {edit['value']:g}" if "value" in edit else " off")


def _change(change: Mapping[str, Any] | None) -> str:
    return NONE if change is None else \
        f"{change['points']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"


def _table(title: str, *columns: str, left: int) -> Table:
    """A plain table; the first `left` columns hold text."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False,
                  title=Text(title) if title else None, title_justify="left")
    for at, name in enumerate(columns):
        table.add_column(name, justify="left" if at < left else "right")
    return table


def described_table(about: Mapping[str, Any], entries: Sequence[Mapping[str, Any]],
                    shown: int) -> Table:
    """The most telling features, with their labels: found by a method, then by hazard."""
    def telling(entry: Mapping[str, Any]) -> tuple[float, float]:
        rank = min(entry["found"]["methods"].values()) if entry["found"] else 1e9
        return rank, -max((row["lift"] for row in entry["categories"]
                           if row["category"] in entry["concepts"]), default=0.0)

    table = _table(f"{about['model']}, layer {about['layer']}: {len(entries):,} features "
                   f"described, {about['dead']:,} never active, {about['tokens']:,} tokens read",
                   "feature", "label", "detection", "density", left=2)
    for entry in sorted(entries, key=telling)[:shown]:
        table.add_row(str(entry["feature"]), Text(entry["label"]),
                      percent(entry["score"]["detection"]), f"{entry['density']:.2%}")
    return table


def matches_table(matches: Sequence[tuple[int, float, str]]) -> Table:
    """Features that a search found."""
    table = _table("", "feature", "label", "score", left=2)
    for feature, score, label in matches:
        table.add_row(str(feature), Text(label), f"{score:.3f}")
    return table
