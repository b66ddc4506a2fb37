"""SAEBench's duck type: its attributes and shapes, unit rows, and the same reconstruction."""

from dataclasses import replace

import pytest
import torch

from sternpost.errors import SAEError


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_it_reconstructs_as_the_sae_does_with_unit_rows(kind, make_sae, x):
    sae = make_sae(kind)
    theirs = sae.as_saebench("some/model", training_tokens=5)
    assert not torch.allclose(sae.W_dec.norm(dim=1), torch.ones(20))
    assert theirs.check_decoder_norms()
    assert torch.allclose(theirs(x), sae.reconstruct(x), atol=1e-5)
    assert torch.allclose(theirs.decode(theirs.encode(x)), theirs(x))
    assert torch.equal(theirs.encode(x) > 0, sae.encode(x).dense() > 0)
    assert (theirs.W_enc.shape, theirs.W_dec.shape) == ((6, 20), (20, 6))
    assert (theirs.cfg.d_in, theirs.cfg.d_sae, theirs.cfg.hook_layer) == (6, 20, 6)
    assert theirs.cfg.hook_name == "blocks.6.hook_resid_post"
    assert (theirs.cfg.training_tokens, theirs.cfg.architecture) == (5, kind)


def test_moving_it_moves_all_of_it(make_sae, x):
    theirs = make_sae().as_saebench("some/model").to(dtype=torch.bfloat16)
    assert theirs.dtype == theirs.W_dec.dtype == theirs(x.bfloat16()).dtype == torch.bfloat16
    assert theirs.cfg.dtype == "bfloat16"
    assert theirs.check_decoder_norms()


def test_rows_that_are_not_unit_are_told(make_sae):
    theirs = make_sae().as_saebench("some/model")
    theirs.W_dec.data[3] *= 1.1
    assert not theirs.check_decoder_norms()


@pytest.mark.parametrize("fields", [{"per_token": "layer_norm"}, {"centred": True}])
def test_an_sae_that_needs_the_token_to_decode_is_refused(fields, make_sae):
    with pytest.raises(SAEError, match="without their tokens"):
        replace(make_sae(), **fields).as_saebench("some/model")
