"""SAEs with random weights, and SAE folders written by hand as the libraries write them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sternpost.sae import SAE
from sternpost.types import Hookpoint

D_MODEL, D_SAE, K = 6, 20, 3


@pytest.fixture(autouse=True)
def one_thread():
    """Small products are faster on one thread, and their sums come in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def unchecked():
    """The checks of shape annotations off, as they are outside the tests: our own errors show."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def make_sae() -> Callable[..., SAE]:
    """An SAE with random weights; rows are far from unit norm."""
    def make(kind: str = "topk", **fields: Any) -> SAE:
        own: dict[str, Any] = {"W_enc": numbers(D_SAE, D_MODEL, seed=1),
                               "W_dec": numbers(D_SAE, D_MODEL, seed=2) * 1.7,
                               "b_enc": numbers(D_SAE, seed=3) * 0.3,
                               "b_dec": numbers(D_MODEL, seed=4), "hookpoint": Hookpoint(6),
                               "kind": kind}
        if kind == "topk":
            own["k"] = K
        else:
            own["threshold"] = numbers(D_SAE, seed=5).abs()
        return SAE(**own | fields)

    return make


@pytest.fixture
def x() -> Tensor:
    """Residuals [2, 9, d_model] with a mean."""
    return numbers(2, 9, D_MODEL, seed=9) * 2 + 0.5


def weights(**more: Tensor) -> dict[str, Tensor]:
    """W_enc [d_sae, d_model] and its companions, by our names."""
    return {"W_enc": numbers(D_SAE, D_MODEL, seed=11), "W_dec": numbers(D_SAE, D_MODEL, seed=12),
            "b_enc": numbers(D_SAE, seed=13) * 0.3, "b_dec": numbers(D_MODEL, seed=14), **more}


def _write(folder: Path, file: str, cfg: Any, tensors: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / file)
    (folder / "cfg.json").write_text(cfg if isinstance(cfg, str) else json.dumps(cfg))


@pytest.fixture
def sparsify_folder() -> Callable[..., dict[str, Tensor]]:
    """Writes what sparsify 1.3 writes; `cfg` keys replace its own, None takes one away."""
    def write(folder: Path, tensors: dict[str, Tensor] | None = None, **cfg: Any,
              ) -> dict[str, Tensor]:
        w = weights()
        keys = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True,
                "num_latents": 0, "k": K, "multi_topk": False, "skip_connection": False,
                "transcode": False, "d_in": D_MODEL, **cfg}
        stored = {"encoder.weight": w["W_enc"], "encoder.bias": w["b_enc"], "W_dec": w["W_dec"],
                  "b_dec": w["b_dec"], **(tensors or {})}
        _write(folder, "sae.safetensors",
               {key: value for key, value in keys.items() if value is not None}, stored)
        return w

    return write


@pytest.fixture
def saelens_folder() -> Callable[..., dict[str, Tensor]]:
    """Writes what SAELens 6 writes; `cfg` keys replace its own, None takes one away."""
    def write(folder: Path, architecture: str = "topk", metadata: Any = None,
              tensors: dict[str, Tensor] | None = None, **cfg: Any) -> dict[str, Tensor]:
        w = weights()
        if architecture == "jumprelu":
            w["threshold"] = numbers(D_SAE, seed=15).abs()
        keys = {"d_in": D_MODEL, "d_sae": D_SAE, "dtype": "float32", "device": "cpu",
                "apply_b_dec_to_input": True, "normalize_activations": "none",
                "reshape_activations": "none", "architecture": architecture,
                "metadata": {"hook_name": "blocks.6.hook_resid_post"}
                if metadata is None else metadata}
        if architecture == "topk":
            keys |= {"k": K, "rescale_acts_by_decoder_norm": False}
        stored = w | {"W_enc": w["W_enc"].T} | (tensors or {})
        _write(folder, "sae_weights.safetensors",
               {key: value for key, value in (keys | cfg).items() if value is not None}, stored)
        return w

    return write


def naive_topk(pre: Tensor, k: int) -> Tensor:
    """Dense activations by sorting each row in Python."""
    out = torch.zeros_like(pre)
    for row, values in zip(out.reshape(-1, pre.shape[-1]), pre.reshape(-1, pre.shape[-1]),
                           strict=True):
        for feature in sorted(range(len(values)), key=lambda f: -float(values[f]))[:k]:
            row[feature] = max(float(values[feature]), 0.0)
    return out


def naive_jumprelu(pre: Tensor, threshold: Tensor) -> Tensor:
    """Dense activations, one number at a time."""
    out = torch.zeros_like(pre)
    for row, values in zip(out.reshape(-1, pre.shape[-1]), pre.reshape(-1, pre.shape[-1]),
                           strict=True):
        for feature, value in enumerate(values.tolist()):
            row[feature] = value if value > float(threshold[feature]) and value > 0 else 0.0
    return out


@pytest.fixture
def oracle() -> dict[str, Callable[..., Tensor]]:
    """The two sparsifiers by naive loops."""
    return {"topk": naive_topk, "jumprelu": naive_jumprelu}
