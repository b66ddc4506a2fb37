"""Public files, each written here as its library writes it, against that library's own equation."""

import json
import math
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sternpost.errors import HookpointError, SAEError
from sternpost.sae import read_sae
from sternpost.sae.read import saes_under
from sternpost.trials.load import load_sae

D, M, K = 6, 20, 3


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.7


ENC, DEC = draw(M, D, seed=21), draw(M, D, seed=22)
B_ENC, B_DEC = draw(M, seed=23) * 0.4, draw(D, seed=24)
THETA = draw(M, seed=25).abs()
GATE, MAG, R = draw(M, seed=26), draw(M, seed=27), draw(M, seed=28) * 0.3


def topk(pre: Tensor, k: int = K) -> Tensor:
    kept = pre.relu().topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, kept.indices, kept.values)


def jump(pre: Tensor, theta: Tensor | float) -> Tensor:
    return torch.where(pre > theta, pre, 0.0).relu()


def normal(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    return (x - mean) / (std + 1e-5), mean, std


class Case(NamedTuple):
    """How a file is written below a folder, and what its library makes of x."""

    write: Callable[[Path], None]
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor, Tensor], Tensor]
    """Of activations and the x that they came from."""
    layer: int = 6
    sae_id: str | None = None


def put(folder: Path, file: str, tensors: dict[str, Any], **configs: Any) -> None:
    """Weights by the file's ending, and `cfg_json={...}` as cfg.json."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    if file.endswith(".safetensors"):
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / file)
    elif file.endswith(".npz"):
        np.savez(folder / file, **{k: v.numpy() for k, v in tensors.items()})
    else:
        torch.save(tensors, folder / file)
    for name, body in configs.items():
        (folder / file).parent.joinpath(name.replace("_json", ".json")).write_text(
            json.dumps(body))


def linear(acts: Tensor, x: Tensor) -> Tensor:
    return acts @ DEC + B_DEC


def minus(x: Tensor) -> Tensor:
    return (x - B_DEC) @ ENC.T + B_ENC


def plain(x: Tensor) -> Tensor:
    return x @ ENC.T + B_ENC


W = {"W_enc": ENC.T, "W_dec": DEC, "b_enc": B_ENC, "b_dec": B_DEC}
LINEAR = {"encoder.weight": ENC, "encoder.bias": B_ENC, "decoder.weight": DEC.T}


def saelens(architecture: str | None, tensors: dict[str, Tensor],
            **cfg: Any) -> Callable[..., None]:
    said = {"d_in": D, "d_sae": M, "dtype": "float32", "apply_b_dec_to_input": True,
            "normalize_activations": "none", "reshape_activations": "none",
            "architecture": architecture,
            "metadata": {"hook_name": "blocks.6.hook_resid_post"}} | cfg
    return lambda folder: put(folder, "sae_weights.safetensors", tensors, cfg_json={
        key: value for key, value in said.items() if value is not None})


def trainer(kind: str) -> dict[str, Any]:
    return {"trainer": {"dict_class": kind, "layer": 6, "k": K}, "buffer": {"ctx_len": 128}}


def dictionary(kind: str, tensors: dict[str, Tensor]) -> Callable[..., None]:
    return lambda folder: put(folder, "ae.pt", tensors, config_json=trainer(kind))


def gated(x: Tensor) -> Tensor:
    seen = (x - B_DEC) @ ENC.T
    return (seen * R.exp() + MAG).relu() * (seen + GATE > 0)


NORM = DEC.norm(dim=1)
S_IN, S_OUT = math.sqrt(D) / 4.0, math.sqrt(D) / 5.0
SIZE = math.sqrt(D)


def llama_scope(x: Tensor) -> Tensor:
    return jump((x @ ENC.T + B_ENC / S_IN) * (NORM * S_IN / S_OUT), 0.5)


R1_CFG = {"d_model": D, "expansion_factor": 3, "hook_point_in": "blocks.6.hook_resid_post",
          "hook_point_out": "blocks.6.hook_resid_post", "sparsity_include_decoder_norm": True}


def r1(x: Tensor) -> Tensor:
    pre = (x * S_IN) @ ENC.T + B_ENC
    return pre.relu() * (pre * NORM > THETA)


CASES = {
    "saelens standard": Case(saelens("standard", W), lambda x: minus(x).relu(), linear),
    "saelens gated": Case(saelens("gated", {"W_enc": ENC.T, "W_dec": DEC, "b_dec": B_DEC,
                                            "b_gate": GATE, "b_mag": MAG, "r_mag": R}),
                          gated, linear),
    "saelens layer_norm": Case(
        saelens("topk", W, k=K, normalize_activations="layer_norm"),
        lambda x: topk(minus(normal(x)[0])),
        lambda acts, x: linear(acts, x) * normal(x)[2] + normal(x)[1]),
    "saelens constant_norm_rescale": Case(
        saelens("jumprelu", W | {"threshold": THETA},
                normalize_activations="constant_norm_rescale"),
        lambda x: jump(minus(x * SIZE / x.norm(dim=-1, keepdim=True)), THETA),
        lambda acts, x: linear(acts, x) * x.norm(dim=-1, keepdim=True) / SIZE),
    "saelens batchtopk in training": Case(
        saelens("batchtopk", W | {"topk_threshold": torch.tensor(0.6)}, k=K,
                rescale_acts_by_decoder_norm=True),
        lambda x: jump(minus(x) * NORM, 0.6), lambda acts, x: linear(acts / NORM, x)),
    "saelens before 6, topk": Case(
        saelens(None, W, metadata=None, hook_point="blocks.7.hook_resid_pre",
                activation_fn_str="topk", activation_fn_kwargs={"k": K},
                normalize_activations=None),
        lambda x: topk(minus(x)), linear),
    "saelens before 6, relu": Case(
        saelens(None, W | {"scaling_factor": THETA}, metadata=None, apply_b_dec_to_input=None,
                hook_name="blocks.6.hook_resid_post", activation_fn_str="relu",
                finetuning_scaling_factor=True, normalize_activations=False),
        lambda x: minus(x).relu(), lambda acts, x: linear(acts * THETA, x)),
    "dictionary TopK": Case(dictionary("AutoEncoderTopK", LINEAR | {
        "b_dec": B_DEC, "k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.3)}),
        lambda x: topk(minus(x)), linear),
    "dictionary BatchTopK": Case(dictionary("BatchTopKSAE", LINEAR | {
        "b_dec": B_DEC, "k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.3)}),
        lambda x: jump(minus(x), 0.3), linear),
    "dictionary Matryoshka": Case(dictionary("MatryoshkaBatchTopKSAE", W | {
        "k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.3),
        "group_sizes": torch.tensor([5, 15])}), lambda x: jump(minus(x), 0.3), linear),
    "dictionary ReLU": Case(dictionary("AutoEncoder", LINEAR | {"bias": B_DEC}),
                            lambda x: minus(x).relu(), linear),
    "dictionary new ReLU": Case(dictionary("AutoEncoderNew", LINEAR | {"decoder.bias": B_DEC}),
                                lambda x: plain(x).relu(), linear),
    "dictionary gated": Case(dictionary("GatedAutoEncoder", {
        "encoder.weight": ENC, "decoder.weight": DEC.T, "decoder_bias": B_DEC, "r_mag": R,
        "gate_bias": GATE, "mag_bias": MAG}), gated, linear),
    "dictionary JumpReLU": Case(dictionary("JumpReluAutoEncoder", W | {"threshold": THETA}),
                                lambda x: jump(plain(x), THETA), linear),
    "openai": Case(lambda folder: put(folder / "layer_6", "autoencoder.pt", {
        "pre_bias": B_DEC, "encoder.weight": ENC, "latent_bias": B_ENC, "decoder.weight": DEC.T,
        "stats_last_nonzero": torch.zeros(M, dtype=torch.long), "activation": "TopK",
        "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}),
        lambda x: topk(minus(normal(x)[0])),
        lambda acts, x: linear(acts, x) * normal(x)[2] + normal(x)[1]),
    "openai ReLU": Case(lambda folder: put(folder / "layer_6", "autoencoder.pt", {
        "pre_bias": B_DEC, "encoder.weight": ENC, "latent_bias": B_ENC, "decoder.weight": DEC.T,
        "activation": "ReLU"}), lambda x: minus(x).relu(), linear),
    "gemma scope": Case(
        lambda folder: put(folder / "layer_6/width_16k/average_l0_82", "params.npz",
                           W | {"threshold": THETA}), lambda x: jump(plain(x), THETA), linear),
    "gemma scope 2": Case(
        lambda folder: put(folder / "resid_post/layer_6_width_16k_l0_small", "params.safetensors",
                           {"w_enc": ENC.T, "w_dec": DEC, "b_enc": B_ENC, "b_dec": B_DEC,
                            "threshold": THETA},
                           config_json={"architecture": "jump_relu", "model_name": "gemma-v3-4b-pt",
                                        "hf_hook_point_in": "model.layers.6.output"}),
        lambda x: jump(plain(x), THETA), linear),
    "llama scope": Case(
        lambda folder: [put(folder / "L6R-8x", "checkpoints/final.safetensors",
                            LINEAR | {"decoder.bias": B_DEC}),
                        (folder / "L6R-8x/hyperparams.json").write_text(json.dumps({
                            "d_model": D, "d_sae": M, "act_fn": "jumprelu",
                            "jump_relu_threshold": 0.5, "sparsity_include_decoder_norm": True,
                            "dataset_average_activation_norm": {"in": 4.0, "out": 5.0},
                            "hook_point_in": "blocks.6.hook_resid_post"}))],
        llama_scope, lambda acts, x: (acts / NORM) @ DEC + B_DEC / S_OUT),
    "llama scope r1": Case(
        lambda folder: put(folder / "L6R", "sae_weights.safetensors", LINEAR | {
            "decoder.bias": B_DEC, "log_jumprelu_threshold": THETA.log(),
            "dataset_average_activation_norm.blocks.6.hook_resid_post": torch.tensor(4.0)},
            config_json=R1_CFG), r1, lambda acts, x: linear(acts, x) / S_IN),
    "goodfire": Case(
        lambda folder: put(folder / "layer_6", "Llama-3.1-8B-Instruct-SAE.pth", {
            "encoder_linear.weight": ENC, "encoder_linear.bias": B_ENC,
            "decoder_linear.weight": DEC.T, "decoder_linear.bias": B_DEC}),
        lambda x: plain(x).relu(), linear),
    "qwen scope": Case(
        lambda folder: put(folder / f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{K}", "layer6.sae.pt", {
            "W_enc": ENC, "W_dec": DEC.T, "b_enc": B_ENC, "b_dec": B_DEC}),
        lambda x: topk(plain(x)), linear),
    "batchtopk repository, vanilla": Case(
        lambda folder: put(folder / "layer_6", "sae.pt", W, config_json={
            "sae_type": "vanilla", "act_size": D, "dict_size": M, "input_unit_norm": False}),
        lambda x: minus(x).relu(), linear),
    "batchtopk repository, topk": Case(
        lambda folder: put(folder / "layer_6", "sae.pt", W, config_json={
            "sae_type": "topk", "top_k": K, "input_unit_norm": True}),
        lambda x: topk((normal(x)[0] - B_DEC) @ ENC.T),
        lambda acts, x: linear(acts, x) * normal(x)[2] + normal(x)[1]),
}


@pytest.fixture
def x() -> Tensor:
    return draw(2, 9, D, seed=29) * 3 + 0.5


@pytest.mark.parametrize("name", CASES)
def test_a_public_file_encodes_and_decodes_as_its_library_does(name: str, tmp_path: Path,
                                                               x: Tensor) -> None:
    case = CASES[name]
    case.write(tmp_path)
    sae = load_sae(str(tmp_path), device="cpu")
    acts = case.encode(x)
    assert 0.02 < (acts > 0).float().mean() < 0.98
    assert torch.allclose(sae.encode(x).dense(), acts, atol=1e-5)
    assert torch.allclose(sae.reconstruct(x), case.decode(acts, x), atol=1e-5)
    assert sae.hookpoint.layer == case.layer
    assert (sae.d_sae, sae.d_model) == (M, D)


def test_the_batch_top_k_of_its_repository_counts_over_all_tokens(tmp_path: Path,
                                                                  x: Tensor) -> None:
    put(tmp_path / "layer_6", "sae.pt", W, config_json={
        "sae_type": "batchtopk", "top_k": K, "input_unit_norm": False, "use_encoder_bias": True})
    sae = read_sae(tmp_path)
    assert sae.kind == "batchtopk"
    rows = x.reshape(-1, D)
    flat = minus(rows).relu().flatten()
    kept = flat.topk(K * len(rows))
    want = torch.zeros_like(flat).scatter(0, kept.indices, kept.values).reshape(len(rows), M)
    assert torch.allclose(sae.encode(rows).dense(), want, atol=1e-5)
    assert len(set((want > 0).sum(1).tolist())) > 1


# ---- finding the file ------------------------------------------------------------------------

def test_a_root_of_many_files_lists_them_and_takes_a_file_as_id(tmp_path: Path) -> None:
    root = tmp_path / "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3"
    for layer in (1, 12):
        put(root, f"layer{layer}.sae.pt", {"W_enc": ENC, "W_dec": DEC.T, "b_enc": B_ENC,
                                           "b_dec": B_DEC})
    assert saes_under(root) == ["layer1.sae.pt", "layer12.sae.pt"]
    with pytest.raises(SAEError, match=r"holds 2 SAEs: layer1\.sae\.pt, layer12\.sae\.pt\. Name"):
        read_sae(root)
    assert read_sae(root, "layer12.sae.pt").hookpoint.layer == 12
    assert load_sae(str(root / "layer1.sae.pt"), device="cpu").hookpoint.layer == 1


def test_a_folder_may_be_named_as_a_file(tmp_path: Path) -> None:
    for layer in (0, 1):
        saelens("standard", W)(tmp_path / f"v5_32k_layer_{layer}.pt")
    assert saes_under(tmp_path) == ["v5_32k_layer_0.pt", "v5_32k_layer_1.pt"]
    assert read_sae(tmp_path, "v5_32k_layer_1.pt").hookpoint.layer == 6


def test_a_trainers_own_files_are_no_saes(tmp_path: Path) -> None:
    put(tmp_path, "ae.pt", LINEAR | {"bias": B_DEC}, config_json=trainer("AutoEncoder"))
    for name in ("trainer_state.pt", "optimizer.pt", "pytorch_model.pt"):
        torch.save({}, tmp_path / name)
    assert saes_under(tmp_path) == ["."]
    assert read_sae(tmp_path).hookpoint.layer == 6


def test_gemma_scope_of_another_place_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "gemma-scope-2b-pt-mlp" / "layer_6" / "width_16k"
    put(folder, "params.npz", W | {"threshold": THETA})
    with pytest.raises(SAEError, match="no SAE of the residual stream, as 'gemma-scope-2b-pt-mlp'"):
        read_sae(folder)


def test_a_file_that_could_be_two_kinds_says_what_to_add(tmp_path: Path) -> None:
    put(tmp_path / "layer_6", "ae.pt", LINEAR | {"b_dec": B_DEC, "k": torch.tensor(K),
                                                 "threshold": torch.tensor(0.3)})
    with pytest.raises(SAEError, match=r"may be a TopK or a BatchTopK SAE.*config\.json"):
        read_sae(tmp_path)


def test_a_llama_scope_without_its_norms_says_what_is_missing(tmp_path: Path) -> None:
    put(tmp_path / "layer_6", "final.pt", LINEAR | {"decoder.bias": B_DEC}, hyperparams_json={
        "jump_relu_threshold": 0.5, "dataset_average_activation_norm": {"in": 4.0}})
    with pytest.raises(SAEError, match=r"dataset_average_activation_norm is \{'in': 4\.0\}"):
        read_sae(tmp_path)


def test_qwens_k_stands_in_the_name_or_in_a_config(tmp_path: Path) -> None:
    tensors = {"W_enc": ENC, "W_dec": DEC.T, "b_enc": B_ENC, "b_dec": B_DEC}
    put(tmp_path, "layer3.sae.pt", tensors)
    with pytest.raises(SAEError, match=r"how many features are active.*cfg\.json"):
        read_sae(tmp_path)
    put(tmp_path, "layer3.sae.pt", tensors, cfg_json={"k": 4})
    assert read_sae(tmp_path).k == 4


class Shout:
    """What a pickle may do to whoever opens it."""

    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("shouted"), "x"))


def test_nothing_in_a_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"W_enc": ENC.T, "extra": Shout()}, tmp_path / "sae.pt")
    with pytest.raises(SAEError, match="which is not run"):
        load_sae(str(tmp_path), hookpoint=6, device="cpu")
    assert not (tmp_path / "shouted").exists()
    np.savez(tmp_path / "params.npz", W_enc=np.array([Shout()], dtype=object))
    (tmp_path / "sae.pt").unlink()
    with pytest.raises(SAEError, match="not a readable"):
        load_sae(str(tmp_path), hookpoint=6, device="cpu")
    assert not (tmp_path / "shouted").exists()


@pytest.mark.parametrize(("name", "file"), [
    ("gemma scope", "params.npz"), ("dictionary ReLU", "ae.pt"), ("openai", "autoencoder.pt"),
    ("gemma scope 2", "params.safetensors")])
def test_a_cut_file_is_an_error(name: str, file: str, tmp_path: Path) -> None:
    CASES[name].write(tmp_path)
    (path,) = tmp_path.rglob(file)
    whole = path.read_bytes()
    for length in (0, 9, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(SAEError, match=path.name.replace(".", r"\.")):
            read_sae(tmp_path)


def test_tensors_in_no_known_layout_are_listed_with_their_shapes(tmp_path: Path) -> None:
    put(tmp_path, "sae.pt", {"lookup": ENC, "bias": B_DEC})
    with pytest.raises(SAEError, match=r"in no layout .*bias \(6,\), lookup \(20, 6\)"):
        read_sae(tmp_path, hookpoint=6)


def test_a_file_that_names_no_layer_asks_for_it(tmp_path: Path) -> None:
    put(tmp_path, "sae.pth", {"encoder_linear.weight": ENC, "encoder_linear.bias": B_ENC,
                              "decoder_linear.weight": DEC.T, "decoder_linear.bias": B_DEC})
    with pytest.raises(HookpointError, match="hookpoint=6"):
        read_sae(tmp_path)
    assert read_sae(tmp_path, hookpoint="layers.9").hookpoint.layer == 9


# ---- on the Hub ------------------------------------------------------------------------------

def test_a_repository_of_many_is_listed_before_anything_is_fetched(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    files = ["README.md", "layer_6/width_16k/average_l0_82/params.npz",
             "layer_7/width_16k/average_l0_80/params.npz"]
    fetched: list[Any] = []

    def fetch(name: str, revision: Any = None, allow_patterns: Any = None) -> str:
        fetched.append(allow_patterns)
        CASES["gemma scope"].write(tmp_path)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files",
                        lambda self, name, revision=None: files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(SAEError, match=r"holds 2 SAEs: layer_6/width_16k/average_l0_82, layer_7"):
        load_sae("google/gemma-scope-2b-pt-res", device="cpu")
    assert not fetched
    sae = load_sae("google/gemma-scope-2b-pt-res", "layer_6/width_16k/average_l0_82", device="cpu")
    assert sae.hookpoint.layer == 6
    (patterns,) = fetched
    wanted = [name for name in [*files, "layer_6/width_16k/average_l0_82/config.json", "x.json"]
              if any(fnmatch(name, pattern) for pattern in patterns)]
    assert wanted == [files[1], "layer_6/width_16k/average_l0_82/config.json"]


def test_of_a_repository_with_one_sae_no_more_is_fetched_than_it_needs() -> None:
    from sternpost.sae.files import named, wanted_files

    files = ["README.md", "cfg.json", "sae.safetensors", "model-00001.safetensors", "logs/x.json"]
    ((sae_id, file),) = named(map(PurePosixPath, files)).items()
    patterns = wanted_files(sae_id, file)
    assert [name for name in files if any(fnmatch(name, pattern) for pattern in patterns)] == [
        "cfg.json", "sae.safetensors"]


# ---- written by the libraries themselves (benchmarks/fixtures.py) --------------------------------

WRITTEN = sorted(file.parent for file in (Path(__file__).parent / "public").rglob("expected.*"))


@pytest.mark.parametrize("folder", WRITTEN, ids=lambda folder: folder.name)
def test_what_a_library_wrote_gives_what_that_library_computed(folder: Path) -> None:
    from safetensors.torch import load_file

    want = load_file(folder / "expected.safetensors")
    sae = load_sae(str(folder), device="cpu")
    assert torch.allclose(sae.encode(want["x"]).dense(), want["acts"], atol=1e-5)
    assert torch.allclose(sae.reconstruct(want["x"]), want["recon"], atol=1e-5)
    assert sae.hookpoint.layer == 6


def test_there_is_one_of_each_kind() -> None:
    assert len(WRITTEN) == 14
