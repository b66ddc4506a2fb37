"""Levels at work: what each makes of prompts, beside the baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

from sternpost.store import Sample
from sternpost.trials.bench import Bench, Trial
from sternpost.types import LabelledPrompt, Plan


def measure_levels(bench: Bench, plans: Mapping[str, Plan], prompts: Sequence[LabelledPrompt],
                   part: str = "test") -> dict[str, list[Sample]]:
    """The lines of the baseline and of each level; one whose plan writes nothing has the
    baseline's, since it leaves the model's very bits."""
    out = {"baseline": bench.lines(Trial(f"{part}-baseline", "baseline"), prompts)}
    for name, plan in plans.items():
        if not plan.edits:
            out[name] = [{**line, "condition": name} for line in out["baseline"]]
            continue
        (out[name],) = bench.several([Trial(f"{part}-{name}", name, plan)], prompts,
                                     f"level {name}")
    return out


def must_rows(bench: Bench, plans: Mapping[str, Plan],
              must: Mapping[str, Sequence[LabelledPrompt]]) -> list[dict[str, Any]]:
    """Of each prompt that must be answered or refused: the verdict before, and at each level."""
    rows: list[dict[str, Any]] = []
    for wanted, prompts in must.items():
        said = measure_levels(bench, plans, prompts, f"must-{wanted}")
        lines = {name: {line["prompt_sha256"]: line for line in mine}
                 for name, mine in said.items()}
        for prompt in prompts:
            sha = prompt.request.sha256
            verdicts = {("off" if name == "baseline" else name): mine[sha]["verdict"]
                        for name, mine in lines.items()}
            refused = {("off" if name == "baseline" else name): mine[sha]["hit"]
                       for name, mine in lines.items()}
            rows.append({
                "prompt": prompt.request.text, "wanted": wanted, "verdicts": verdicts,
                "messages": [{"role": m.role, "content": m.content}
                             for m in prompt.request.messages],
                "kept": {name: hit == (wanted == "refuse") for name, hit in refused.items()},
                "fired": {name: mine[sha]["fired"] for name, mine in lines.items()
                          if name != "baseline"}})
    return rows
