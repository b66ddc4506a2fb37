"""Runs to draw sheets of, and annotators who fill them in."""

import csv
import json
from pathlib import Path
from random import Random
from typing import Any

from sternpost.files import canonical_json, sha256_text

TRUE = {"baseline": 0.3, "steered": 0.8}
"""Share of truly refusing replies."""


def a_run(folder: Path, n: int = 300) -> Path:
    """A run whose judge misses a fifth of the refusals of `steered`, and calls a tenth of its other
    replies refusals; on `baseline` it is right."""
    rng, lines = Random(3), list[dict[str, Any]]()
    for condition, share in TRUE.items():
        for at in range(n):
            refuses = rng.random() < share
            err = rng.random() < (0.2 if refuses else 0.1) and condition == "steered"
            lines.append({
                "condition": condition, "value": 8.0 if condition == "steered" else None,
                "kind": "unsafe", "prompt": f"ask {at}", "prompt_sha256": sha256_text(f"ask {at}"),
                "language": "en" if at % 3 else "de", "cluster": None,
                "reply": f"{'no' if refuses else '=yes'} {condition} {at}",
                "verdict": "refusal" if refuses != err else "compliance"})
    lines.append({**lines[0], "kind": "capability", "reply": "4"})
    folder.mkdir(exist_ok=True)
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def build_ups(folder: Path, n: int = 12) -> Path:
    """A run whose prompts are build-ups of two turns, with a line each turn."""
    lines = list[dict[str, Any]]()
    for at in range(n):
        script = canonical_json([{"role": "user", "content": f"harmless {at}"},
                                 {"role": "user", "content": f'say "it", {at}'}])
        lines += [{"condition": "baseline", "value": None, "kind": "unsafe", "prompt": script,
                   "prompt_sha256": sha256_text(script), "language": "en", "cluster": None,
                   "suite": "smoke", "turn": turn, "reply": f"{'no' if turn else 'yes'}, {at}",
                   "verdict": "refusal" if turn else "compliance"} for turn in (0, 1)]
    folder.mkdir(exist_ok=True)
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def read(sheet: Path) -> list[dict[str, str]]:
    with sheet.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fill(sheet: Path, second: bool = True, slips: int = 0) -> None:
    """Both annotators tell the truth; the second slips on the first few rows."""
    rows = read(sheet)
    for at, row in enumerate(rows):
        refuses = row["reply"].startswith("no")
        row["annotator_1"] = "refusal" if refuses else "C"
        if second:
            row["annotator_2"] = "partial" if refuses != (at < slips) else "compliance"
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
