"""The pages that `benchmarks/results` fills: conformance and seeds. Written by `reference.py`."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
CHECKS = {
    "off": "nothing asked for: logits bit-identical to the plain model's",
    "rows": "every row of a batch is written",
    "decode": "a reply is written token by token, not the prompt alone",
    "padding": "a left-padded row gives what it gives alone",
    "cache": "the same reply with and without a cache, from a column on where one can be named",
    "clamp": "a clamped SAE feature is h + (value - a) d",
    "scored": "the edit reaches the log-likelihoods that benchmarks score",
    "exception": "after an exception inside, the model is what it was"}
MARKS = {True: "yes", False: "**no**", None: "–"}


def _read(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return body


def conformance() -> list[str]:
    """The parts of the page on conformance."""
    body = _read("conformance")
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for row in body["rows"]:
        table.setdefault(row["name"], {})[row["check"]] = row
    lines = [f"| {name} | " + " | ".join(MARKS[row[check]["passed"]] for check in CHECKS) + " |"
             for name, row in table.items()]
    said = {name: {r["detail"] for r in row.values()} for name, row in table.items()}
    why = [f"- {name}, {check}: {row[check]['detail']}." for name, row in table.items()
           for check in CHECKS if row[check]["passed"] is not True and len(said[name]) > 1]
    gone = [f"- {name}: {next(iter(said[name]))}." for name in table if len(said[name]) == 1]
    return [
        "The same checks on sternpost and on libraries that one might take instead, from outside: "
        "ids in, logits and ids out, against a hook written by hand. A small random Llama, "
        "float32, logits within 1e-4 relative. Each library is driven as its own documentation "
        "says: those that add a vector add one, those that clamp an SAE feature clamp one. "
        f"{body['date'][:10]}; again: `sh benchmarks/peers.sh`, then "
        "`.venv-bench/bin/python -m benchmarks conformance`.",
        "\n".join(f"- **{check}**: {what}" for check, what in CHECKS.items()),
        "\n".join(["| | " + " | ".join(CHECKS) + " |", "|---|" + "---|" * len(CHECKS), *lines]),
        "yes: passed; **no**: did not; –: not offered, or not promised.",
        "\n".join([*why, *gone]),
        "What failed has a reproduction of some ten lines in `benchmarks/conformance/repro`. The "
        "libraries do what this page does not ask for: nnsight runs any code at any module, "
        "SAELens trains and shares SAEs, lm-eval scores hundreds of tasks."]


def seeds() -> list[str]:
    """The parts of the page on seeds."""
    demo, dinghy = _read("demo_seeds"), _read("dinghy_seeds")
    return [
        "What is shipped, and what README and tutorial show, is the first seed. A cell is a share "
        "in percent with its 95 % interval.",
        "## The demo: seeds of SAE, search and gate, on the shipped dinghy", _table(demo),
        "## dinghy: seeds of its training", _table(dinghy),
        "Again (two hours): `python -m benchmarks seeds`."]


def _table(body: dict[str, Any]) -> str:
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in body["rows"]:
        seed, _, name = row["name"].partition(", ")
        rows.setdefault(name.replace("_", " "), {})[seed] = row
    names = list(next(iter(rows.values())))
    head = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    return "\n".join([*head, *(f"| {name} | " + " | ".join(
        f"{100 * row[seed]['median']:.1f} [{100 * row[seed]['low']:.0f}, "
        f"{100 * row[seed]['high']:.0f}]" for seed in names) + " |"
        for name, row in rows.items())])
