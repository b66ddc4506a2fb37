"""Contrast search over many prompts: one pass in flat memory against dense activations from hooks.

Naive: every batch goes through the whole model as it comes, a forward hook hands over the stream,
the SAE's activations are made dense and each prompt's largest are kept; at the end scipy compares
all of them.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import false_discovery_control, mannwhitneyu

import sternpost
from benchmarks.record import ratio, save
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.features.contrast import Contrast
from sternpost.sae import SAE, calibrate
from sternpost.types import Hookpoint, Transcript

PROMPTS, BATCH, LAYER, D_SAE, K = 10_000, 64, 2, 1024, 32


def subject() -> tuple[TransformersEngine, SAE]:
    """dinghy, and an SAE of random rows with statistics of its stream."""
    model, tokenizer = sternpost.load_model("dinghy")
    engine = TransformersEngine(model, Template(tokenizer), BATCH)
    rows = torch.cat([r.values for r in engine.residuals(texts(engine, 200), Hookpoint(LAYER))])
    W = torch.nn.functional.normalize(torch.randn(
        D_SAE, engine.d_model, generator=torch.Generator().manual_seed(0)), dim=1)
    return engine, calibrate(SAE(W, W, torch.zeros(D_SAE), rows.mean(0), Hookpoint(LAYER), k=K),
                             rows)


def texts(engine: TransformersEngine, n: int) -> list[Transcript]:
    """Prompts of 12 to 60 tokens, made of dinghy's own words."""
    rng = np.random.default_rng(0)
    vocabulary = engine.model.get_output_embeddings().weight.shape[0]
    return [Transcript(ids=tuple(rng.integers(20, vocabulary, size=rng.integers(12, 60)).tolist()))
            for _ in range(n)]


def ours(engine: TransformersEngine, sae: SAE, prompts: list[Transcript]) -> Any:
    """One pass: the blocks above are not run, prompts of like length share a batch."""
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at].ids))
    contrast, held, sides = Contrast(sae), [], []
    rows = engine.residuals([prompts[at] for at in order], sae.hookpoint)
    for at, row in zip(order, rows, strict=True):
        held.append(row.values)
        sides.append(at % 2)
        if len(held) == 256:
            contrast.add(held, sides)
            held, sides = [], []
    if held:
        contrast.add(held, sides)
    return contrast.result()


def naive(engine: TransformersEngine, sae: SAE, prompts: list[Transcript]) -> Any:
    """Dense activations from a hook, then the comparison."""
    kept: list[torch.Tensor] = []
    best = []
    handle = engine.blocks.at(sae.hookpoint).register_forward_hook(
        lambda block, args, out: kept.append(out[0] if isinstance(out, tuple) else out))
    try:
        for start in range(0, len(prompts), BATCH):
            some = [list(p.ids) for p in prompts[start:start + BATCH]]
            ids, mask = engine.padded(some, left=False)
            with torch.no_grad():
                engine.model(input_ids=ids, attention_mask=mask)
            acts = sae.encode(kept.pop()).dense() * mask[..., None]
            best.append(acts.amax(1))
    finally:
        handle.remove()
    x = torch.cat(best).double().numpy()
    side = np.arange(len(x)) % 2 == 1
    p = mannwhitneyu(x[side], x[~side], axis=0, method="asymptotic").pvalue
    gap = x[side].mean(0) - x[~side].mean(0)
    return gap / np.sqrt((x[side].var(0, ddof=1) + x[~side].var(0, ddof=1)) / 2 + 1e-30), \
        false_discovery_control(p)


def measure(n: int = 3) -> None:
    """Both by turns; then peak memory over the number of prompts, each in a process of its own."""
    torch.set_num_threads(1)
    engine, sae = subject()
    prompts = texts(engine, PROMPTS)
    seconds: dict[str, list[float]] = {"sternpost": [], "naive": []}
    what: dict[str, Callable[..., Any]] = {"sternpost": ours, "naive": naive}
    found: dict[str, Any] = {}
    for turn in range(n + 1):
        for name, run in what.items():
            start = time.perf_counter()
            found[name] = run(engine, sae, prompts if turn else prompts[:500])
            if turn:
                seconds[name].append(time.perf_counter() - start)
    agree = float(np.corrcoef(found["sternpost"].d, found["naive"][0])[0, 1])
    rows: list[dict[str, Any]] = [
        {"name": name, "unit": "prompts/s", "median": PROMPTS / statistics.median(times)}
        for name, times in seconds.items()]
    peaks = {(name, size): _peak(name, size) for name in what for size in (2000, 20_000)}
    rows += [{"name": f"{name}, peak memory, {size} prompts", "unit": "MB", "median": peak}
             for (name, size), peak in peaks.items()]
    ratios = {"sternpost/naive": ratio(seconds["naive"], seconds["sternpost"]),
              **{f"{name}, memory 20000/2000": peaks[name, 20_000] / peaks[name, 2000]
                 for name in what}}
    save("contrast", n, rows, ratios,
         f"{PROMPTS} prompts of 12 to 60 tokens, dinghy block {LAYER}, SAE of {D_SAE} features, "
         f"k {K}, 1 thread; correlation of both Cohen's d: {agree:.4f}")


def _peak(name: str, size: int) -> float:
    what = {"sternpost": "ours", "naive": "naive"}
    code = ("import torch; torch.set_num_threads(1)\nfrom benchmarks.contrast import *\n"
            f"engine, sae = subject()\n{what[name]}(engine, sae, texts(engine, {size}))\n"
            "print(own_peak())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def own_peak() -> float:
    """This process's own peak, MB: getrusage would count its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
