"""What steering costs while a model decodes, on a random Llama of about 104M parameters.

Every variant generates the same number of tokens from a two-token prompt, by turns. `splice` is
what one writes by hand in a hook: encode the stream, clamp, decode, and add the error back.
`steering_vectors` and `repeng` add a vector as their documentation says; they live in .venv-bench.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.record import alternate, ratio, save
from sternpost import Add, Clamp, Plan, steer
from sternpost.sae import SAE
from sternpost.types import Hookpoint

D, LAYER, NEW, VOCABULARY = 768, 3, 16, 8000
BATCHES, FEATURES = (1, 8, 32), (1, 8, 64)
STRENGTH = 1.0
CLOSE = ("unsteered", "threshold_1", "threshold_8")
"""Within a few percent of each other: their ratios are taken from three times the rounds."""


def llama() -> Any:
    """12 blocks, d_model 768, vocabulary 8,000."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=D, intermediate_size=2304, num_hidden_layers=12,
        num_attention_heads=12, num_key_value_heads=12, eos_token_id=None, bos_token_id=None,
        pad_token_id=0)).eval()


def random_sae(times: int) -> SAE:
    """A TopK SAE of `times` x d_model features, k 32, with thresholds."""
    g = torch.Generator().manual_seed(times)
    rows = torch.nn.functional.normalize(torch.randn(times * D, D, generator=g), dim=1)
    return SAE(rows, rows, torch.zeros(times * D), torch.zeros(D), Hookpoint(LAYER), k=32,
               threshold=torch.full((times * D,), 0.1), residual_norm=1.0)


@contextmanager
def spliced(model: Any, sae: SAE) -> Iterator[None]:
    """The hook that one writes by hand."""
    def splice(block: Any, args: Any, out: Any) -> Any:
        acts = sae.encode(out).dense()
        error = out - acts @ sae.W_dec - sae.b_dec
        acts[..., 3] = 8.0
        return acts @ sae.W_dec + sae.b_dec + error

    handle = model.model.layers[LAYER].register_forward_hook(splice)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def by_steering_vectors(model: Any, vector: torch.Tensor) -> Iterator[None]:
    """steering-vectors: SteeringVector(...).apply(model)."""
    from steering_vectors import SteeringVector

    with SteeringVector({LAYER: vector}, "decoder_block").apply(model, multiplier=STRENGTH):
        yield


@contextmanager
def by_repeng(model: Any, vector: torch.Tensor) -> Iterator[None]:
    """repeng: ControlModel(model, layers).set_control(vector, strength)."""
    np.float_ = np.float64  # type: ignore[attr-defined]  # repeng 0.4 asks for numpy 1 by that alone
    from repeng import ControlModel, ControlVector

    controlled = ControlModel(model, [LAYER])
    controlled.set_control(ControlVector("llama", {LAYER: vector.numpy()}), STRENGTH)
    try:
        yield
    finally:
        controlled.unwrap()


def measure(n: int = 7) -> None:
    """All variants at every batch size."""
    torch.set_num_threads(1)
    model, saes = llama(), {times: random_sae(times) for times in (16, 32)}
    vector = torch.nn.functional.normalize(torch.randn(D), dim=0)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for batch in BATCHES:
        ids = torch.randint(1, VOCABULARY, (batch, 2))

        def generate(ids: torch.Tensor = ids) -> Any:
            return model.generate(ids, max_new_tokens=NEW, do_sample=False)

        def inside(make: Callable[[], Any], run: Callable[[], Any] = generate) -> Callable[[], Any]:
            def timed() -> Any:
                with make():
                    return run()
            return timed

        def clamps(k: int, times: int = 16, mode: str = "threshold") -> Callable[[], Any]:
            edits = [Clamp(f, 8.0) for f in range(3, 3 + k)]
            return inside(lambda: steer(model, saes[times], edits, mode=mode))

        own = tuple((Clamp(3 + row, 8.0 + row),) for row in range(batch))
        one = tuple((Clamp(3, 8.0),) for _ in range(batch))
        plans = {"settings": Plan(saes[16], own, "threshold"),
                 "one_setting": Plan(saes[16], one, "threshold")}
        what: dict[str, Callable[[], Any]] = {
            "unsteered": generate, **{f"threshold_{k}": clamps(k) for k in FEATURES},
            "exact_1": clamps(1, mode="exact"), "threshold_1_32x": clamps(1, 32),
            "splice_16x": inside(lambda: spliced(model, saes[16])),
            "splice_32x": inside(lambda: spliced(model, saes[32])),
            "add": inside(lambda: steer(model, saes[16], [Add(vector, STRENGTH, unit="raw")])),
            **{name: inside(lambda plan=plan: steer(model, plan)) for name, plan in plans.items()}}
        missing = {}
        for name, peer in (("steering_vectors", by_steering_vectors), ("repeng", by_repeng)):
            try:
                inside(lambda peer=peer: peer(model, vector))()
                what[name] = inside(lambda peer=peer: peer(model, vector))
            except ImportError as error:
                missing[name] = f"{error}; run benchmarks/peers.sh"
        seconds = alternate(what, n)
        close = alternate({name: what[name] for name in CLOSE}, 3 * n)
        rows += [{"name": f"{name}, batch {batch}", "unit": "s",
                  "median": sorted(times)[len(times) // 2]} for name, times in seconds.items()]
        rows += [{"name": f"{name}, batch {batch}", "unit": "s", "median": None, "why": why}
                 for name, why in missing.items()]
        pairs = [*((name, "unsteered") for name in what if name.startswith(("thr", "ex", "add"))),
                 ("settings", "one_setting"), ("splice_16x", "threshold_1"),
                 ("splice_32x", "threshold_1_32x"),
                 *(("add", name) for name in ("steering_vectors", "repeng") if name in what)]
        ratios |= {f"{a}/{b}, batch {batch}": ratio(seconds[a], seconds[b]) for a, b in pairs}
        ratios |= {f"{name}/unsteered, batch {batch}": ratio(close[name], close["unsteered"])
                   for name in CLOSE[1:]}
    save("engine", n, rows, ratios,
         f"generate, {NEW} new tokens, Llama of {model.num_parameters() / 1e6:.0f}M parameters, "
         "float32; SAE of 16 (or 32) x d_model features; threshold_K: K features clamped; the "
         f"ratios of threshold_1 and threshold_8 to unsteered are of {3 * n} rounds of their own")
