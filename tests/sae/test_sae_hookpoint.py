"""Which block an SAE reads: the argument, else the file, else the nearest name on its path."""

import pytest

from sternpost.errors import HookpointError
from sternpost.sae import read_sae

KEYS = [{"hookpoint": "layers.1"}, {"hook_name": "blocks.2.hook_resid_post"},
        {"metadata": {"hook_name": "blocks.3.hook_resid_post"}},
        {"hook_point_in": "blocks.4.hook_resid_post"}, {"trainer": {"layer": 5}}]


def layer_of(folder, **kwargs):
    return read_sae(folder, **kwargs).hookpoint.layer


def test_the_argument_wins_over_the_file_and_the_path(tmp_path, sparsify_folder):
    folder = tmp_path / "layers.3"
    sparsify_folder(folder, hookpoint="layers.1")
    assert layer_of(folder, hookpoint=9) == 9
    assert layer_of(folder, hookpoint="blocks.9.hook_resid_pre") == 8
    assert layer_of(folder, hookpoint=0) == 0
    assert layer_of(folder) == 1


@pytest.mark.parametrize("first", range(len(KEYS)))
def test_file_keys_come_in_order_and_before_the_path(first, tmp_path, sparsify_folder):
    keys = {}
    for said in reversed(KEYS[first:]):
        keys |= said
    sparsify_folder(tmp_path / "layers.12", **keys)
    assert layer_of(tmp_path / "layers.12") == first + 1


@pytest.mark.parametrize(("path", "layer"), [
    ("layers.3", 3), ("model.layers.3", 3), ("h.3", 3), ("transformer.h.3", 3), ("blocks.3", 3),
    ("decoder.layers.3", 3), ("gpt_neox.layers.3", 3), ("layer_3", 3), ("layer3", 3),
    ("layers.3/seed7", 3), ("layer_20/width_16k/average_l0_71", 20), ("layers.9/run/h.4", 4),
    ("layer_20/2", 20), ("layers.9/trainer_3", 9), ("layers.12/layers", 12),
    ("blocks.3.hook_resid_post", 3), ("blocks.3.hook_resid_pre", 2),
])
def test_the_nearest_name_on_the_path(path, layer, tmp_path, sparsify_folder):
    sparsify_folder(tmp_path / path)
    assert layer_of(tmp_path / path) == layer


def test_the_path_counts_also_from_inside_the_folder(tmp_path, monkeypatch, sparsify_folder):
    sparsify_folder(tmp_path / "layers.7" / "seed1")
    monkeypatch.chdir(tmp_path / "layers.7" / "seed1")
    from pathlib import Path
    assert layer_of(Path()) == 7


def test_saelens_says_it_in_its_metadata(tmp_path, saelens_folder):
    saelens_folder(tmp_path, metadata={"hook_name": "blocks.6.hook_resid_pre"})
    assert layer_of(tmp_path) == 5


@pytest.mark.parametrize("name", ["layers.2.mlp", "blocks.2.attn.hook_z", "blocks.2.hook_mlp_out",
                                  "blocks.2.hook_resid_mid", "model.layers.2.self_attn.o_proj"])
@pytest.mark.parametrize("where", ["file", "path", "argument"])
def test_another_place_than_the_residual_stream_is_refused(name, where, tmp_path, sparsify_folder):
    folder = tmp_path / (name if where == "path" else "layers.3")
    sparsify_folder(folder, **({"hook_name": name} if where == "file" else {}))
    with pytest.raises(HookpointError, match="another place"):
        read_sae(folder, hookpoint=name if where == "argument" else None)


@pytest.mark.parametrize("where", ["file", "path", "argument"])
def test_the_embedding_is_refused(where, tmp_path, sparsify_folder):
    name = "blocks.0.hook_resid_pre"
    folder = tmp_path / (name if where == "path" else "layers.3")
    sparsify_folder(folder, **({"hook_name": name} if where == "file" else {}))
    with pytest.raises(HookpointError, match="embedding"):
        read_sae(folder, hookpoint=name if where == "argument" else None)


def test_a_key_that_names_nothing_is_an_error_and_not_skipped(tmp_path, sparsify_folder):
    sparsify_folder(tmp_path / "layers.3", hook_name="somewhere")
    with pytest.raises(HookpointError, match="'somewhere'"):
        read_sae(tmp_path / "layers.3")


@pytest.mark.parametrize("path", ["seed3", "width_16k/average_l0_71", "7", "layers"])
def test_nothing_found_names_the_argument(path, tmp_path, sparsify_folder):
    sparsify_folder(tmp_path / path)
    with pytest.raises(HookpointError, match=r"hookpoint=6.*cfg\.json"):
        read_sae(tmp_path / path)
    assert layer_of(tmp_path / path, hookpoint=6) == 6
