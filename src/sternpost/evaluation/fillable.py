"""Which metrics prompts can fill, asked of the metrics themselves before any prompt is: each counts
the line that a reply to the prompt would have.

Covered: kind, merely offensive prompts, scripts, attackers. Not covered: replies that get no
verdict. Overall: a metric that no row of a suite counts for would stand as a dash without a word.
"""

from collections.abc import Sequence

from sternpost.evaluation.count import METRICS
from sternpost.evaluation.kl import harmless
from sternpost.evaluation.metrics import Line
from sternpost.prompts import is_script
from sternpost.types import LabelledPrompt


def _line(prompt: LabelledPrompt, attack: str) -> Line:
    turns = bool(attack) or (prompt.kind == "unsafe" and is_script(prompt))
    return {"kind": prompt.kind, "harm_kind": prompt.harm_kind, "cluster": prompt.cluster,
            "prompt_sha256": prompt.request.sha256, "turn": 0 if turns else None,
            "harmful_turn": turns, "success": False if attack else None, "verdict": "compliance",
            "hit": False, "kl": 0.0 if harmless(prompt) and not attack else None}


def fillable(metrics: Sequence[str], prompts: Sequence[LabelledPrompt],
             attack: str = "") -> tuple[str, ...]:
    """Those of `metrics` that a prompt counts for. `attack`: the suite's attacker, if any."""
    lines = [_line(prompt, attack) for prompt in prompts]
    return tuple(name for name in metrics if METRICS[name].values(lines))


def told_unfilled(suite: str, metrics: Sequence[str], prompts: Sequence[LabelledPrompt],
                  attack: str = "") -> list[str]:
    """A warning for each metric that no prompt counts for."""
    filled = fillable(metrics, prompts, attack)
    return [f"{suite}: no row counts for the metric {name} ({METRICS[name].about}), so it stays "
            "empty. Take it out of the suite's metrics, or add such rows."
            for name in metrics if name not in filled]
