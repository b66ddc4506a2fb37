"""Every kind of cache: what a steered reply read and wrote, against one forward over all of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from families import family
from sternpost import Clamp, Plan, steer
from subjects import VOCAB, close, make_sae

IDS = torch.randint(1, VOCAB, (3, 9), generator=torch.Generator().manual_seed(2))
MASK = torch.tensor([[1] * 9, [0] * 2 + [1] * 7, [0] * 5 + [1] * 4])
SAE_ = make_sae()
NEW = 8
WINDOWS = {"llama": {}, "mistral": {"sliding_window": 4}, "gemma2": {"sliding_window": 4},
           "gemma3_text": {"sliding_window": 4}, "qwen2": {"sliding_window": 4,
                                                            "use_sliding_window": True,
                                                            "max_window_layers": 2}}
CACHES: dict[str, dict[str, Any]] = {
    "dynamic": {}, "static": {"cache_implementation": "static"}, "none": {"use_cache": False},
    "chunks": {"prefill_chunk_size": 4}}


def blocks_out(model: Any, layer: int) -> tuple[list[Tensor], Any]:
    kept: list[Tensor] = []
    block = model.get_submodule(f"model.layers.{layer}")
    return kept, block.register_forward_hook(
        lambda block, args, out: kept.append((out[0] if isinstance(out, tuple) else out).detach()))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", WINDOWS)
def test_a_reply_is_what_one_forward_over_all_of_it_is(name: str, cache: str) -> None:
    model = family(name, **WINDOWS[name])
    plan = Plan(SAE_, (Clamp(5, 9.0),), positions="last(2)+response")
    with torch.no_grad(), steer(model, plan) as run:
        kept, handle = blocks_out(model, 2)
        try:
            out = model.generate(IDS, attention_mask=MASK, max_new_tokens=NEW, do_sample=False,
                                 **CACHES[cache])
        finally:
            handle.remove()
        wide = torch.cat([MASK, torch.ones(3, NEW - 1, dtype=torch.long)], 1)
        where = (torch.arange(wide.shape[1]) >= IDS.shape[1] - 2).expand_as(wide)
    with torch.no_grad(), steer(model, SAE_, [Clamp(5, 9.0)], positions=where):
        want, handle = blocks_out(model, 2)
        try:
            model(out[:, :-1], attention_mask=wide, use_cache=False,
                  position_ids=(wide.cumsum(-1) - 1).clamp(min=0))
        finally:
            handle.remove()
    got = kept[-1] if cache == "none" else torch.cat(kept, 1)
    real = wide.bool()
    close(got[real], want[0][real])
    lengths = MASK.sum(1).tolist()
    assert [proof.positions for proof in run.proof] == [
        tuple(range(n - 2, n + NEW - 1)) for n in lengths]
