"""What we write, loaded by SAELens and sparsify: the largest difference of activations and
reconstructions from ours, on random weights."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import save
from sternpost.sae import SAE, save_sae
from sternpost.types import Hookpoint

D, M, K = 8, 24, 4


def measure() -> None:
    """Every kind that `save_sae` writes."""
    torch.manual_seed(0)
    plain = SAE(torch.randn(M, D), torch.randn(M, D), torch.randn(M) * 0.3, torch.randn(D),
                Hookpoint(6), k=K)
    jump = replace(plain, kind="jumprelu", k=None, threshold=torch.rand(M))
    saes = {"topk": plain, "topk, nothing subtracted": replace(plain, subtract_b_dec=False),
            "topk, layer_norm": replace(plain, per_token="layer_norm"), "jumprelu": jump,
            "jumprelu, constant_norm_rescale": replace(jump, per_token="constant_norm_rescale"),
            "matryoshka topk": replace(plain, prefixes=(6, M)),
            "matryoshka jumprelu": replace(jump, prefixes=(6, M))}
    x, rows = torch.randn(12, D) * 2 + 0.3, []
    for name, sae in saes.items():
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            save_sae(sae, Path(folder))
            library = "sparsify" if (Path(folder) / "sae.safetensors").is_file() else "SAELens"
            acts, recon = (_sparsify if library == "sparsify" else _saelens)(folder, x)
        off = max(float((acts - sae.encode(x).dense()).abs().max()),
                  float((recon - sae.reconstruct(x)).abs().max()))
        rows.append({"name": f"{name}, by {library}", "unit": "largest difference", "median": off})
        print(rows[-1])
    save("interchange", 1, rows, {}, "SAELens 6.54.12, sparsify 1.3.3; random weights, float32")


def _sparsify(folder: str, x: torch.Tensor) -> tuple[Any, Any]:
    from sparsify import SparseCoder

    coder = SparseCoder.load_from_disk(folder, device="cpu")
    acts, indices, _ = coder.encode(x)
    return torch.zeros(len(x), M).scatter(-1, indices, acts), coder(x).sae_out


def _saelens(folder: str, x: torch.Tensor) -> tuple[Any, Any]:
    from sae_lens import SAE as Theirs

    theirs = Theirs.load_from_disk(folder, device="cpu")
    acts = theirs.encode(x)
    return acts, theirs.decode(acts)
