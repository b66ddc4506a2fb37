"""dinghy trained from scratch: a small Phi-3 on its own corpus.

Muon (arXiv 2502.16982, matched to AdamW's update size) for the matrices inside the blocks, AdamW
for the rest; the loss is over assistants' tokens. Same seed, machine, threads: same weights.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import Phi3Config, Phi3ForCausalLM

from sternpost.dinghy.rows import Example


@dataclass(frozen=True, slots=True)
class Recipe:
    """How dinghy is built and trained."""

    d_model: int = 128
    layers: int = 8
    heads: int = 4
    d_mlp: int = 352
    rope_theta: float = 1000.0
    rows: int = 150_000
    epochs: float = 3.6
    batch_tokens: int = 6144
    """Padded tokens a step."""
    lr: float = 0.004
    weight_decay: float = 0.05
    warmup: float = 0.02
    """Share of the steps."""
    cooldown: float = 0.4
    """Share of the steps over which the learning rate falls to zero."""
    early_block: int = 2
    """Block from whose output a reply's opening token is also predicted (early exit, arXiv
    2404.16710), at each of its first tokens: what dinghy is about to do is decided by then and kept
    in mind while it does it, as in large models."""
    early_weight: float = 0.3
    early_tokens: int = 16
    """First tokens of each reply."""
    harm_weight: float = 0.2
    """Of telling a request's hazard category at its end from the same block (deep supervision,
    arXiv 1409.5185), whether or not dinghy complies: in large models, too, that a request is
    harmful is known there apart from whether it will be refused (arXiv 2507.11878)."""
    seed: int = 0


def build(recipe: Recipe, vocabulary: int, pad: int, end: int) -> Phi3ForCausalLM:
    """The untrained model."""
    torch.manual_seed(recipe.seed)
    config = Phi3Config(
        vocab_size=vocabulary, hidden_size=recipe.d_model, intermediate_size=recipe.d_mlp,
        num_hidden_layers=recipe.layers, num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads, max_position_embeddings=512,
        original_max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        tie_word_embeddings=True, sliding_window=None, attention_dropout=0.0, resid_pdrop=0.0,
        embd_pdrop=0.0, initializer_range=0.03, pad_token_id=pad, eos_token_id=end,
        bos_token_id=None)
    config._attn_implementation = "eager"
    return Phi3ForCausalLM(config)


class Batch(NamedTuple):
    """Rows of one step; ids and labels [batch, seq], labels -100 where nobody is to learn."""

    ids: Tensor
    labels: Tensor
    asked: Tensor
    """[batch]: index of each row's last token of a request."""
    harm: Tensor
    """[batch]: what is asked for."""


def batches(encoded: Sequence[Example], recipe: Recipe, pad: int) -> Iterator[Batch]:
    """Batches of rows of about the same length; for ever."""
    rng = Random(recipe.seed)
    order = list(range(len(encoded)))
    while True:
        rng.shuffle(order)
        for start in range(0, len(order), 8192):
            chunk = sorted(order[start:start + 8192], key=lambda at: len(encoded[at].ids))
            found = list(_packs(chunk, encoded, recipe.batch_tokens))
            rng.shuffle(found)
            for pack in found:
                yield _batch([encoded[at] for at in pack], pad)


def _packs(chunk: Sequence[int], encoded: Sequence[Example], tokens: int) -> Iterator[list[int]]:
    pack: list[int] = []
    for at in chunk:
        if pack and (len(pack) + 1) * len(encoded[at].ids) > tokens:
            yield pack
            pack = []
        pack.append(at)
    if pack:
        yield pack


def _batch(rows: Sequence[Example], pad: int) -> Batch:
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), -100)
    for at, row in enumerate(rows):
        tokens = torch.tensor(row.ids)
        ids[at, :len(row.ids)] = tokens
        labels[at, :len(row.ids)] = torch.where(torch.tensor(row.said), tokens, -100)
    return Batch(ids, labels, torch.tensor([row.asked for row in rows]),
                 torch.tensor([row.harm for row in rows]))


def train(model: Phi3ForCausalLM, encoded: Sequence[Example], recipe: Recipe,
          told: Callable[[int, int, float], None]) -> None:
    """Trains in place. `told(step, steps, loss in nats)` hears of every step."""
    pad = model.config.pad_token_id
    assert pad is not None
    tokens = sum(len(row.ids) for row in encoded) * recipe.epochs
    steps = math.ceil(tokens / recipe.batch_tokens * 1.03)
    told_harm = nn.Linear(recipe.d_model, 1 + max(row.harm for row in encoded))
    optimizers = _optimizers(model, told_harm, recipe)
    model.train()
    for step, batch in zip(range(steps), batches(encoded, recipe, pad), strict=False):
        rate = _rate(step / steps, recipe)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        loss = loss_of(model, told_harm, batch, recipe)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        told(step + 1, steps, float(loss.detach()))
    model.eval()


def loss_of(model: Phi3ForCausalLM, told_harm: nn.Linear, batch: Batch, recipe: Recipe) -> Tensor:
    """Mean negative log-likelihood (nats) of the labelled tokens, with the early block's shares."""
    with torch.autocast("cpu", torch.bfloat16):
        out = model.model(input_ids=batch.ids, use_cache=False, output_hidden_states=True)
        targets = batch.labels[:, 1:]
        wanted = targets != -100
        logits = model.lm_head(out.last_hidden_state[:, :-1][wanted])
        first = wanted & ~_shifted(wanted, recipe.early_tokens)
        opening = _openings(targets, wanted)
        middle = out.hidden_states[recipe.early_block + 1]
        early = model.lm_head(model.model.norm(middle[:, :-1][first]))
        asked = middle[torch.arange(len(middle)), batch.asked]
        harm = told_harm(nn.functional.rms_norm(asked, asked.shape[-1:]))
    cross_entropy = nn.functional.cross_entropy
    return (cross_entropy(logits.float(), targets[wanted])
            + recipe.early_weight * cross_entropy(early.float(), opening[first])
            + recipe.harm_weight * cross_entropy(harm.float(), batch.harm))


def _openings(targets: Tensor, wanted: Tensor) -> Tensor:
    """[batch, seq]: at each token of a reply, the token that it opens with."""
    begins = wanted & ~_shifted(wanted, 1)
    at = torch.arange(wanted.shape[1]).expand_as(wanted).where(begins, 0).cummax(1).values
    return targets.gather(1, at)


def _shifted(wanted: Tensor, by: int) -> Tensor:
    """[batch, seq]: whether the token `by` places before is wanted too."""
    out = torch.zeros_like(wanted)
    out[:, by:] = wanted[:, :-by]
    return out


def _rate(at: float, recipe: Recipe) -> float:
    warm = min(1.0, at / recipe.warmup)
    return recipe.lr * min(warm, (1 - at) / recipe.cooldown)


def _optimizers(model: Phi3ForCausalLM, told_harm: nn.Linear,
                recipe: Recipe) -> list[torch.optim.Optimizer]:
    inner = [p for p in model.model.layers.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if all(p is not q for q in inner)]
    muon = torch.optim.Muon(inner, lr=recipe.lr, weight_decay=recipe.weight_decay,
                            adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW([*rest, *told_harm.parameters()], lr=recipe.lr, betas=(0.9, 0.95),
                             weight_decay=0.0)
    return [muon, adam]
