"""`--dry-run`: what a run would do, and about how much of it."""

from dataclasses import asdict, dataclass
from typing import Any

from sternpost.trials.find import ATTRIBUTED, FINALISTS, FIRST_PASS, MOST, MULTIPLES
from sternpost.trials.inputs import Inputs
from sternpost.trials.run_settings import RunSettings
from sternpost.trials.sweep import RANDOM, STRENGTHS
from sternpost.types import SPLITS


@dataclass(frozen=True)
class RunPlan:
    """What a run would do. Nothing was written."""

    model: str
    layer: int
    sae: dict[str, Any]
    """Its size, and why."""
    prompts: dict[str, dict[str, int]]
    """How many of each kind in each split."""
    replies: dict[str, int]
    """Replies to generate, at most, by stage."""
    warnings: tuple[str, ...]

    def to_pandas(self) -> Any:
        """A row a stage, with the replies it takes."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([{"stage": k, "replies": v} for k, v in self.replies.items()])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan in words."""
        total = sum(self.replies.values())
        sae = ", ".join(f"{key}={self.sae[key]}" for key in ("d_sae", "k", "tokens"))
        reasons = "; ".join(f"{key}: {why}" for key, why in self.sae["reasons"].items())
        splits = [f"  {name}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items())
                  for name, kinds in self.prompts.items()]
        return [f"model {self.model}, output of block {self.layer}", f"SAE {sae}",
                f"  ({reasons})", "prompts", *splits,
                f"replies, at most {total:,}: " + ", ".join(
                    f"{stage} {n:,}" for stage, n in self.replies.items()),
                *(f"warning: {warning}" for warning in self.warnings)]


def plan_of(settings: RunSettings, inputs: Inputs) -> RunPlan:
    """The plan of a run whose input was checked."""
    prompts: dict[str, dict[str, int]] = {}
    for name in SPLITS:
        part = getattr(inputs.splits, name)
        kinds = sorted({p.kind for p in part}, reverse=True)
        prompts[name] = {kind: sum(p.kind == kind for p in part) for kind in kinds}
    search, test = len(inputs.splits.search), len(inputs.splits.test)
    tried = len(settings.feature) or MOST + ATTRIBUTED
    n_values = len(settings.values) or len(MULTIPLES)
    first = 0 if tried <= FINALISTS else round(FIRST_PASS * search)
    replies = {"baseline": search + len(inputs.splits.gate_fit),
               "search": tried * first + min(tried, FINALISTS) * search,
               "sweep": (n_values + len(STRENGTHS)) * search,
               "test": (3 + n_values + RANDOM) * test}
    sae = {"d_sae": inputs.d_sae, "k": inputs.k, "tokens": inputs.tokens,
           "reasons": inputs.reasons}
    return RunPlan(settings.model, inputs.at.layer, sae, prompts, replies, inputs.warnings)
