"""Runs to draw sheets of, and annotators who fill them in."""

import csv
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from sternpost.evaluation import runs
from sternpost.files import canonical_json, sha256_text, write_json, write_jsonl
from sternpost.store import condition

TRUE = {"baseline": 0.3, "steered": 0.8}
"""Share of truly refusing replies."""


def a_run(folder: Path, n: int = 300) -> Path:
    """A run whose judge misses a fifth of the refusals of `steered`, and calls a tenth of its other
    replies refusals; on `baseline` it is right."""
    rng, lines = Random(3), list[dict[str, Any]]()
    for name, share in TRUE.items():
        for at in range(n):
            refuses = rng.random() < share
            err = rng.random() < (0.2 if refuses else 0.1) and name == "steered"
            lines.append({
                "condition": name, "value": 8.0 if name == "steered" else None,
                "kind": "unsafe", "prompt": f"ask {at}", "prompt_sha256": sha256_text(f"ask {at}"),
                "language": "en" if at % 3 else "de", "cluster": None, "harm_kind": None,
                "reply": f"{'no' if refuses else '=yes'} {name} {at}",
                "verdict": "refusal" if refuses != err else "compliance", "hit": refuses != err})
    lines.append({**lines[0], "kind": "capability", "reply": "4"})
    return _written(folder, lines, {"kind": "run"})


def _written(folder: Path, lines: Sequence[dict[str, Any]], results: dict[str, Any]) -> Path:
    write_jsonl(folder / "samples.jsonl", lines)
    write_json(folder / "results.json", results)
    return folder


def build_ups(folder: Path, n: int = 12) -> Path:
    """A run whose prompts are build-ups of two turns, with a line each turn."""
    lines = list[dict[str, Any]]()
    for at in range(n):
        script = canonical_json([{"role": "user", "content": f"harmless {at}"},
                                 {"role": "user", "content": f'say "it", {at}'}])
        lines += [{"condition": "baseline", "value": None, "kind": "unsafe", "prompt": script,
                   "prompt_sha256": sha256_text(script), "language": "en", "cluster": None,
                   "harm_kind": None, "suite": "smoke", "turn": turn,
                   "reply": f"{'no' if turn else 'yes'}, {at}", "hit": bool(turn),
                   "verdict": "refusal" if turn else "compliance"} for turn in (0, 1)]
    return _written(folder, lines, {"kind": "eval",
                                    "suites": {"smoke": {"metrics": ["attack_success"]}}})


MIXED = {"one": ["refusal", "over_refusal", "attack_success"], "two": ["refusal"]}
"""The suites of `a_mixed_evaluation`, and their metrics."""


def a_mixed_evaluation(folder: Path) -> Path:
    """Two suites in two conditions: unsafe, offensive and safe prompts, and build-ups in `one`;
    each kind of line is refused at a rate of its own, so that a pooled rate is none of theirs."""
    rng, lines = Random(5), list[dict[str, Any]]()
    shares = {("unsafe", None): 0.7, ("unsafe", "offensive"): 0.1, ("safe", None): 0.2}
    for suite in MIXED:
        for name in ("baseline", "steered"):
            for (kind, harm_kind), share in shares.items():
                for at in range(30 if suite == "one" else 12):
                    lines.append(_line(suite, name, (kind, harm_kind), at, rng.random() < share))
    lines += [{**_line("one", name, ("unsafe", None), at, turn == 2), "prompt_sha256": f"talk {at}",
               "prompt": f"talk {at}", "turn": turn, "harmful_turn": turn == 2}
              for name in ("baseline", "steered") for at in range(10) for turn in range(3)]
    return _written(folder, lines, {
        "kind": "eval", "suites": {name: {"metrics": some} for name, some in MIXED.items()},
        "runs": runs(MIXED, lines)})


def a_mixed_run(folder: Path) -> Path:
    """A run with offensive prompts, two clamps, and random features that share a condition."""
    rng, lines, entries = Random(6), list[dict[str, Any]](), list[dict[str, Any]]()
    for name, values in (("baseline", [None]), ("clamp", [4.0]), ("clamp", [8.0]),
                         ("random_feature", [3.1, 5.2])):
        mine = [{**_line("", name, kind, at, rng.random() < share), "value": value}
                for value in values for at in range(20)
                for kind, share in ((("unsafe", None), 0.6), (("unsafe", "offensive"), 0.0),
                                    (("safe", None), 0.3))]
        for line in mine:
            del line["suite"], line["turn"]
        entries.append(condition(name, mine, values[0] if name == "clamp" else None,
                                 ("all", "exact", "keep")))
        lines += mine
    return _written(folder, lines, {"kind": "run", "conditions": entries})


def _line(suite: str, name: str, kind: tuple[str, str | None], at: int, hit: bool) -> Any:
    prompt, reply = f"{suite} {kind} {at}", f"{'no' if hit else 'yes'} {at}"
    return {"suite": suite, "condition": name, "value": None, "kind": kind[0],
            "harm_kind": kind[1], "prompt": prompt, "prompt_sha256": sha256_text(prompt),
            "language": "en", "cluster": None, "turn": None, "harmful_turn": None, "fired": None,
            "hit": hit, "verdict": "refusal" if hit else "compliance", "reply": reply}


def read(sheet: Path) -> list[dict[str, str]]:
    with sheet.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewrite(sheet: Path, rows: Sequence[dict[str, str]]) -> None:
    """The sheet with these rows in place of its own."""
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def fill(sheet: Path, second: bool = True, slips: int = 0) -> None:
    """Both annotators tell the truth; the second slips on the first few rows."""
    rows = read(sheet)
    for at, row in enumerate(rows):
        refuses = row["reply"].startswith("no")
        row["annotator_1"] = "refusal" if refuses else "C"
        if second:
            row["annotator_2"] = "partial" if refuses != (at < slips) else "compliance"
    rewrite(sheet, rows)
