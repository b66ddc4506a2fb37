"""The training step of a TopK SAE against other libraries' own, on made-up sparse activations.

Every library runs the step that its own trainer runs, with Adam and its defaults, on the same
batches, by turns. `dense_pytorch` is what one writes by hand; `encoder_matmul_fp32` is the product
that no step can do without. The other libraries live in .venv-bench.
"""

import statistics
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import alternate, ratio, save
from sternpost.sae import measure_fit
from sternpost.sae.losses import Chosen, Term
from sternpost.sae.settings import TrainSettings
from sternpost.sae.train import Trainer, moments_of, train
from sternpost.types import Hookpoint

D, D_SAE, K, BATCH = 768, 8192, 32, 2048
WIDTHS, KS = (4096, 16384, 65536), (16, 64, 256)
SMALL, SMALL_SAE, STEPS = 256, 2048, 200


class Stream:
    """Sums of 24 of `truth` random directions, a batch a call."""

    def __init__(self, d: int, truth: int, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(truth, d, generator=self.generator)
        self.rows = rows / rows.norm(dim=1, keepdim=True)

    def __call__(self, tokens: int = BATCH) -> Tensor:
        which = torch.randint(len(self.rows), (tokens, 24), generator=self.generator)
        much = torch.rand(tokens, 24, generator=self.generator) + 0.5
        noise = 0.05 * torch.randn(tokens, self.rows.shape[1], generator=self.generator)
        return torch.nn.functional.embedding_bag(which, self.rows, per_sample_weights=much,
                                                 mode="sum") + noise


def ours(batch: Callable[[], Tensor], d_sae: int = D_SAE, k: int = K,
         bf16: bool = False) -> Callable[[], Any]:
    """sternpost's step."""
    trainer = Trainer(TrainSettings(d_sae, k, steps=10_000, batch=BATCH, bf16=bf16),
                      *moments_of(batch()))
    return lambda: trainer.update(batch())


def sparsify(batch: Callable[[], Tensor]) -> Callable[[], Any]:
    """eai-sparsify: what its trainer's hook and its loop do with a batch; Adam, its defaults."""
    from sparsify import SparseCoder, SparseCoderConfig
    from transformers import get_linear_schedule_with_warmup

    sae = SparseCoder(D, SparseCoderConfig(num_latents=D_SAE, k=K))
    adam = torch.optim.Adam(sae.parameters(), lr=2e-4 / (D_SAE / 2 ** 14) ** 0.5)
    schedule = get_linear_schedule_with_warmup(adam, 1000, 10_000)
    fired, idle = torch.zeros(D_SAE, dtype=torch.bool), torch.zeros(D_SAE, dtype=torch.long)
    sae.b_dec.data = batch().mean(0)

    def step() -> None:
        x = batch().detach().clone()
        sae.set_decoder_norm_to_unit_norm()
        out = sae(x=x, y=x, dead_mask=None, total_variance=(x - x.mean(0)).pow(2).sum())
        fired[out.latent_indices.flatten()] = True
        float(out.fvu.detach())
        (out.fvu + out.multi_topk_fvu / 8).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        adam.step()
        adam.zero_grad()
        schedule.step()
        idle.add_(BATCH)
        idle[fired] = 0
        fired.zero_()

    return step


def saelens(batch: Callable[[], Tensor]) -> Callable[[], Any]:
    """sae-lens: SAETrainer.step."""
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = SAETrainerConfig(total_training_samples=10_000 * BATCH, train_batch_size_samples=BATCH,
                              lr_end=3e-5)
    trainer = SAETrainer(config, TopKTrainingSAE(TopKTrainingSAEConfig(d_in=D, d_sae=D_SAE, k=K)),
                         SimpleNamespace())
    return lambda: trainer.step(batch())


def dictionary_learning(batch: Callable[[], Tensor]) -> Callable[[], Any]:
    """dictionary_learning: TopKTrainer.update."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer, step = TopKTrainer(10_000, D, D_SAE, K, layer=0, lm_name="", device="cpu"), iter(
        range(10_000))
    return lambda: trainer.update(next(step), batch())


def dense(batch: Callable[[], Tensor]) -> Callable[[], Any]:
    """What one writes by hand: autograd over dense matrices, default Adam."""
    W_enc = torch.nn.functional.normalize(torch.randn(D_SAE, D), dim=1).requires_grad_()
    W_dec = W_enc.detach().clone().requires_grad_()
    b_enc, b_dec = torch.zeros(D_SAE, requires_grad=True), batch().mean(0).requires_grad_()
    adam = torch.optim.Adam([W_enc, W_dec, b_enc, b_dec], lr=1e-3)

    def step() -> None:
        x = batch()
        values, indices = ((x - b_dec) @ W_enc.T + b_enc).topk(K)
        acts = torch.zeros(len(x), D_SAE).scatter(1, indices, values.relu())
        loss = (x - acts @ W_dec - b_dec).pow(2).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            W_dec.div_(W_dec.norm(dim=1, keepdim=True))

    return step


class ByAutograd(Trainer):
    """The same recipe; its gradients by autograd over dense matrices."""

    def differentiate(self, x: Tensor, chosen: Chosen, terms: list[Term]) -> None:
        copies = {name: t.clone().requires_grad_() for name, t in self.learned.items()}
        with torch.enable_grad():
            pre = x @ copies["W_enc"].T + copies["b_enc"]
            mask = torch.zeros_like(pre).scatter(1, pre.topk(self.settings.k).indices, 1.0)
            error = x - (pre.relu() * mask) @ copies["W_dec"]
            loss = error.square().sum() / x.square().sum()
            dead = self.idle >= self.settings.dead_after
            if dead.any():
                half, k_aux = x.shape[1] // 2, min(x.shape[1] // 2, int(dead.sum()))
                least = pre[:, dead]
                kept = torch.zeros_like(least).scatter(1, least.topk(k_aux).indices, 1.0)
                e = error.detach()
                missed = e - (least.relu() * kept) @ copies["W_dec"][dead]
                loss = loss + self.settings.aux_weight * k_aux / half * missed.square().sum() \
                    / e.square().sum()
            loss.backward()
        for name, tensor in self.learned.items():
            tensor.grad = copies[name].grad


def quality() -> dict[str, float]:
    """Held-out FVU after the same tokens, of one recipe."""
    stream = Stream(SMALL, 1024, seed=3)
    data, unseen = [stream(1024) for _ in range(STEPS)], stream(8192)
    found = {}
    for name, make, bf16 in (("autograd", ByAutograd, False), ("fp32", Trainer, False),
                             ("bf16", Trainer, True)):
        how = TrainSettings(SMALL_SAE, K, STEPS, 1024, lr=2e-3, bf16=bf16)
        trainer = make(how, *moments_of(data[0]))
        for _ in train(trainer, lambda step: data[step]):
            pass
        found[name] = measure_fit(trainer.sae(Hookpoint(0)), unseen).fvu
    return found


def measure(n: int = 7) -> None:
    """All steps by turns; then how ours grows; then what it learns."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    stream = Stream(D, 4096)
    W = torch.nn.functional.normalize(torch.randn(D_SAE, D), dim=1)
    x, out = stream(), torch.empty(BATCH, D_SAE)
    what: dict[str, Callable[[], Any]] = {
        "sternpost_fp32": ours(stream), "sternpost_bf16": ours(stream, bf16=True)}
    missing = {}
    for name, peer in (("sparsify_adam", sparsify), ("saelens_topk", saelens),
                       ("dictionary_learning_topk", dictionary_learning)):
        try:
            what[name] = peer(stream)
        except ImportError as error:
            missing[name] = f"{error}; run benchmarks/peers.sh"
    what |= {"dense_pytorch": dense(stream),
             "encoder_matmul_fp32": lambda: torch.mm(x, W.T, out=out)}
    seconds = alternate(what, n)
    rows: list[dict[str, Any]] = [
        {"name": name, "median": BATCH / statistics.median(times), "unit": "tokens/s"}
        for name, times in seconds.items()]
    rows += [{"name": name, "median": None, "unit": "tokens/s", "why": why}
             for name, why in missing.items()]
    ratios = {f"{a}/{b}": ratio(seconds[b], seconds[a])
              for a in ("sternpost_fp32", "sternpost_bf16") for b in what if b != a}
    grown = {f"d_sae {m}": ours(stream, d_sae=m) for m in WIDTHS} \
        | {f"k {k}": ours(stream, k=k) for k in KS}
    for name, step in grown.items():
        times = alternate({name: step}, 3)[name]
        rows.append({"name": f"sternpost_fp32, {name}", "unit": "tokens/s",
                     "median": BATCH / statistics.median(times)})
    fvu = quality()
    rows += [{"name": f"fvu, {name}", "median": value, "unit": "fraction"}
             for name, value in fvu.items()]
    ratios |= {f"fvu, {name}/autograd": fvu[name] / fvu["autograd"] for name in ("fp32", "bf16")}
    save("sae_train", n, rows, ratios,
         f"One training step, d_model {D}, d_sae {D_SAE}, k {K}, batch {BATCH}, 1 thread; ratios "
         "are of speeds. fvu: held-out, after the same tokens of one recipe "
         f"(d_model {SMALL}, d_sae {SMALL_SAE}, {STEPS} steps)")
