"""What is wrong with an SAE folder is an SAEError that says what to do."""

import json

import pytest
import torch
from safetensors.torch import save_file

from sternpost.errors import SAEError
from sternpost.sae import read_sae, save_sae
from sternpost.trials.load import load_sae

pytestmark = pytest.mark.usefixtures("unchecked")


def refused(folder, says, sae_id=None):
    with pytest.raises(SAEError, match=says):
        load_sae(folder, sae_id, hookpoint=3, device="cpu")


def test_no_folder(tmp_path):
    refused(tmp_path / "none", r"No SAE folder at .*none\. Give a folder")


def test_a_folder_without_an_sae(tmp_path):
    refused(tmp_path, r"cfg\.json and sae\.safetensors .* or sae_weights\.safetensors")


def test_several_saes_are_listed_and_one_is_to_be_named(tmp_path, sparsify_folder):
    for name in ("layers.2", "layers.10", "sub/layers.3"):
        sparsify_folder(tmp_path / name)
    refused(tmp_path, r"holds 3 SAEs: layers\.10, layers\.2, sub/layers\.3\. Name one: "
                      r"load_sae\('.*', 'layers\.10'\), or --sae .*:layers\.10")
    assert read_sae(tmp_path, "layers.10").hookpoint.layer == 10
    assert read_sae(tmp_path, "sub/layers.3").hookpoint.layer == 3
    refused(tmp_path, r"no SAE 'layers\.4'\. It has: layers\.10, layers\.2, sub/layers\.3",
            "layers.4")


def test_a_folder_of_the_root_that_holds_no_sae_or_several(tmp_path, sparsify_folder):
    for name in ("a/layers.2", "a/layers.3", "b/layers.4"):
        sparsify_folder(tmp_path / name)
    (tmp_path / "empty").mkdir()
    refused(tmp_path, r"a holds 2 SAEs: layers\.2, layers\.3\. Name one: .*'a/layers\.2'", "a")
    refused(tmp_path, r"empty holds no SAE.*has: a/layers\.2, a/layers\.3, b/layers\.4", "empty")
    assert read_sae(tmp_path, "b").hookpoint.layer == 4


def test_a_root_with_one_sae_is_that_sae(tmp_path, sparsify_folder):
    sparsify_folder(tmp_path / "runs" / "layers.7")
    assert read_sae(tmp_path).hookpoint.layer == 7


def test_a_long_list_is_cut(tmp_path, sparsify_folder):
    for layer in range(23):
        sparsify_folder(tmp_path / f"layers.{layer}")
    refused(tmp_path, "holds 23 SAEs: .* and 3 more")


@pytest.mark.parametrize(("text", "says"), [
    (None, r"cfg\.json is missing or not JSON"), ("{", r"cfg\.json is missing or not JSON"),
    ("[1]", r"cfg\.json is not a JSON object")])
def test_a_broken_cfg(text, says, tmp_path, sparsify_folder):
    sparsify_folder(tmp_path)
    (tmp_path / "cfg.json").unlink()
    if text is not None:
        (tmp_path / "cfg.json").write_text(text)
    refused(tmp_path, says)


def test_a_cut_weight_file(tmp_path, sparsify_folder):
    sparsify_folder(tmp_path)
    whole = (tmp_path / "sae.safetensors").read_bytes()
    for length in (0, 5, len(whole) - 40):
        (tmp_path / "sae.safetensors").write_bytes(whole[:length])
        refused(tmp_path, r"sae\.safetensors is not readable safetensors")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["encoder.weight", "W_dec", "encoder.bias", "b_dec"])
def test_weights_that_are_not_finite(bad, key, tmp_path, sparsify_folder):
    w = sparsify_folder(tmp_path)
    tensor = w[{"encoder.weight": "W_enc", "encoder.bias": "b_enc"}.get(key, key)].clone()
    tensor.view(-1)[-1] = bad
    sparsify_folder(tmp_path, tensors={key: tensor})
    refused(tmp_path, "not finite; the file is damaged. Download it again")


def test_a_threshold_that_is_no_number(tmp_path, saelens_folder):
    threshold = torch.zeros(20)
    threshold[3] = torch.nan
    saelens_folder(tmp_path, "jumprelu", tensors={"threshold": threshold})
    refused(tmp_path, "threshold holds values that are no numbers")


@pytest.mark.parametrize(("key", "shape", "says"), [
    ("W_dec", (6, 20), r"W_dec is .* of shape \(6, 20\); .* shape \(20, 6\), as b_dec has 6 "
                       r"numbers and encoder\.weight shape \(20, 6\)"),
    ("encoder.bias", (6,), r"encoder\.bias is .* of shape \(6,\)"),
    ("b_dec", (20,), r"encoder\.weight is .*, as b_dec has 20 numbers"),
    ("encoder.weight", (120,), r"encoder\.weight is torch\.float32 of shape \(120,\)"),
    ("b_dec", (1, 6), "b_dec is torch.float32 of shape"),
])
def test_wrong_shapes(key, shape, says, tmp_path, sparsify_folder):
    sparsify_folder(tmp_path, tensors={key: torch.zeros(shape)})
    refused(tmp_path, says)


def test_whole_numbers_are_no_weights(tmp_path, sparsify_folder):
    sparsify_folder(tmp_path, tensors={"W_dec": torch.zeros(20, 6, dtype=torch.int8)})
    refused(tmp_path, "W_dec is torch.int8 .* should be floating-point")


@pytest.mark.parametrize("tensors", [{"W_enc": torch.zeros(20)}, {"W_enc": torch.zeros(20, 6)}])
def test_wrong_shapes_in_a_saelens_folder(tensors, tmp_path, saelens_folder):
    saelens_folder(tmp_path, tensors=tensors)
    refused(tmp_path, "W_enc")


def test_a_missing_tensor_is_named(tmp_path, sparsify_folder):
    w = sparsify_folder(tmp_path)
    save_file({"W_dec": w["W_dec"], "b_dec": w["b_dec"]}, tmp_path / "sae.safetensors")
    refused(tmp_path, r"no tensor 'encoder\.weight'; it has W_dec, b_dec")


@pytest.mark.parametrize("architecture", ["temporal", "transcoder", None])
def test_an_unknown_architecture(architecture, tmp_path, saelens_folder):
    saelens_folder(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text()) | {"architecture": architecture}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    refused(tmp_path, f"architecture {architecture!r} is not read; standard, gated, jumprelu, topk")


@pytest.mark.parametrize(("cfg", "says"), [
    ({"activation": "groupmax"}, "'groupmax' is not read; topk and jumprelu are"),
    ({"transcode": True}, "is a transcoder.*Use an SAE of the residual stream"),
    ({"skip_connection": True}, "is a transcoder"),
    ({"signed": True}, "absolute"), ({"k": 99}, "k = 99"), ({"k": "3"}, "k = '3'"),
])
def test_what_sparsify_can_do_and_we_do_not_read(cfg, says, tmp_path, sparsify_folder):
    sparsify_folder(tmp_path, **cfg)
    refused(tmp_path, says)


def test_a_skip_weight_makes_a_transcoder(tmp_path, sparsify_folder):
    sparsify_folder(tmp_path, tensors={"W_skip": torch.eye(6)})
    refused(tmp_path, "is a transcoder")


@pytest.mark.parametrize(("cfg", "says"), [
    ({"normalize_activations": "covariance_whitening"},
     "'covariance_whitening' is not read.*layer_norm and constant_norm_rescale are"),
    ({"reshape_activations": "hook_z"}, "attention heads.*hook_resid_post"),
    ({"metadata": {"hook_head_index": 2}}, "attention heads"),
    ({"metadata": "gone"}, "metadata"), ({"k": None}, "does not say how many"),
])
def test_what_saelens_can_do_and_we_do_not_read(cfg, says, tmp_path, saelens_folder):
    saelens_folder(tmp_path, **cfg)
    refused(tmp_path, says)


def test_a_jumprelu_without_thresholds(tmp_path, saelens_folder):
    w = saelens_folder(tmp_path, "jumprelu")
    del w["threshold"]
    save_file(w | {"W_enc": w["W_enc"].T.contiguous()}, tmp_path / "sae_weights.safetensors")
    refused(tmp_path, "no tensor 'threshold'")


@pytest.mark.parametrize(("file", "body", "says"), [
    ("norms.json", "{", r"norms\.json is missing or not JSON"),
    ("norms.json", "{}", "residual_norm"), ("norms.json", '{"residual_norm": "big"}', "'big'"),
    ("norms.json", '{"residual_norm": 0}', "positive"),
    ("norms.json", '{"residual_norm": NaN}', "positive"),
    ("features.safetensors", "x", "not readable safetensors"),
    ("features.safetensors", {"high": torch.zeros(20)}, "'density'"),
    ("features.safetensors", {"high": torch.zeros(3), "density": torch.zeros(20)}, "'high'"),
    ("thresholds.safetensors", "x", "not readable safetensors"),
    ("thresholds.safetensors", {"threshold": torch.zeros(3)}, "threshold has shape"),
])
def test_broken_files_beside_the_weights(file, body, says, tmp_path, make_sae):
    save_sae(make_sae(), tmp_path)
    if isinstance(body, str):
        (tmp_path / file).write_text(body)
    else:
        save_file(body, tmp_path / file)
    refused(tmp_path, says)
