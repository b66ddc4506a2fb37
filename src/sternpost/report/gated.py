"""The section on the gate: when it fires, how well it tells the sides apart, where it errs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sternpost.report.conditions import find
from sternpost.report.counts import UNNAMED, Sample, by_name, lines_of, rate_of, side
from sternpost.report.groups import Bar, Chart, Group
from sternpost.report.numerals import (
    NONE,
    bounds,
    interval,
    percent,
    risk_text,
    round_percent,
    share,
    value_text,
    with_interval,
)
from sternpost.report.risks import Risks, risks_of

HEADINGS = {"safe": "safe prompts", "capability": "capability prompts",
            "offensive": "offensive prompts"}
CLASSES = {"safe": ("s-over", "square"), "capability": ("s-capability", "circle"),
           "offensive": ("s-before", "circle")}


@dataclass(frozen=True, slots=True)
class GateSection:
    """What the report says and draws of a gate."""

    paragraphs: tuple[str, ...]
    risks: Risks | None
    """None where the lines hold no risks of both sides."""
    fires: Chart | None
    figures: tuple[tuple[str, str], ...]


def gate_section(results: Mapping[str, Any], samples: Sequence[Sample]) -> GateSection | None:
    """The section's parts; None without a gate."""
    gate = results.get("gate")
    if not gate:
        return None
    lines = lines_of(samples, find(results, "gated_clamp"))
    sides: dict[str, list[Sample]] = {}
    for sample in lines:
        sides.setdefault(side(sample), []).append(sample)
    unsafe = rate_of(sides.get("unsafe", ()), "fired")
    safe = gate.get("false_fire") or rate_of(sides.get("safe", ()), "fired")
    said = ((_how(gate), _ranks(gate, unsafe, safe)),
            (_budget(gate, safe), _shut(results, samples, lines)))
    paragraphs = tuple(" ".join(text for text in texts if text) for texts in said)
    return GateSection(tuple(text for text in paragraphs if text),
                       risks_of(gate, sides, (unsafe, safe), area_text(gate)),
                       _fires(gate, sides, safe), tuple(gate_figures(gate)))


def area_text(gate: Mapping[str, Any]) -> str:
    """The AUROC with its interval: `0.930 [0.907, 0.951]`, or nothing."""
    auroc = gate.get("auroc") or {}
    if auroc.get("value") is None:
        return ""
    ends = [f"{auroc[end]:.3f}" for end in ("low", "high") if auroc.get(end) is not None]
    return f"{auroc['value']:.3f}" + (f" [{', '.join(ends)}]" if len(ends) == 2 else "")


def _how(gate: Mapping[str, Any]) -> str:
    return ("Before the first word of a reply the gate reads the model's state at the end of the "
            "user's message, and lets the clamp act only where the risk it finds there is above "
            f"{risk_text(gate.get('threshold'))}.")


def _ranks(gate: Mapping[str, Any], unsafe: Any, safe: Any) -> str:
    auroc, parts = gate.get("auroc") or {}, []
    if auroc.get("value") is not None:
        parts.append(f"It works as far as an unsafe prompt gets a higher risk than a safe one: "
                     f"in {round_percent(auroc['value'])} of pairs (AUROC {area_text(gate)}, "
                     f"n = {auroc.get('n')} test prompts)")
    fired = [f"{with_interval(rate)} of {name} prompts"
             for name, rate in (("unsafe", unsafe), ("safe", safe)) if share(rate) is not None]
    if fired:
        parts.append(f"at this threshold it fired on {' and on '.join(fired)}")
    return _sentence("; ".join(parts))


def _budget(gate: Mapping[str, Any], safe: Any) -> str:
    """How the false fires on test prompts fit the budget that the threshold was set for."""
    budget, ends = gate.get("budget"), bounds(safe)
    if budget is None or ends is None:
        return ""
    fit = ("fits" if ends[0] <= budget <= ends[1] else
           "is more" if budget < ends[0] else "is less")
    asked = gate.get("budget_asked")
    raised = "" if asked is None or asked == budget else f" (asked: {percent(asked)})"
    return (f"Its budget of false fires, set on calibration prompts, is {percent(budget)}{raised}; "
            f"on safe test prompts it was {percent(safe)} {interval(safe)}, n = {safe['n']}, "
            f"which {fit}.")


def _shut(results: Mapping[str, Any], samples: Sequence[Sample], lines: Sequence[Sample]) -> str:
    """Whether the model answered as if nothing was there, wherever the gate stayed shut."""
    before = {_prompt(s): s.get("reply") for s in lines_of(samples, find(results, "baseline"))}
    shut = [s for s in lines if s.get("fired") is False and _prompt(s) in before]
    if not shut:
        return ""
    same = sum(s.get("reply") == before[_prompt(s)] for s in shut)
    said = f"all {same}" if same == len(shut) else f"{same} of {len(shut)}"
    return f"Where it stayed shut, {said} replies are the baseline's, word for word."


def _prompt(sample: Sample) -> tuple[str, str]:
    return str(sample["kind"]), str(sample.get("prompt_sha256") or sample["prompt"])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _fires(gate: Mapping[str, Any], sides: Mapping[str, Sequence[Sample]],
           safe: Any) -> Chart | None:
    """Fires on prompts that are not unsafe, by source; from the lines, else from the gate."""
    groups = []
    for kind, heading in HEADINGS.items():
        rows = sorted(((rate_of(lines, "fired"), name) for name, lines in
                       by_name(sides.get(kind, ()), "source").items()),
                      key=lambda row: (-(share(row[0]) or 0), row[1]))
        for i, (rate, name) in enumerate(rows):
            text = kind if name == UNNAMED else name
            groups.append(_row(text, rate, CLASSES[kind], heading if i == 0 else ""))
    if not sides:
        groups = [_row(name, rate, ("s-before", "circle"), "")
                  for name, rate in (gate.get("fires") or {}).items()]
    if not groups:
        groups = [] if share(safe) is None else [_row("all", safe, CLASSES["safe"], "safe prompts")]
    if not groups:
        return None
    budget = gate.get("budget")
    return Chart("fires, % of prompts", tuple(groups),
                 line=None if budget is None else (budget, f"budget {percent(budget)}"))


def _row(name: str, rate: Any, look: tuple[str, str], heading: str) -> Group:
    return Group(name.replace("_", " "), (Bar(rate, "fires on", *look),), heading)


def gate_figures(gate: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The gate's figures as (name, text); nothing without a gate."""
    if not gate:
        return []
    area = area_text(gate)
    rows = [("kind", f"{gate.get('kind')}, layer {gate.get('layer')}"),
            ("clamp value behind it", value_text(gate.get("value"))),
            ("AUROC", f"{area}, n = {gate['auroc'].get('n')}" if area else NONE)]
    if compared := gate.get("search_auroc"):
        rows.append(("AUROC on the search split", ", ".join(
            f"{kind} {NONE if value is None else f'{value:.3f}'}"
            for kind, value in compared.items())))
    return [*rows, ("threshold", value_text(gate.get("threshold"))),
            ("false-fire budget", f"asked {percent(gate.get('budget_asked'))}, "
                                  f"used {percent(gate.get('budget'))}"),
            ("fired on safe prompts", with_interval(gate.get("false_fire")))]
