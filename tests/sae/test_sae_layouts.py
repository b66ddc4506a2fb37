"""Folders as sparsify, SAELens and we write them, against the libraries' formulas."""

import pytest
import torch
from safetensors.torch import load_file

from sternpost.errors import SAEError
from sternpost.sae import FeatureStats, calibrate, read_sae, save_sae
from sternpost.trials.load import load_sae


def test_sparsify_subtracts_b_dec_whatever_normalize_decoder_says(tmp_path, sparsify_folder, x,
                                                                  oracle):
    for normalise in (True, False):
        folder = tmp_path / f"layers.{int(normalise)}"
        w = sparsify_folder(folder, normalize_decoder=normalise)
        sae = read_sae(folder)
        acts = oracle["topk"]((x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"], 3)
        assert torch.allclose(sae.encode(x).dense(), acts, atol=1e-5)
        assert torch.allclose(sae.decode(sae.encode(x)), acts @ w["W_dec"] + w["b_dec"], atol=1e-5)
        assert torch.equal(sae.W_dec, w["W_dec"])  # the file's own units, no row made unit


def test_sparsify_before_1_0_says_neither_activation_nor_d_in(tmp_path, sparsify_folder):
    sparsify_folder(tmp_path / "layers.3", activation=None, d_in=None, transcode=None, k=None,
                    signed=False, tensors={"encoder.weight": torch.randn(40, 6),
                                           "encoder.bias": torch.zeros(40),
                                           "W_dec": torch.randn(40, 6)})
    sae = read_sae(tmp_path / "layers.3")
    assert (sae.kind, sae.k, sae.d_sae) == ("topk", 32, 40)  # 32: sparsify's own default


@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
def test_saelens_topk(subtract, rescale, tmp_path, saelens_folder, x, oracle):
    w = saelens_folder(tmp_path, apply_b_dec_to_input=subtract,
                       rescale_acts_by_decoder_norm=rescale)
    norm = w["W_dec"].norm(dim=-1) if rescale else torch.ones(20)
    pre = ((x - w["b_dec"] * subtract) @ w["W_enc"].T + w["b_enc"]) * norm
    acts = oracle["topk"](pre, 3)
    sae = read_sae(tmp_path)
    assert torch.allclose(sae.encode(x).dense(), acts, atol=1e-5)
    assert torch.allclose(sae.decode(sae.encode(x)), (acts / norm) @ w["W_dec"] + w["b_dec"],
                          atol=1e-5)


def test_a_decoder_row_of_zeros_survives_the_rescaling(tmp_path, saelens_folder, x):
    rows = torch.randn(20, 6)
    rows[4] = 0
    saelens_folder(tmp_path, rescale_acts_by_decoder_norm=True, tensors={"W_dec": rows})
    sae = load_sae(tmp_path, device="cpu")
    assert not sae.W_dec[4].any()
    assert sae.decode(sae.encode(x)).isfinite().all()


@pytest.mark.parametrize("subtract", [True, False])
def test_saelens_jumprelu(subtract, tmp_path, saelens_folder, x, oracle):
    w = saelens_folder(tmp_path, "jumprelu", apply_b_dec_to_input=subtract)
    pre = (x - w["b_dec"] * subtract) @ w["W_enc"].T + w["b_enc"]
    acts = oracle["jumprelu"](pre, w["threshold"])
    sae = read_sae(tmp_path)
    assert torch.allclose(sae.encode(x).dense(), acts, atol=1e-5)
    assert torch.allclose(sae.decode(sae.encode(x)), acts @ w["W_dec"] + w["b_dec"], atol=1e-5)
    assert torch.equal(sae.threshold, w["threshold"])


def test_normalisation_that_was_folded_in_changes_nothing(tmp_path, saelens_folder, x):
    for name in ("none", "expected_average_only_in"):
        saelens_folder(tmp_path / name, normalize_activations=name)
    one, other = (read_sae(tmp_path / name) for name in ("none", "expected_average_only_in"))
    assert torch.equal(one.encode(x).dense(), other.encode(x).dense())


@pytest.mark.parametrize(("model", "centred"), [
    ("gpt2-small", True), ("EleutherAI/pythia-70m", True), ("meta-llama/Llama-3.1-8B", False),
    ("google/gemma-2-2b", False)])
def test_centred_writing_weights_are_corrected_where_every_reader_is_a_layer_norm(
        model, centred, tmp_path, saelens_folder, x):
    said = {"hook_name": "blocks.2.hook_resid_post", "model_name": model}
    saelens_folder(tmp_path / "plain", metadata=said)
    processed = said | {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    saelens_folder(tmp_path / "processed", metadata=processed)
    seen = x - x.mean(-1, keepdim=True) if centred else x
    plain, corrected = read_sae(tmp_path / "plain"), read_sae(tmp_path / "processed")
    assert torch.allclose(corrected.encode(x).dense(), plain.encode(seen).dense(), atol=1e-5)
    assert corrected.centred is centred


def test_centred_writing_weights_of_an_unknown_family_are_refused(tmp_path, saelens_folder):
    options = {"center_writing_weights": True}
    saelens_folder(tmp_path, metadata={"hook_name": "blocks.2.hook_resid_post",
                                       "model_name": "acme-9", "fold_ln": True,
                                       "model_from_pretrained_kwargs": options})
    with pytest.raises(SAEError, match=r"center_writing_weights=True on 'acme-9'.*gpt2.*llama"):
        read_sae(tmp_path)


# ---- our own folders ---------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "fields"), [
    ("topk", {}), ("jumprelu", {}), ("topk", {"subtract_b_dec": False}),
    ("topk", {"centred": True}), ("jumprelu", {"subtract_b_dec": False, "centred": True}),
    ("topk", {"per_token": "layer_norm"}), ("jumprelu", {"per_token": "constant_norm_rescale"})])
def test_save_and_load_is_bit_identical(dtype, kind, fields, tmp_path, make_sae):
    sae = make_sae(kind, **fields).to(dtype=dtype)
    save_sae(sae, tmp_path)
    back = read_sae(tmp_path)
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        assert torch.equal(getattr(back, name), getattr(sae, name))
        assert getattr(back, name).dtype == dtype
    for name in ("hookpoint", "kind", "k", "subtract_b_dec", "centred", "per_token",
                 "residual_norm", "stats"):
        assert getattr(back, name) == getattr(sae, name)
    assert (sae.threshold is None and back.threshold is None) or \
        torch.equal(back.threshold, sae.threshold)


def test_thresholds_norm_and_statistics_are_kept(tmp_path, make_sae, x):
    sae = calibrate(make_sae(), x.reshape(-1, 6))
    save_sae(sae, tmp_path)
    back = read_sae(tmp_path)
    assert back.kind == "topk"
    assert torch.equal(back.threshold, sae.threshold)
    assert torch.equal(back.stats.high, sae.stats.high)
    assert torch.equal(back.stats.density, sae.stats.density)
    assert back.residual_norm == sae.residual_norm
    assert sae.residual_norm


def test_what_another_sae_left_in_the_folder_is_not_taken_over(tmp_path, make_sae, x):
    save_sae(calibrate(make_sae(), x.reshape(-1, 6)), tmp_path)
    save_sae(make_sae(), tmp_path)
    back = read_sae(tmp_path)
    assert (back.threshold, back.stats, back.residual_norm) == (None, None, None)


def test_the_folder_is_sparsifys(tmp_path, make_sae):
    import json
    sae = make_sae()
    save_sae(sae, tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    tensors = load_file(tmp_path / "sae.safetensors")
    assert set(tensors) == {"encoder.weight", "encoder.bias", "W_dec", "b_dec"}
    assert torch.equal(tensors["encoder.weight"], sae.W_enc)
    assert cfg | {"expansion_factor": 0} == {
        "activation": "topk", "expansion_factor": 0, "normalize_decoder": True, "num_latents": 20,
        "k": 3, "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": 6,
        "hookpoint": "layers.6"}


@pytest.mark.parametrize(("fields", "says"), [
    ({"subtract_b_dec": False}, {"architecture": "topk", "apply_b_dec_to_input": False, "k": 3}),
    ({"per_token": "layer_norm"}, {"architecture": "topk", "normalize_activations": "layer_norm"}),
    ({"kind": "jumprelu"}, {"architecture": "jumprelu", "apply_b_dec_to_input": True})])
def test_an_equation_that_sparsify_lacks_is_written_as_saelens(fields, says, tmp_path, make_sae):
    import json
    sae = make_sae(**fields)
    save_sae(make_sae(), tmp_path)
    save_sae(sae, tmp_path)
    assert not (tmp_path / "sae.safetensors").exists()  # the one before is gone
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    assert cfg | says == cfg
    assert cfg["metadata"]["hook_name"] == "blocks.6.hook_resid_post"
    tensors = load_file(tmp_path / "sae_weights.safetensors")
    assert torch.equal(tensors["W_enc"], sae.W_enc.T)
    save_sae(make_sae(), tmp_path)
    assert not (tmp_path / "sae_weights.safetensors").exists()


def test_a_batchtopk_sae_is_saved_with_thresholds_alone(tmp_path, make_sae, x):
    sae = make_sae("batchtopk", threshold=None, k=3)
    with pytest.raises(SAEError, match="calibrate"):
        save_sae(sae, tmp_path)
    fitted = calibrate(sae, x.reshape(-1, 6))
    assert (fitted.kind, fitted.k) == ("jumprelu", None)
    save_sae(fitted, tmp_path)
    assert torch.equal(read_sae(tmp_path).encode(x).dense(), fitted.encode(x).dense())


def test_load_sae_gives_float32_on_a_cpu_and_what_was_asked_for(tmp_path, make_sae):
    save_sae(make_sae().to(dtype=torch.bfloat16), tmp_path)
    assert load_sae(tmp_path, device="cpu").dtype == torch.float32
    assert load_sae(str(tmp_path), device="cpu", dtype="float16").dtype == torch.float16
    assert load_sae(tmp_path, device="cpu", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_moving_an_sae_takes_its_statistics_along(make_sae, x):
    sae = calibrate(make_sae(), x.reshape(-1, 6)).to(dtype=torch.float64)
    assert sae.threshold.dtype == sae.stats.high.dtype == sae.stats.density.dtype == torch.float64
    assert isinstance(sae.stats, FeatureStats)
