"""SAE -> a folder that other libraries read too, with what we add in files of its own.

    TopK as sparsify's    cfg.json ("hookpoint": "layers.6" is ours), sae.safetensors:
                          encoder.weight, encoder.bias, W_dec, b_dec
    all else as SAELens'  cfg.json, sae_weights.safetensors: W_enc, W_dec, b_enc, b_dec, threshold
    beside both           thresholds.safetensors   threshold [d_sae], of a TopK SAE
                          features.safetensors     high, density; agreement where measured; [d_sae]
                          norms.json               residual_norm

What is not quite sparsify's TopK (no `b_dec` off the input, or tokens normalised) is SAELens' TopK.
A centred SAE says `center_writing_weights`, as SAELens does of the model it was trained on.
"""

import json
from pathlib import Path
from typing import Any

from sternpost.errors import SAEError
from sternpost.files import write_json, write_tensors, write_text
from sternpost.sae.autoencoder import SAE
from sternpost.sae.files import BESIDE

_WEIGHTS = ("sae.safetensors", "sae_weights.safetensors")


def save_sae(sae: SAE, folder: Path) -> None:
    """Writes `sae` into `folder`, file by file, each whole or not at all; cfg.json last.

    What an SAE saved there before had beside its weights is removed. Raises SAEError for a
    BatchTopK SAE without thresholds.
    """
    if sae.kind == "batchtopk":
        raise SAEError("A BatchTopK SAE is saved with the thresholds that it is used with. Measure "
                       "them: sternpost.sae.calibrate(sae, residuals).")
    plain = sae.kind == "topk" and sae.subtract_b_dec and not sae.centred and not sae.per_token
    for name in BESIDE:
        (folder / name).unlink(missing_ok=True)
    if plain:
        write_tensors(folder / _WEIGHTS[0], {
            "encoder.weight": sae.W_enc, "encoder.bias": sae.b_enc, "W_dec": sae.W_dec,
            "b_dec": sae.b_dec})
    else:
        own = {} if sae.kind == "topk" else {"threshold": sae.threshold}
        write_tensors(folder / _WEIGHTS[1], {
            "W_enc": sae.W_enc.mT.contiguous(), "W_dec": sae.W_dec, "b_enc": sae.b_enc,
            "b_dec": sae.b_dec, **own})
    if sae.kind == "topk" and sae.threshold is not None:
        write_tensors(folder / "thresholds.safetensors", {"threshold": sae.threshold})
    if sae.stats is not None:
        known = {name: getattr(sae.stats, name) for name in ("high", "density", "agreement")}
        write_tensors(folder / "features.safetensors",
                      {name: part for name, part in known.items() if part is not None})
    if sae.residual_norm is not None:
        write_json(folder / "norms.json", {"residual_norm": sae.residual_norm})
    write_text(folder / "cfg.json",
               json.dumps(_sparsify(sae) if plain else _saelens(sae), indent=2) + "\n")
    (folder / _WEIGHTS[plain]).unlink(missing_ok=True)


def _sparsify(sae: SAE) -> dict[str, Any]:
    return {"activation": "topk", "expansion_factor": max(sae.d_sae // sae.d_model, 1),
            "normalize_decoder": True, "num_latents": sae.d_sae, "k": sae.k, "multi_topk": False,
            "skip_connection": False, "transcode": False, "d_in": sae.d_model,
            "hookpoint": str(sae.hookpoint), **_prefixes(sae)}


def _prefixes(sae: SAE) -> dict[str, Any]:
    return {} if sae.prefixes is None else {"prefixes": list(sae.prefixes)}


def _saelens(sae: SAE) -> dict[str, Any]:
    at = sae.hookpoint
    metadata: dict[str, Any] = {"hook_name": at.module or f"blocks.{at.layer}.hook_resid_post"}
    if sae.centred:
        metadata["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    kind = {"k": sae.k, "rescale_acts_by_decoder_norm": False} if sae.kind == "topk" else {}
    return {"architecture": sae.kind, "d_in": sae.d_model, "d_sae": sae.d_sae,
            "dtype": str(sae.dtype).removeprefix("torch."), "device": "cpu",
            "apply_b_dec_to_input": sae.subtract_b_dec,
            "normalize_activations": sae.per_token or "none", "reshape_activations": "none",
            **kind, "metadata": metadata, "centred": sae.centred,
            **_prefixes(sae)}
