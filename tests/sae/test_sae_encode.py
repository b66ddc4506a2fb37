"""The contract of encode and decode, and the two sparsifiers against naive loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sternpost.errors import SAEError
from sternpost.sae import FeatureActs
from sternpost.sae.jumprelu import sparsify as jumprelu
from sternpost.sae.topk import sparsify as topk

FEW = settings(max_examples=40, deadline=None)


def limit(sae):
    return sae.k if sae.kind == "topk" else sae.threshold


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_encode_is_the_formula(kind, make_sae, x, oracle):
    sae = make_sae(kind)
    pre = torch.einsum("...d,fd->...f", x - sae.b_dec, sae.W_enc) + sae.b_enc
    assert torch.allclose(sae.encode(x).dense(), oracle[kind](pre, limit(sae)), atol=1e-5)


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_b_dec_stays_in_the_input_where_the_sae_does_not_subtract_it(kind, make_sae, x, oracle):
    sae = make_sae(kind, subtract_b_dec=False)
    pre = torch.einsum("...d,fd->...f", x, sae.W_enc) + sae.b_enc
    assert torch.allclose(sae.encode(x).dense(), oracle[kind](pre, limit(sae)), atol=1e-5)


def test_a_centred_sae_reads_the_stream_without_its_mean(make_sae, x):
    shifted = x + torch.arange(9.0)[:, None]
    centred = make_sae(centred=True)
    want = make_sae().encode(x - x.mean(-1, keepdim=True)).dense()
    assert torch.allclose(centred.encode(shifted).dense(), want, atol=1e-4)
    assert not torch.allclose(make_sae().encode(shifted).dense(), want, atol=1e-1)


@FEW
@given(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=4),
       st.integers(1, 5))
def test_topk_keeps_the_k_largest_also_among_ties(rows, k):
    pre = torch.tensor(rows, dtype=torch.float32)
    values, indices = topk(pre, k)
    for row, kept, ids in zip(pre.tolist(), values.tolist(), indices.tolist(), strict=True):
        assert sorted(kept) == sorted(max(v, 0.0) for v in sorted(row)[-k:])
        assert len(set(ids)) == k
        assert kept == [max(row[i], 0.0) for i in ids]


@FEW
@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=4),
       st.lists(st.integers(-1, 2), min_size=4, max_size=4))
def test_jumprelu_needs_more_than_the_threshold(rows, thresholds):
    pre, threshold = torch.tensor(rows).float(), torch.tensor(thresholds).float()
    values, indices = jumprelu(pre, threshold)
    dense = torch.zeros_like(pre).scatter_add(-1, indices, values)
    want = [[float(v) if v > t and v > 0 else 0.0 for v, t in zip(row, thresholds, strict=True)]
            for row in rows]
    assert dense.tolist() == want
    assert values.shape[-1] == max(1, *(sum(v > 0 for v in row) for row in want))


def test_topk_has_k_slots_and_the_unused_hold_zero_and_a_valid_id(make_sae, x):
    sae = make_sae(k=15)
    acts = sae.encode(x)
    assert acts.values.shape == acts.indices.shape == (2, 9, 15)
    assert (acts.values == 0).any()
    assert (acts.values >= 0).all()
    assert ((acts.indices >= 0) & (acts.indices < sae.d_sae)).all()
    assert (acts.indices.sort(-1).values.diff(dim=-1) > 0).all()  # no id twice in a row


def test_a_threshold_kind_has_as_many_slots_as_its_fullest_row(make_sae, x):
    sae = make_sae("jumprelu")
    acts = sae.encode(x)
    counts = (acts.dense() > 0).sum(-1)
    assert counts.min() < counts.max() == acts.values.shape[-1]
    assert ((acts.indices >= 0) & (acts.indices < sae.d_sae)).all()
    one = sae.encode(x[0, 0])
    assert one.values.shape == (max(1, int(counts[0, 0])),)


def test_where_nothing_is_active_one_slot_is_left(make_sae, x):
    acts = make_sae("jumprelu", threshold=torch.full((20,), 1e9)).encode(x)
    assert acts.values.shape == (2, 9, 1)
    assert not acts.values.any()
    assert not acts.dense().any()


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3), (0,), (2, 0)])
def test_leading_dims_are_kept(kind, shape, make_sae):
    sae = make_sae(kind)
    x = torch.randn(*shape, sae.d_model)
    acts = sae.encode(x)
    assert acts.values.shape[:-1] == acts.indices.shape[:-1] == shape
    assert acts.dense().shape == (*shape, sae.d_sae)
    assert sae.decode(acts).shape == x.shape


def test_a_row_does_not_depend_on_its_neighbours(make_sae, x):
    for kind in ("topk", "jumprelu"):
        sae = make_sae(kind)
        assert torch.allclose(sae.encode(x).dense()[1, 3], sae.encode(x[1, 3]).dense(), atol=1e-6)


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_decode_is_the_sum_of_rows(kind, make_sae, x):
    sae = make_sae(kind)
    acts = sae.encode(x)
    want = sae.b_dec + sum(acts.dense()[..., f, None] * sae.W_dec[f] for f in range(sae.d_sae))
    assert torch.allclose(sae.decode(acts), want, atol=1e-5)


def test_decode_takes_the_pair_or_its_two_parts(make_sae, x):
    sae = make_sae()
    acts = sae.encode(x)
    values, indices = acts
    assert isinstance(acts, FeatureActs)
    assert values is acts.values
    assert indices is acts.indices
    assert torch.equal(sae.decode(acts), sae.decode(values, indices))


def test_an_id_that_fills_two_slots_counts_twice(make_sae):
    sae = make_sae()
    acts = FeatureActs(torch.tensor([[1.0, 2.0]]), torch.tensor([[4, 4]]), sae.d_sae)
    assert acts.dense()[0, 4] == 3
    assert torch.allclose(sae.decode(acts)[0], sae.b_dec + 3 * sae.W_dec[4], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_weights_say_the_type(dtype, make_sae, x):
    sae = make_sae("jumprelu").to(dtype=dtype)
    assert sae.dtype == sae.threshold.dtype == dtype
    acts = sae.encode(x)
    assert acts.values.dtype == sae.decode(acts).dtype == dtype
    assert acts.indices.dtype == torch.long
    assert sae.encode(x.to(torch.bfloat16)).values.dtype == dtype


def test_pre_of_some_features_is_those_columns(make_sae, x):
    sae = make_sae(centred=True)
    some = torch.tensor([7, 0, 7])
    assert torch.allclose(sae.pre(x, some), sae.pre(x)[..., some], atol=1e-6)


@pytest.mark.parametrize(("fields", "says"), [
    ({"W_dec": torch.zeros(20, 5)}, r"W_dec has shape \(20, 5\)"),
    ({"W_dec": torch.zeros(6, 20)}, r"asks for \(20, 6\)"),
    ({"b_enc": torch.zeros(6)}, "b_enc"),
    ({"b_dec": torch.zeros(20)}, "b_dec"),
    ({"threshold": torch.zeros(1)}, "threshold"),
    ({"k": 0}, "k = 0"), ({"k": 21}, "k = 21"), ({"k": None}, "k = None"), ({"k": "3"}, "k = '3'"),
    ({"kind": "jumprelu", "threshold": None}, "thresholds"),
    ({"W_enc": torch.zeros(20)}, r"W_enc has shape \(20,\)"),
])
def test_weights_that_do_not_belong_together_are_refused(fields, says, make_sae, unchecked):
    with pytest.raises(SAEError, match=says):
        make_sae(**fields)
