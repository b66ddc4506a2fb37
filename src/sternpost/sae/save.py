"""SAE -> a folder that sparsify reads too, with what we add in files of its own.

    cfg.json                 sparsify's keys, and "hookpoint": "layers.6"
    sae.safetensors          encoder.weight, encoder.bias, W_dec, b_dec
    thresholds.safetensors   threshold [d_sae]
    features.safetensors     high [d_sae], density [d_sae]; agreement [d_sae] where measured
    norms.json               residual_norm

A JumpReLU SAE is written the same way with "activation": "jumprelu", and one that takes no `b_dec`
off its input, or that centres it, with "sternpost-topk" or "sternpost-jumprelu": sparsify, which
does not have these equations, refuses them.
"""

import json
from pathlib import Path

from sternpost.files import write_json, write_tensors, write_text
from sternpost.sae.autoencoder import SAE

_BESIDE = ("thresholds.safetensors", "features.safetensors", "norms.json")


def save_sae(sae: SAE, folder: Path) -> None:
    """Writes `sae` into `folder`, file by file, each whole or not at all; cfg.json last.

    What an SAE saved there before had beside its weights is removed.
    """
    for name in _BESIDE:
        (folder / name).unlink(missing_ok=True)
    write_tensors(folder / "sae.safetensors", {
        "encoder.weight": sae.W_enc, "encoder.bias": sae.b_enc, "W_dec": sae.W_dec,
        "b_dec": sae.b_dec})
    if sae.threshold is not None:
        write_tensors(folder / "thresholds.safetensors", {"threshold": sae.threshold})
    if sae.stats is not None:
        known = {name: getattr(sae.stats, name) for name in ("high", "density", "agreement")}
        write_tensors(folder / "features.safetensors",
                      {name: part for name, part in known.items() if part is not None})
    if sae.residual_norm is not None:
        write_json(folder / "norms.json", {"residual_norm": sae.residual_norm})
    theirs = sae.subtract_b_dec and not sae.centred
    cfg = {"activation": sae.kind if theirs else f"sternpost-{sae.kind}",
           "expansion_factor": max(sae.d_sae // sae.d_model, 1), "normalize_decoder": True,
           "num_latents": sae.d_sae, "k": sae.k or 0,
           "multi_topk": False, "skip_connection": False, "transcode": False,
           "d_in": sae.d_model, "hookpoint": str(sae.hookpoint)}
    if not sae.subtract_b_dec:
        cfg["subtract_b_dec"] = False
    if sae.centred:
        cfg["centred"] = True
    write_text(folder / "cfg.json", json.dumps(cfg, indent=2) + "\n")
