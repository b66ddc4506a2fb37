"""`eval --dry-run`: what would be asked, and about how much."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sternpost.assessment.attacks import Attackers
from sternpost.assessment.subject import Subject
from sternpost.evaluation import Loaded
from sternpost.prompts import is_script
from sternpost.trials.bench import KINDS


@dataclass(frozen=True)
class EvaluationPlan:
    """What an evaluation would do. Nothing was written."""

    model: str
    steering: dict[str, Any]
    suites: dict[str, dict[str, int]]
    """Prompts of each kind, build-ups, and rows that were left out."""
    tasks: tuple[str, ...]
    replies: int
    """Replies to generate, both conditions, without tasks and attackers."""
    judged: int
    """Verdicts that a judge behind an endpoint would be asked for."""
    attacker_calls: int
    """Calls of the attacker and its judges, at most."""

    def to_pandas(self) -> Any:
        """A row a suite."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([{"suite": name, **n} for name, n in self.suites.items()])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan in words."""
        suites = [f"  {name}: " + ", ".join(f"{n} {kind}" for kind, n in some.items() if n)
                  for name, some in self.suites.items()]
        return [f"model {self.model}", f"steered by {_said(self.steering)}", "prompts", *suites,
                f"tasks of lm-evaluation-harness: {', '.join(self.tasks) or 'none'}",
                f"replies: {self.replies:,}, in both conditions; verdicts: {self.judged:,}",
                f"calls of an attacker and its judges, at most: {self.attacker_calls:,}"]


def plan_evaluation(subject: Subject, loaded: Sequence[Loaded], tasks: Sequence[str],
                    who: Attackers) -> EvaluationPlan:
    """The plan of an evaluation whose input was checked."""
    asked = [p for one in loaded if not one.suite.attack for p in one.prompts]
    turns = [sum(m.role == "user" for m in p.request.messages) for p in asked]
    attacks = sum(len(one.prompts) for one in loaded if one.suite.attack)
    calls = sum(n for role, n in who.settings.calls.items() if role != "target")
    return EvaluationPlan(
        subject.model, subject.about, {one.suite.name: counts(one) for one in loaded},
        tuple(tasks), 2 * sum(turns), 2 * sum(turns), 2 * attacks * calls if who.attacker else 0)


def _said(steering: dict[str, Any]) -> str:
    pack, clamps = steering["pack"], steering["clamp"]
    if pack is not None:
        return f"pack {pack['source']} at level {pack['level']}"
    written = ", ".join(f"feature {one['feature']} at {one['value']:g}" for one in clamps)
    return written or ("the SAE's reconstruction" if steering["sae"] else "nothing")


def counts(one: Loaded) -> dict[str, int]:
    """Prompts of a suite by kind, build-ups, and rows that were left out."""
    single = [p for p in one.prompts if not is_script(p)]
    return {**{kind: sum(p.kind == kind for p in single) for kind in KINDS},
            "scripts": len(one.prompts) - len(single),
            "duplicates": one.duplicates, "leaked": one.leaked}
