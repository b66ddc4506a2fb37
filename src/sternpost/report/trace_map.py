"""A traced conversation in the terminal: its tokens with digits under them, a table of features.

Nothing is told by colour alone: where there is none, the digits say the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.table import Table
from rich.text import Text

from sternpost.report.trace_words import columns, most_surprise, named, shown, where

Entry = Mapping[str, Any]
MARGIN = 10
"""Columns that the names of the map's rows take."""
COLOURS = {"adds": (70, 160, 235), "takes": (245, 145, 55), "unusual": (170, 140, 230),
           "risk": (70, 190, 165)}


def heat_map(trace: Entry, width: int) -> Text:
    """The tokens in reading order; under each, as digits from 0 to 9, what it adds to the logit or
    takes from it, how unusual its features are, the gate's risk."""
    digits, out, room = _digits(trace), Text(), max(8, width - MARGIN)
    for name, reply in (("prompt", False), ("reply", True)):
        mine = [t for t in trace["tokens"] if (t["part"] == "response") == reply]
        rows = [row for row in digits if any(digits[row][token["at"]] for token in mine)]
        for line in _lines([(_cell(token, room), token) for token in mine], room):
            out.append(name.ljust(MARGIN), "bold")
            for text, token in line:
                out.append(text, _shade(token, digits))
            for row in rows:
                out.append("\n" + row.ljust(MARGIN), "dim")
                for text, token in line:
                    digit = digits[row][token["at"]]
                    out.append(" " * (cell_len(text) - 1))
                    out.append(digit or ".", _style(row, digit) if digit else "dim")
            out.append("\n\n")
            name = ""
    out.append(_legend(trace), "dim")
    out.rstrip()
    return out


def _cell(token: Entry, room: int) -> str:
    """A token's text, cut where a line has not that much room."""
    text = shown(token["text"])
    return text if cell_len(text) <= room else set_cell_size(text, room - 1) + "\u2026"


def _lines(cells: Sequence[tuple[str, Entry]], room: int) -> Iterator[list[tuple[str, Entry]]]:
    """The cells of each line."""
    line, used = [], 0
    for text, token in cells:
        if line and used + cell_len(text) > room:
            yield line
            line, used = [], 0
        line.append((text, token))
        used += cell_len(text)
    if line:
        yield line


def _digits(trace: Entry) -> dict[str, list[str]]:
    """A digit a token for each row, "" for nothing."""
    tokens, most = trace["tokens"], most_surprise(trace)
    sums = [token["contribution"] or 0.0 for token in tokens]
    largest = max(map(abs, sums), default=0.0)
    return {"adds": [_digit(max(value, 0.0), largest, root=True) for value in sums],
            "takes": [_digit(max(-value, 0.0), largest, root=True) for value in sums],
            "unusual": [_digit(token["surprise"] or 0.0, most) for token in tokens],
            "risk": ["" if token["risk"] is None else _digit(token["risk"], 1.0) or "0"
                     for token in tokens]}


def _digit(value: float, most: float, root: bool = False) -> str:
    share = value / most if most else 0.0
    digit = min(9, int(10 * (sqrt(share) if root else share)))
    return str(digit) if digit else ""


def _legend(trace: Entry) -> str:
    largest = max((abs(t["contribution"] or 0.0) for t in trace["tokens"]), default=0.0)
    told = [f"adds, takes: 9 is {largest:.2f}, 4 a fifth of that (square roots)"] if largest else []
    told += [f"unusual: 9 is {most_surprise(trace):.1f}"] if trace["reference"] else []
    told += ["risk: tenths; the gate reads the underlined token"] if trace["gate"] else []
    return "; ".join(told)


def _style(row: str, digit: str) -> Style:
    """The row's colour, the stronger the brighter, under letters that stand out on it."""
    strength = 0.3 + 0.7 * int(digit) / 9
    red, green, blue = (int(strength * part) for part in COLOURS[row])
    ink = "black" if strength > 0.72 else "bright_white"
    return Style.parse(f"{ink} on rgb({red},{green},{blue})")


def _shade(token: Entry, digits: Mapping[str, Sequence[str]]) -> Style:
    """A token's own style: as its contribution's digit; underlined where the request ends."""
    style = Style(underline=True) if token["part"] == "t_inst" else Style.null()
    for row in ("adds", "takes"):
        if digit := digits[row][int(token["at"])]:
            style += _style(row, digit)
    return style


def features_table(trace: Entry) -> Table:
    """The checked features and the most unusual: where each is the most active, how much, what it
    adds to the logit, and what the logit loses without it."""
    labels = [named(trace, f["feature"]) for f in trace["features"]
              if str(f["feature"]) in trace["labels"]]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False,
                  title=f"{trace['model']}, layer {trace['layer']}: features of this conversation",
                  title_justify="left", caption=Text(", ".join(labels)) if labels else None,
                  caption_justify="left")
    for name in ("feature", "strongest at", *columns(trace)):
        table.add_column(name, justify="left" if name == "strongest at" else "right", no_wrap=True)
    for feature in trace["features"]:
        table.add_row(*map(Text, (str(feature["feature"]), where(trace, feature),
                                  *columns(trace, feature).values())))
    return table


