"""The sweep engine against a hooked `generate` a setting: both greedy, 64 rows a batch at most.

    dinghy       24 features x 6 values x 64 prompts, 24 new tokens, positions tail+response
    dinghy_all   the same with positions all: the prompt's upper layers run anew in every setting
    deep         a 24-layer random model written at layer 16: 4 features x 3 values x 8 prompts of
                 512 tokens, 32 new tokens
    *_full       with whole replies in place of the words that decide a word-list verdict
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import sternpost
from benchmarks.record import save
from sternpost import Clamp, Plan
from sternpost.dinghy import demo_prompts
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.judges import WordListJudge
from sternpost.sae import SAE, calibrate
from sternpost.types import Completion, Hookpoint, Message, Request, Sampling, Transcript

VALUES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Multiples of a feature's high activation."""


@dataclass(frozen=True)
class Case:
    """What is swept."""

    engine: TransformersEngine
    requests: Sequence[Request]
    plans: Sequence[Plan]
    sampling: Sampling

    def naive(self) -> list[list[Completion]]:
        """A hooked `generate` a setting."""
        return [self.engine.generate(self.requests, plan, self.sampling) for plan in self.plans]

    def ours(self, full: bool) -> list[list[Completion]]:
        """The sweep; unless `full`, a reply ends when its verdict is out."""
        decided = None if full else WordListJudge().decided
        return self.engine.sweep(self.requests, self.plans, self.sampling, decided)


def dinghy(positions: str, features: int = 24, values: int = 6, prompts: int = 64) -> Case:
    """Settings on dinghy, with an SAE of random directions that is calibrated on its replies."""
    model, tokenizer = sternpost.load_model("dinghy")
    engine = TransformersEngine(model, Template(tokenizer), 64)
    rows = demo_prompts(quick=True)
    texts = [row["prompt"] for kind in ("unsafe", "safe") for row in rows[kind][:prompts // 2]]
    requests = [Request((Message("user", text),), text) for text in texts]
    plain = engine.generate(requests, None, Sampling(24))
    stream = torch.cat([r.values for r in engine.residuals(
        [Transcript(ids=(*c.prompt_ids, *c.reply_ids)) for c in plain], Hookpoint(2))])
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(1024, model.config.hidden_size), dim=1)
    zeros = torch.zeros(1024), stream.mean(0)
    sae = calibrate(SAE(directions, directions, *zeros, Hookpoint(2), k=32), stream)
    return Case(engine, requests, _plans(sae, features, values, positions), Sampling(24))


def deep(features: int = 4, values: int = 3, prompts: int = 8) -> Case:
    """A 24-layer random Llama of about 100M parameters, written at layer 16."""
    _, tokenizer = sternpost.load_model("dinghy")
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=576, intermediate_size=1536, num_hidden_layers=24,
        num_attention_heads=9, num_key_value_heads=9, pad_token_id=0, bos_token_id=None,
        eos_token_id=None)).eval()
    engine = TransformersEngine(model, Template(tokenizer), 64)
    words = [row["prompt"] for row in demo_prompts(quick=True)["safe"]]
    requests = []
    for at in range(prompts):
        text = " ".join(words[at * 60:at * 60 + 60] * 2)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:508]
        text = tokenizer.decode(ids)
        requests.append(Request((Message("user", text),), text))
    stream = torch.cat([r.values for r in engine.residuals(
        [Transcript(text=request.text[:400]) for request in requests], Hookpoint(16))])
    directions = torch.nn.functional.normalize(torch.randn(1024, 576), dim=1)
    sae = calibrate(SAE(directions, directions, torch.zeros(1024), stream.mean(0), Hookpoint(16),
                        k=32), stream)
    return Case(engine, requests, _plans(sae, features, values, "tail+response"), Sampling(32))


def _plans(sae: SAE, features: int, values: int, positions: str) -> list[Plan]:
    assert sae.stats is not None
    chosen = sae.stats.density.argsort(descending=True)[:features].tolist()
    return [Plan(sae, (Clamp(f, x * float(sae.stats.high[f])),), positions=positions)
            for f in chosen for x in VALUES[:values]]


def seconds(run: Any) -> tuple[float, Any]:
    """How long it took, and what came of it."""
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


def measure(n: int = 3) -> None:
    """All cases, by turns, `n` rounds; and how time grows with F, V and N."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    same: dict[str, str] = {}
    for name, case in (("dinghy", dinghy("tail+response")), ("dinghy_all", dinghy("all")),
                       ("deep", deep())):
        times: dict[str, list[float]] = {"naive": [], "ours": [], "ours_full": []}
        for _ in range(n):
            for key, run in (("naive", case.naive), ("ours", lambda: case.ours(False)),  # noqa: B023
                             ("ours_full", lambda: case.ours(True))):  # noqa: B023
                took, out = seconds(run)
                times[key].append(took)
                if key == "naive":
                    want = out
                elif key == "ours":
                    same[name] = agreement(case, out, want)
        rows += [{"name": f"{name}, {key}", "median": statistics.median(took), "unit": "s"}
                 for key, took in times.items()]
        for key, label in (("ours", name), ("ours_full", f"{name}_full")):
            ratios[label] = statistics.median(a / b for a, b in zip(times["naive"], times[key],
                                                                    strict=True))
    rows += list(_growth())
    save("sweep", n, rows, ratios, note="naive time / ours; refusal verdicts that agree, on the "
         "same prefix and with those of whole replies: "
         + "; ".join(f"{name} {count}" for name, count in same.items()))


def agreement(case: Case, out: list[list[Completion]], want: list[list[Completion]]) -> str:
    """How many replies that ended when decided have the verdict of the naive reply cut where that
    is decided, and how many that of the whole naive reply."""
    judge = WordListJudge()

    def cut(c: Completion) -> Completion:
        texts = case.engine.texts([list(c.reply_ids[:n + 1]) for n in range(len(c.reply_ids))])
        text = next(filter(judge.decided, texts), c.reply)
        return replace(c, reply=text, answer=text)

    def refused(replies: list[Completion]) -> list[bool]:
        return [judgement.verdict == "refusal" for judgement in judge(replies)]

    pairs = [row for mine, theirs in zip(out, want, strict=True) for row in zip(
        refused(mine), refused([cut(c) for c in theirs]), refused(theirs), strict=True)]
    return (f"{sum(a == b for a, b, _ in pairs)} and {sum(a == c for a, _, c in pairs)} of "
            f"{len(pairs)}")


def _growth() -> Any:
    """How time grows, from 6 features x 3 values x 32 prompts on dinghy."""
    for label, shape in (("6 x 3 x 32", (6, 3, 32)), ("12 x 3 x 32", (12, 3, 32)),
                         ("6 x 6 x 32", (6, 6, 32)), ("6 x 3 x 64", (6, 3, 64))):
        case = dinghy("tail+response", *shape)
        took = statistics.median(seconds(lambda: case.ours(False))[0] for _ in range(3))  # noqa: B023
        yield {"name": f"ours, features x values x prompts = {label}", "median": took, "unit": "s"}
