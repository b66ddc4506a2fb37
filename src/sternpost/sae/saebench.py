"""An SAE as SAEBench's evaluations expect one: dense activations, x @ W_enc, unit decoder rows.

The norm of a decoder row goes into its feature's activation. Which features are active stays as it
is, so `encode` is ours times those norms, not a top-k over rescaled pre-activations.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sternpost.errors import SAEError
from sternpost.sae.autoencoder import SAE


class ForSAEBench(nn.Module):
    """`W_enc [d_in, d_sae]`, `W_dec [d_sae, d_in]`, `b_enc`, `b_dec`, `cfg`, `encode`, `decode`."""

    def __init__(self, sae: SAE, model_name: str, training_tokens: int) -> None:
        super().__init__()
        norm = sae.W_dec.norm(dim=1).clamp(min=1e-8)
        self.sae, self.device, self.dtype = sae, sae.device, sae.dtype
        self.norm = nn.Parameter(norm, requires_grad=False)
        self.W_enc = nn.Parameter((sae.W_enc * norm[:, None]).T.contiguous(), requires_grad=False)
        self.W_dec = nn.Parameter(sae.W_dec / norm[:, None], requires_grad=False)
        self.b_enc = nn.Parameter(sae.b_enc * norm, requires_grad=False)
        self.b_dec = nn.Parameter(sae.b_dec.clone(), requires_grad=False)
        layer = sae.hookpoint.layer
        self.cfg = SimpleNamespace(
            model_name=model_name, d_in=sae.d_model, d_sae=sae.d_sae, hook_layer=layer,
            hook_name=f"blocks.{layer}.hook_resid_post", context_size=None, hook_head_index=None,
            architecture=sae.kind, apply_b_dec_to_input=sae.subtract_b_dec,
            finetuning_scaling_factor=None, activation_fn_str=sae.kind,
            activation_fn_kwargs={} if sae.k is None else {"k": sae.k}, prepend_bos=True,
            normalize_activations="none", dtype=str(sae.dtype).removeprefix("torch."),
            device=str(sae.device), model_from_pretrained_kwargs={}, dataset_path="",
            dataset_trust_remote_code=False, seqpos_slice=(None,), training_tokens=training_tokens,
            sae_lens_training_version=None, neuronpedia_id=None)

    def encode(self, x: Tensor) -> Tensor:
        """Activations [..., d_sae] of the stream x [..., d_in]."""
        return self.sae.encode(x).dense() * self.norm

    def decode(self, feature_acts: Tensor) -> Tensor:
        """The stream [..., d_in] that activations [..., d_sae] stand for."""
        return feature_acts.to(self.dtype) @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """x, reconstructed."""
        return self.decode(self.encode(x))

    def to(self, *args: Any, **kwargs: Any) -> "ForSAEBench":
        """Moves it, and says where it is."""
        super().to(*args, **kwargs)
        self.device, self.dtype = self.W_dec.device, self.W_dec.dtype
        self.sae = self.sae.to(self.device, self.dtype)
        self.cfg.device, self.cfg.dtype = str(self.device), str(self.dtype).removeprefix("torch.")
        return self

    @torch.no_grad()
    def check_decoder_norms(self) -> bool:
        """Whether all decoder rows have unit norm."""
        near = 1e-2 if self.dtype in (torch.bfloat16, torch.float16) else 1e-5
        return bool((self.W_dec.float().norm(dim=1) - 1).abs().max() <= near)


def as_saebench(sae: SAE, model_name: str, training_tokens: int = -100_000) -> ForSAEBench:
    """`sae` for SAEBench's `selected_saes`. Raises SAEError where tokens are normalised or centred
    first: `decode` is not told of them."""
    if sae.per_token is not None or sae.centred:
        raise SAEError("SAEBench decodes activations without their tokens, and this SAE normalises "
                       "or centres each token first. Evaluate one that does not.")
    return ForSAEBench(sae, model_name, training_tokens)
