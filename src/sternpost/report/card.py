"""A pack's card: what it is for, what it does, what that costs, in Markdown."""

from collections.abc import Mapping
from typing import Any

from sternpost.report.numerals import percent, point_interval, points, with_interval


def pack_card(body: Mapping[str, Any], levels: Mapping[str, Any],
              results: Mapping[str, Any]) -> str:
    """card.md of a pack: `body` its pack.json, `levels` its levels.json."""
    model, judge, gate = body["model"], results["judge"], results["gate"]
    area = gate["auroc"]
    rows = [_row(name, levels["levels"][name]) for name in levels["levels"]]
    return "\n".join([
        "# A sternpost pack", "",
        f"Steers {model['source']} ({model['dtype']}) at the output of block {results['layer']}: "
        f"feature {results['feature']} is clamped on {body['positions']}, only where a "
        f"{gate['kind']} gate at block {gate['layer']} finds the request harmful (risk above "
        f"{gate['threshold']:.3g}).", "",
        "## Levels", "",
        "| level | unsafe refusal | over-refusal | D, points | capability | incoherent |",
        "|---|---|---|---|---|---|", *rows, "",
        "Measured on held-out prompts, greedy; 95 % intervals. D is unsafe refusal minus "
        f"over-refusal. Judge: {judge['name']}, accuracy {percent(judge['accuracy'])} on "
        f"{judge['n']} replies that people labelled.", "",
        "## The gate", "",
        f"False-fire budget {percent(gate['budget'])} on its calibration prompts; on held-out safe "
        f"prompts it fired on {with_interval(gate['false_fire'])}. On the test split its AUROC is "
        f"{area['value']:.3f} [{area['low']:.3f}, {area['high']:.3f}]. It knows the kinds of "
        "prompts that it was fitted on; on others its figures may be worse.", "",
        "## Use", "",
        "    plan = sternpost.load_pack(\"THIS FOLDER\").at(\"high\")",
        "    with sternpost.steer(model, plan):", "        ...", "",
        "It is refused on another model, and where a file was changed.", ""])


def _row(name: str, level: Mapping[str, Any]) -> str:
    points_of = level["discrimination"]
    cells = [with_interval(level[key]) for key in ("unsafe_refusal", "over_refusal")]
    cells += [f"{points(points_of)} {point_interval(points_of)}"]
    cells += [with_interval(level[key]) for key in ("capability", "incoherent")]
    return f"| {name} | " + " | ".join(cells) + " |"
