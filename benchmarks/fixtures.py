"""SAEs of random weights as the libraries themselves write them, with what they compute.

    sh benchmarks/peers.sh && .venv-bench/bin/python -m benchmarks fixtures

Writes a folder an SAE below tests/sae/public: the library's own files, and `expected.safetensors`
with x [token, d_model], acts [token, d_sae] and recon [token, d_model]. sae-lens 6.54.12,
eai-sparsify 1.3.3, dictionary-learning 0.1.0.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from dictionary_learning.dictionary import AutoEncoder, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from sae_lens import GatedSAE, JumpReLUSAE, StandardSAE, TopKSAE
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAEConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.standard_sae import StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAEConfig
from safetensors.torch import save_file
from sparsify import SparseCoder, SparseCoderConfig
from torch import Tensor, nn

D, M, K = 8, 24, 4
HERE = Path(__file__).parents[1] / "tests" / "sae" / "public"
Made = tuple[str, nn.Module, Callable[[Path], Any], Callable[[Tensor], Tensor] | None]


def drawn(thing: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in thing.named_parameters():
            tensor.copy_(torch.randn_like(tensor) * (0.4 if tensor.dim() == 1 else 0.7))
            if "threshold" in name:
                tensor.abs_()
    return thing.eval()


def saelens() -> Iterator[Made]:
    at: Any = {"d_in": D, "d_sae": M, "device": "cpu", "metadata": SAEMetadata(
        hook_name="blocks.6.hook_resid_post", model_name="some/llama")}
    kinds: dict[str, Any] = {
        "standard": StandardSAE(StandardSAEConfig(**at)),
        "gated": GatedSAE(GatedSAEConfig(**at)),
        "jumprelu": JumpReLUSAE(JumpReLUSAEConfig(**at, apply_b_dec_to_input=False)),
        "jumprelu_constant_norm": JumpReLUSAE(JumpReLUSAEConfig(
            **at, normalize_activations="constant_norm_rescale")),
        "topk": TopKSAE(TopKSAEConfig(**at, k=K, rescale_acts_by_decoder_norm=True)),
        "topk_layer_norm": TopKSAE(TopKSAEConfig(
            **at, k=K, rescale_acts_by_decoder_norm=False, normalize_activations="layer_norm"))}
    for name, sae in kinds.items():
        yield f"saelens_{name}", drawn(sae), sae.save_model, None
    trained = drawn(BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**at, k=K)))
    trained.topk_threshold.fill_(0.6)
    folder = HERE / "saelens_batchtopk"
    trained.save_inference_model(folder)
    yield "saelens_batchtopk", JumpReLUSAE.load_from_disk(folder), lambda path: None, None


def sparsify() -> Iterator[Made]:
    coder = drawn(SparseCoder(D, SparseCoderConfig(num_latents=M, k=K)))

    def dense(x: Tensor) -> Tensor:
        acts, indices, _ = coder.encode(x)
        return torch.zeros(len(x), M).scatter(-1, indices, acts)

    yield "sparsify/layers.6", coder, coder.save_to_disk, dense


def dictionary_learning() -> Iterator[Made]:
    kinds: dict[str, Any] = {
        "relu": AutoEncoder(D, M), "gated": GatedAutoEncoder(D, M),
        "jumprelu": JumpReluAutoEncoder(D, M), "topk": AutoEncoderTopK(D, M, K),
        "batchtopk": BatchTopKSAE(D, M, K),
        "matryoshka": MatryoshkaBatchTopKSAE(D, M, K, [8, 16])}
    for name, sae in kinds.items():
        drawn(sae)
        if name in ("batchtopk", "matryoshka"):
            sae.threshold.fill_(0.5)

        def write(folder: Path, sae: Any = sae) -> None:
            torch.save(sae.state_dict(), folder / "ae.pt")
            (folder / "config.json").write_text(json.dumps({"trainer": {
                "dict_class": type(sae).__name__, "layer": 6, "k": K}, "buffer": {}}))

        yield f"dictionary_{name}", sae, write, None


def measure() -> None:
    """Writes all of them anew."""
    x = torch.randn(12, D, generator=torch.Generator().manual_seed(1)) * 2 + 0.3
    for make in (saelens, sparsify, dictionary_learning):
        for name, sae, write, dense in make():
            folder = HERE / name
            if name != "saelens_batchtopk":
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            write(folder)
            with torch.no_grad():
                acts = (dense or sae.encode)(x)
                recon = sae(x).sae_out if dense else sae.decode(sae.encode(x))
            for other in folder.glob("sparsity*"):
                other.unlink()
            save_file({"x": x, "acts": acts.contiguous(), "recon": recon.contiguous()},
                      folder / "expected.safetensors")
            print(f"{name}: {(acts > 0).float().mean():.2f} active")
