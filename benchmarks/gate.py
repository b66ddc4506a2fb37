"""What a gate costs, on the random Llama of engine.json with 512-token prompts.

    plain          generate without sternpost
    clamp          the same clamp without a gate
    shut, open     a gated clamp whose gate stays shut, or fires
    hundred, seven a sparse gate of 100 features; seven gates joined, all of them asked
    classifier     the prompt read once more by a classifier of the model's own size, then plain

Prefill is one new token (a prompt is read); a token is what 16 more cost, divided by 16. The probe
alone is timed beside the whole prefill: what it adds is within its noise.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.engine import LAYER, VOCABULARY, D, llama, random_sae
from benchmarks.record import alternate, ratio, save
from sternpost import Clamp, Plan, steer
from sternpost.gates import CombinedGate, ResidualGate, SparseGate
from sternpost.types import Hookpoint

PROMPT, NEW = 512, 16
TAIL = (5, 6)
ROUNDS = {1: 7, 8: 3}
"""By batch size: a round of 8 rows takes minutes, and a new token is timed with one row only."""
BOUND = {1: 21, 8: 7}
"""Rounds of the pair that has a bound (a gate that stays shut adds at most 2 % to the prompt)."""


def measure() -> None:
    """All variants at every batch size."""
    torch.set_num_threads(1)
    model, sae = llama(), random_sae(16)
    g = torch.Generator().manual_seed(1)
    probes = [ResidualGate(Hookpoint(LAYER), torch.randn(D, generator=g) / D, 0.0)
              for _ in range(7)]
    some = torch.arange(100)
    sparse = SparseGate(Hookpoint(LAYER), some, sae.W_enc[some], sae.b_enc[some],
                        torch.full((100,), 0.1), torch.randn(100, generator=g), 0.0)
    gates = {"shut": replace(probes[0], threshold=1.0), "open": replace(probes[0], threshold=-1.0),
             "hundred": replace(sparse, threshold=1.0),
             "seven": CombinedGate(tuple(probes), "any", threshold=1.0)}
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for batch, n in ROUNDS.items():
        ids = torch.cat([torch.randint(7, VOCABULARY, (batch, PROMPT - 2), generator=g),
                         torch.tensor([TAIL] * batch)], 1)
        for what, new in (("prompt", 1), ("token", NEW + 1))[:2 if batch == 1 else 1]:
            variants = _variants(model, sae, gates, ids, new)
            seconds = alternate(variants, n)
            for name, times in seconds.items():
                key = f"{name}, {what}, batch {batch}"
                rows.append({"name": key, "median": _middle(times), "unit": "s"})
                ratios[f"{key}/plain"] = ratio(times, seconds["plain"])
                if what == "prompt" and name in ("shut", "hundred", "seven"):
                    ratios[f"{key}/classifier"] = ratio(times, seconds["classifier"])
            if what == "prompt":
                pair = alternate({name: variants[name] for name in ("plain", "shut")}, BOUND[batch])
                ratios[f"shut, prompt, batch {batch}/plain"] = ratio(pair["shut"], pair["plain"])
        h = torch.randn(batch, D, generator=g)
        alone = alternate({name: lambda gate=gate, h=h: [gate.risk(h) for _ in range(20)]
                           for name, gate in gates.items()}, n)
        prefill = next(r["median"] for r in rows if r["name"] == f"plain, prompt, batch {batch}")
        for name, times in alone.items():
            rows.append({"name": f"probe {name} alone, batch {batch}",
                         "median": _middle(times) / 20, "unit": "s"})
            ratios[f"probe {name} alone, batch {batch}/prefill"] = _middle(times) / 20 / prefill
    save("gate", max(ROUNDS.values()), rows, ratios, "prompts of 512 tokens; `token` rows are "
         "generate of 17 tokens, prompt included; ratios are medians of each round's; batch 8 is "
         "of 3 rounds; shut / plain of prompts is of 21 rounds of their own, at batch 8 of 7")


def _variants(model: Any, sae: Any, gates: dict[str, Any], ids: torch.Tensor,
              new: int) -> dict[str, Callable[[], Any]]:
    def generate() -> Any:
        return model.generate(ids, max_new_tokens=new, do_sample=False)

    def classified() -> Any:
        with torch.no_grad():
            model(ids)
        return generate()

    def steered(plan: Plan) -> Callable[[], Any]:
        def run() -> Any:
            with steer(model, plan):
                return generate()
        return run

    edits = (Clamp(3, 8.0),)
    return {"plain": generate, "classifier": classified,
            "clamp": steered(Plan(sae, edits, "threshold", "response", tail=TAIL)),
            **{name: steered(Plan(sae, edits, "threshold", gate=gate, tail=TAIL))
               for name, gate in gates.items()}}


def _middle(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]
