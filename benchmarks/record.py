"""Timing by turns, and the file that keeps it."""

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sternpost.files import write_json

RESULTS = Path(__file__).parent / "results"


def alternate(what: Mapping[str, Callable[[], Any]], n: int) -> dict[str, list[float]]:
    """Seconds of each, `n` rounds, one after the other in every round, after one warm-up round.
    Every round begins with another one, so that none always runs after the same."""
    seconds: dict[str, list[float]] = {name: [] for name in what}
    order = list(what.items())
    for turn in range(n + 1):
        at = turn * len(order) // (n + 1)
        for name, run in (*order[at:], *order[:at]):
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def write(name: str, seconds: Mapping[str, list[float]], peer: str, note: str) -> None:
    """Medians, and the median of each round's ratio to `peer`."""
    rows = [{"name": key, "median": statistics.median(times), "unit": "s"}
            for key, times in seconds.items()]
    ratios = {f"{key}/{peer}": ratio(times, seconds[peer]) for key, times in seconds.items()
              if key != peer}
    save(name, len(seconds[peer]), rows, ratios, note)


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Median of the ratios of rounds."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def save(name: str, n: int, rows: Sequence[Mapping[str, Any]], ratios: Mapping[str, float],
         note: str) -> None:
    """Writes `results/NAME.json`, and prints the ratios."""
    write_json(RESULTS / f"{name}.json", {**_where(), "n": n, "note": note, "rows": rows,
                                          "ratios": ratios})
    for key, value in ratios.items():
        print(f"{name}: {key} = {value:.3f} (n = {n})")


def save_checks(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `results/NAME.json`, and prints what passed, failed or is not offered."""
    write_json(RESULTS / f"{name}.json", {**_where(), "n": len(rows), "rows": rows, "ratios": {}})
    for row in rows:
        said = {True: "passed", False: "FAILED", None: "-"}[row["passed"]]
        print(f"{row['name']:28} {row['check']:10} {said:7} {row['detail']}")


def _where() -> dict[str, str]:
    """When, on what and from which commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True,
                            check=False).stdout.strip()
    return {"commit": commit, "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {platform.system()}, 1 thread"}
