"""A pack's card: what it is for, what it does, what that costs, in Markdown."""

from collections.abc import Mapping
from typing import Any

from sternpost.report.calibration import category_lines
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


def calibrated_card(body: Mapping[str, Any], levels: Mapping[str, Any],
                    found: Mapping[str, Any]) -> str:
    """card.md of a calibrated pack: `body` its pack.json, `levels` its levels.json, `found`
    calibration.json."""
    model, judge, gate = body["model"], body["judge"], found["gate"]
    rows = [_row(name, levels["levels"][name]) for name in levels["levels"]]
    budgets = "; ".join(f"{name} {over:g} / {lost:g}" for name, (over, lost) in
                        body["budgets"].items())
    weakens = ["", "This pack lowers refusal below the model's own, as its maker allowed "
               "(--allow-weaken): at some levels it answers what the model alone would refuse.",
               ] if body["allow_weaken"] else []
    return "\n".join([
        "# A sternpost pack", "",
        f"Steers {model['source']} ({model['dtype']}) at the output of block {found['layer']}, "
        f"on {body['positions']}, where a {gate['kind']} gate at block {gate['layer']} says so. "
        f"Calibrated to be {_AIMS[body['aim']]}.", *weakens, "",
        "## Levels", "",
        "| level | unsafe refusal | over-refusal | D, points | capability | incoherent |",
        "|---|---|---|---|---|---|", _row("(baseline)", levels["baseline"]), *rows, "",
        "Measured once on held-out prompts, greedy; 95 % intervals. D is unsafe refusal minus "
        f"over-refusal. Budgets over the baseline, points of over-refusal / capability: {budgets}. "
        f"Judge: {judge['name']}, accuracy {percent(judge['accuracy'])} on {judge['n']} replies "
        "that people labelled.",
        *(["", body["why_alike"]] if body.get("why_alike") else []), "",
        "## What each level writes", "",
        *(f"- {name}: {_writes(level)}" for name, level in body["levels"].items()), "",
        "## The gate", "", *_gate_lines(gate), "",
        *_must_lines(found["must"]), "## Warnings", "",
        *([f"- {text}" for text in found["warnings"]] or ["None."]), "",
        "## Use", "",
        "    plan = sternpost.load_pack(\"THIS FOLDER\").at(\"high\")",
        "    with sternpost.steer(model, plan):", "        ...", "",
        "It is refused on another model, and where a file was changed.", ""])


_AIMS = {"safer": "safer: to refuse more of what is unsafe",
         "freer": "freer: to answer more of what is safe",
         "both": "both: to refuse more of what is unsafe, and to answer more of what is safe"}


def _writes(level: Mapping[str, Any]) -> str:
    if not level["edits"]:
        return "nothing; logits are the model's own, bit for bit"
    edits = ", ".join(_edit(edit) for edit in level["edits"])
    when = f"where the risk is above {level['threshold']:.3g}" if "threshold" in level \
        else "where the gate fires"
    responses = level.get("responses", ())
    if responses:
        kinds = {tuple(tuple(point) for point in one["points"]) for one in responses}
        when = "dose by risk " + ", or ".join(sorted(" -> ".join(
            f"{dose:g} at {risk:.3g}" for risk, dose in points) for points in kinds))
    return f"{edits}; {when}"


def _edit(edit: Mapping[str, Any]) -> str:
    target = f"feature {edit['feature']}" if "feature" in edit else "the direction of refusal"
    amount = next((f" {edit[key]:g}" for key in ("value", "factor") if key in edit), "")
    return f"{edit['kind']} {target}{amount}"


def _gate_lines(gate: Mapping[str, Any]) -> list[str]:
    """AUROC of every kind inside and across sources, what it was fitted on, the curve of labels."""
    out = ["| kind | search split | inside sources | across sources | false fire, worst source |",
           "|---|---|---|---|---|"]
    for row in gate["kinds"]:
        seen = row["across"].get("source")
        worst = max(seen["false_fire"].items(), key=lambda one: one[1]) if seen and \
            seen["false_fire"] else None
        out.append(f"| {row['kind']} | {row['search']['value']:.3f} | "
                   + (f"{seen['within']:.3f} | {seen['auroc']:.3f} | " if seen else "- | - | ")
                   + (f"{percent(worst[1])} ({worst[0]}) |" if worst else "- |"))
    out += ["", "AUROC, and false fire at a budget of 1 % set on the other sources; 'across' rows "
            "were scored by a gate that did not see their source.", "",
            "| fitted on | value | unsafe | benign |", "|---|---|---|---|"]
    out += [f"| {column} | {value} | {unsafe} | {benign} |"
            for column, values in gate["coverage"].items()
            for value, (unsafe, benign) in values.items()]
    curve = [row for row in gate["curve"] if "auroc" in row]
    if curve:
        out += ["", "| labelled prompts a side | AUROC | fires on unsafe | false fire |",
                "|---|---|---|---|"]
        out += [f"| {row['labels']} | {row['auroc']:.3f} | {percent(row['unsafe'])} | "
                f"{percent(row['safe'])} |" for row in curve]
    if "categories" in gate:
        out += ["", *category_lines(gate["categories"])]
    return out


def _must_lines(rows: Any) -> list[str]:
    if not rows:
        return []
    levels = list(rows[0]["verdicts"])
    out = ["## Prompts that were asked for", "",
           "| wanted | prompt | " + " | ".join(levels) + " |",
           "|---|---|" + "---|" * len(levels)]
    return [*out, *(f"| {row['wanted']} | {row['prompt'][:80]} | " + " | ".join(
        row["verdicts"][level] + ("" if row["kept"][level] else " (!)") for level in levels) + " |"
        for row in rows), ""]
