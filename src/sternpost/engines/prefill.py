"""A gate above the written block: the prompt is read up to t_inst first, the rest is steered.

Covered: `generate` on architectures that keep chunks, one beam, prompts whose template tail has one
length. Not covered: plain forwards, beams, embeddings. Overall: a gate that stays shut leaves the
same run, in the same two chunks, bit for bit.
"""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from sternpost.engines.architectures import ARCHITECTURES
from sternpost.engines.asked import Asked
from sternpost.engines.calls import Call
from sternpost.errors import EditError


def check_reads_above(model: Any) -> None:
    """Raises EditError for a model that cannot be read in chunks."""
    name = getattr(model.config, "model_type", "")
    row = ARCHITECTURES.get(name)
    if row is None or row.chunks is not None:
        why = "has no row in the architecture table, so it is not known to keep" if row is None \
            else f"does not keep (off by {row.chunks:g}, relative)"
        raise EditError(f"A gate above the written block reads the prompt in two chunks, which "
                        f"{name or type(model).__name__} {why}. Use a gate at the written block or "
                        "below.")


@torch.no_grad()
def prefilled(model: Any, asked: Asked, call: Call) -> dict[str, Any]:
    """What to add to a `generate`: the cache of the prompt up to t_inst, which was just read."""
    ids = asked.given.get("inputs", asked.given.get("input_ids"))
    if not isinstance(ids, Tensor) or asked.given.get("past_key_values") is not None:
        raise EditError("A gate above the written block reads the prompt itself: give input_ids "
                        "and no past_key_values.")
    if (asked.setting("num_beams") or 1) > 1 or (asked.setting("num_return_sequences") or 1) > 1:
        raise EditError("A gate above the written block decides once a prompt; give one beam and "
                        "one sequence each.")
    mask = asked.given.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask
    t_inst = call.find_ends(ids, mask == 1)[:, -1].to(ids.device)
    columns = ((mask.cumsum(1) - 1 == t_inst[:, None]) & (mask == 1)).int().argmax(1)
    end = int(columns[0]) + 1
    if bool((columns != columns[0]).any()):
        raise EditError("These prompts end with template tails of different lengths, so a gate "
                        "above the written block cannot read them side by side. Give them one by "
                        "one.")
    cache = DynamicCache(config=model.config)
    given = {"input_ids": ids[:, :end], "attention_mask": mask[:, :end]}
    if "position_ids" in inspect.signature(model.forward).parameters:
        given["position_ids"] = (given["attention_mask"].cumsum(1) - 1).clamp(min=0)
    model(**given, past_key_values=cache, use_cache=True)
    return {"past_key_values": cache}
