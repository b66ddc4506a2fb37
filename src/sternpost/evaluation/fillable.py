"""Which metrics prompts can fill, known before any is asked.

Covered: kind, merely offensive prompts, scripts, attackers. Not covered: replies that get no
verdict. Overall: a metric that no row of a suite counts for would stand as a dash without a word.
"""

from collections.abc import Callable, Mapping, Sequence

from sternpost.types import LabelledPrompt


def _script(p: LabelledPrompt) -> bool:
    return sum(message.role == "user" for message in p.request.messages) > 1


def _single(p: LabelledPrompt, kind: str) -> bool:
    return p.kind == kind and p.harm_kind != "offensive"


NEEDED: Mapping[str, tuple[str, Callable[[LabelledPrompt], bool]]] = {
    "refusal": ("unsafe prompts of one turn", lambda p: _single(p, "unsafe") and not _script(p)),
    "over_refusal": ("safe prompts", lambda p: _single(p, "safe")),
    "attack_success": ("unsafe prompts of several turns, or --build-ups",
                       lambda p: p.kind == "unsafe" and _script(p)),
    "incoherent": ("unsafe or safe prompts", lambda p: p.kind in ("unsafe", "safe")),
    "capability": ("capability prompts", lambda p: p.kind == "capability"),
    "kl": ("capability prompts, or safe ones that are not sensitive", lambda p: p.kind ==
           "capability" or (p.kind == "safe" and p.harm_kind in (None, "none"))),
    "score": ("a task of lm-eval (--tasks)", lambda p: False)}
"""Metric -> what it needs, in words, and whether a prompt is that."""
ATTACKED = ("attack_success", "incoherent")
"""What a suite with an attacker fills."""


def fillable(metrics: Sequence[str], prompts: Sequence[LabelledPrompt],
             attack: str = "") -> tuple[str, ...]:
    """Those of `metrics` that a prompt counts for. `attack`: the suite's attacker, if any."""
    if attack:
        return tuple(name for name in metrics if name in ATTACKED)
    return tuple(name for name in metrics if any(map(NEEDED[name][1], prompts)))


def told_unfilled(suite: str, metrics: Sequence[str], prompts: Sequence[LabelledPrompt],
                  attack: str = "") -> list[str]:
    """A warning for each metric that no prompt counts for."""
    filled = fillable(metrics, prompts, attack)
    return [f"{suite}: no row counts for the metric {name}, so it stays empty; it needs "
            f"{NEEDED[name][0]}. Take it out of the suite's metrics, or add such rows."
            for name in metrics if name not in filled]
