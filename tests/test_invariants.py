"""HOUSE.md's rules 1 to 4 on tiny random models of real architectures, each edit and mode against
a five-line reference written from the formula."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sternpost import Ablate, Add, Ceiling, Clamp, Floor, Plan, Positions, Scale, steer
from sternpost.errors import EditError, HookpointError, PositionsError
from sternpost.sae import SAE
from sternpost.types import Hookpoint
from subjects import (
    D_SAE,
    LAYER,
    MODELS,
    VOCAB,
    D,
    close,
    llama,
    longrope,
    loses_its_prompt,
    make_sae,
    stream,
)


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


SAE_ = make_sae()
IDS = torch.randint(1, VOCAB, (3, 9), generator=torch.Generator().manual_seed(2))
DIRECTION = torch.randn(D, generator=torch.Generator().manual_seed(3))
EDITS: dict[str, Any] = {
    "clamp": Clamp(5, 4.0), "floor": Floor(6, 2.0), "ceiling": Ceiling(7, 0.5),
    "scale": Scale(8, 3.0), "ablate": Ablate(9), "add_feature": Add(10, 0.7),
    "add_direction": Add(DIRECTION, 0.4), "add_raw": Add(DIRECTION, 1.5, unit="raw")}


def naive(edit: Any, x: Tensor, sae: SAE, mode: str) -> Tensor:
    """The change of one token's stream x by one edit: five lines from the formula."""
    if isinstance(edit, Add):
        v = sae.W_dec[edit.feature_or_direction] if isinstance(edit.feature_or_direction, int) \
            else edit.feature_or_direction
        norm = sae.residual_norm if edit.unit == "residual_norm" else 1
        return edit.value * norm * v / v.norm()
    pre = sae.W_enc @ (x - sae.b_dec) + sae.b_enc
    f = edit.feature
    on = {"exact": lambda: bool(pre[f] >= pre.sort(descending=True).values[sae.k - 1]),
          "threshold": lambda: bool(pre[f] > sae.threshold[f]), "relu": lambda: True}[mode]()
    a = pre[f].clamp(min=0) if on else torch.tensor(0.0)
    new = {Clamp: lambda: edit.value, Floor: lambda: max(a, edit.value), Ablate: lambda: 0.0,
           Ceiling: lambda: min(a, edit.value), Scale: lambda: a * edit.factor}[type(edit)]()
    return (new - a) * sae.W_dec[f]


# ---- the formula ---------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["exact", "threshold", "relu"])
@pytest.mark.parametrize("name", sorted(EDITS))
def test_each_edit_and_mode_is_the_formula(model: Any, name: str, mode: str) -> None:
    _, h = stream(model, IDS)
    want = torch.stack([torch.stack([x + naive(EDITS[name], x, SAE_, mode) for x in row])
                        for row in h])
    with steer(model, SAE_, [EDITS[name]], mode=mode):
        _, got = stream(model, IDS)
    close(got, want)


def test_several_features_are_read_together_from_the_unedited_stream(model: Any) -> None:
    edits = list(EDITS.values())
    _, h = stream(model, IDS)
    want = torch.stack([torch.stack([x + sum(naive(e, x, SAE_, "exact") for e in edits)
                                     for x in row]) for row in h])
    with steer(model, SAE_, edits) as run:
        _, got = stream(model, IDS)
    close(got, want)
    assert run.proof[0].features == (5, 6, 7, 8, 9, 10, None, None)


def test_drop_replaces_the_stream_by_the_edited_reconstruction(model: Any) -> None:
    _, h = stream(model, IDS)
    acts = SAE_.encode(h).dense()
    acts[..., 5] = 4.0
    want = acts @ SAE_.W_dec + SAE_.b_dec
    with steer(model, SAE_, [Clamp(5, 4.0)], error="drop"):
        _, got = stream(model, IDS)
    close(got, want)


@pytest.mark.parametrize("mode", ["exact", "threshold", "relu"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_each_edit_is_the_formula_rounded_once(dtype: Any, mode: str) -> None:
    torch.manual_seed(0)
    half = llama().eval().to(dtype)
    _, h = stream(half, IDS)
    for name, edit in EDITS.items():
        want = torch.stack([torch.stack([x + naive(edit, x, SAE_, mode) for x in row])
                            for row in h.float()])
        with steer(half, SAE_, [edit], mode=mode):
            _, got = stream(half, IDS)
        assert got.dtype == dtype
        off = (got.float() - want).abs() / want.abs().clamp(min=1e-3)
        assert float(off.max()) <= torch.finfo(dtype).eps, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_drop_is_the_edited_reconstruction_rounded_once(dtype: Any) -> None:
    torch.manual_seed(0)
    half = llama().eval().to(dtype)
    _, h = stream(half, IDS)
    acts = SAE_.encode(h.float()).dense()
    acts[..., 5] = 4.0
    want = acts @ SAE_.W_dec + SAE_.b_dec
    with steer(half, SAE_, [Clamp(5, 4.0)], error="drop"):
        _, got = stream(half, IDS)
    off = (got.float() - want).abs() / want.abs().clamp(min=1e-2)
    assert float(off.max()) <= torch.finfo(dtype).eps


def test_drop_without_edits_is_the_plain_splice(model: Any) -> None:
    _, h = stream(model, IDS)
    with steer(model, SAE_, [], error="drop") as run:
        _, got = stream(model, IDS)
    close(got, SAE_.decode(SAE_.encode(h)))
    assert run.proof[0].positions == tuple(range(IDS.shape[1]))


def test_threshold_kind_in_exact_mode_uses_its_thresholds(model: Any) -> None:
    sae = make_sae(kind="jumprelu", k=None)
    _, h = stream(model, IDS)
    want = torch.stack([torch.stack([x + naive(Scale(5, 2.0), x, sae, "threshold") for x in row])
                        for row in h])
    with steer(model, sae, [Scale(5, 2.0)], mode="exact"):
        _, got = stream(model, IDS)
    close(got, want)


def test_hidden_states_that_transformers_records_are_the_steered_ones(model: Any) -> None:
    """Its recorder, once installed, stays; steering has to come before it."""
    model(input_ids=IDS, output_hidden_states=True)
    with steer(model, SAE_, [Clamp(5, 4.0)]):
        _, want = stream(model, IDS)
        got = model(input_ids=IDS, output_hidden_states=True).hidden_states[LAYER + 1]
    assert torch.equal(got, want)


def test_proof_tells_activations_before_and_after(model: Any) -> None:
    _, h = stream(model, IDS)
    acts = SAE_.encode(h).dense()[..., 5]
    with steer(model, SAE_, [Clamp(5, 4.0)], positions="last(3)") as run:
        stream(model, IDS)
    for row, proof in enumerate(run.proof):
        assert proof.hookpoint == Hookpoint(LAYER)
        assert proof.positions == (6, 7, 8)
        assert proof.before[0] == pytest.approx(float(acts[row, 6:].mean()), abs=1e-5)
        assert proof.after == (pytest.approx(4.0),)


# ---- rule 1: off is off --------------------------------------------------------------------------

def test_no_edits_is_bit_identical(model: Any) -> None:
    plain, _ = stream(model, IDS)
    with steer(model, SAE_, []):
        off, _ = stream(model, IDS)
    assert torch.equal(plain, off)


def test_a_row_without_edits_is_bit_identical_beside_steered_ones(model: Any) -> None:
    plain, _ = stream(model, IDS)
    with steer(model, SAE_, [[Clamp(5, 4.0)], [], [Ablate(9), Add(3, 0.5)]]) as run:
        mixed, _ = stream(model, IDS)
    assert torch.equal(plain[1], mixed[1])
    assert not torch.equal(plain[0], mixed[0])
    assert [proof.features for proof in run.proof] == [(5,), (), (9, 3)]


def test_positions_not_named_keep_their_bits(model: Any) -> None:
    plain, h = stream(model, IDS)
    with steer(model, SAE_, [Clamp(5, 4.0)], positions="last(2)"):
        logits, got = stream(model, IDS)
    assert torch.equal(got[:, :-2], h[:, :-2])
    assert torch.equal(logits[:, :-2], plain[:, :-2])
    assert not torch.equal(got[:, -1], h[:, -1])


# ---- rule 2: per row, whatever the batch, padding or cache ---------------------------------------

def padded(rows: list[Tensor], left: bool) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width,
                                                                             dtype=torch.long)
    for n, row in enumerate(rows):
        where = slice(width - len(row), None) if left else slice(0, len(row))
        ids[n, where], mask[n, where] = row, 1
    return ids, mask


ROWS = [IDS[0], IDS[1][:5], IDS[2][:7]]
ROW_EDITS = [[Clamp(5, 4.0)], [Floor(6, 2.0), Add(10, 0.5)], []]
POSITIONS = ["all", "last(3)", Positions("prompt", prompt_length=(6, 3, 5)),
             Positions("response", prompt_length=4), Positions("last(1)+response", 4)]


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("positions", POSITIONS, ids=str)
def test_a_padded_batch_gives_what_lone_rows_give(model: Any, left: bool, positions: Any) -> None:
    ids, mask = padded(ROWS, left)
    lengths = getattr(positions, "prompt_length", None)
    _, plain = stream(model, ids, mask)
    with steer(model, SAE_, ROW_EDITS, positions=positions) as run:
        _, batch = stream(model, ids, mask)
    for n, row in enumerate(ROWS):
        at = positions if not isinstance(lengths, tuple) else \
            Positions(positions.names, prompt_length=lengths[n])
        _, alone_plain = stream(model, row[None])
        with steer(model, SAE_, ROW_EDITS[n], positions=at) as lone:
            _, alone = stream(model, row[None])
        real = mask[n].bool()
        scale = float(alone.abs().max())
        noise = float((plain[n][real] - alone_plain[0]).abs().max()) / scale
        close(batch[n][real], alone[0], max(1e-5, 2 * noise))
        assert run.proof[n].positions == lone.proof[0].positions
        assert run.proof[n].before == pytest.approx(lone.proof[0].before, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("positions", ["all", "prompt", "response", "last(2)", "last(1)+response"])
def test_cached_generate_steers_what_an_uncached_forward_steers(model: Any,
                                                                positions: str) -> None:
    """Logits of every step of a batched, left-padded generate against one plain forward a row."""
    check_generate(model, positions, ROWS, new=6)


def check_generate(model: Any, positions: str, rows: list[Tensor], new: int,
                   **options: Any) -> None:
    ids, mask = padded(rows, left=True)
    with steer(model, SAE_, [Clamp(5, 4.0), Add(10, 0.5)], positions=positions) as run:
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=new,
                             do_sample=False, return_dict_in_generate=True, output_logits=True,
                             **options)
    logits = torch.stack(out.logits, 1)
    for n, row in enumerate(rows):
        whole = torch.cat([row, out.sequences[n, ids.shape[1]:]])[:-1]
        named = positions if positions == "all" else Positions(positions, prompt_length=len(row))
        if positions == "last(2)":  # of the prompt in generate, of the row in a plain forward
            named = torch.zeros(1, len(whole), dtype=torch.bool)
            named[0, len(row) - 2:len(row)] = True
        if positions == "last(1)+response":
            named = torch.zeros(1, len(whole), dtype=torch.bool)
            named[0, len(row) - 1:] = True
        with steer(model, SAE_, [Clamp(5, 4.0), Add(10, 0.5)], positions=named) as lone:
            want, _ = stream(model, whole[None])
        close(logits[n], want[0, len(row) - 1:], 1e-4)
        assert run.proof[n].positions == lone.proof[0].positions
    assert len(run.calls) == 1


@pytest.mark.parametrize("positions", ["all", "prompt", "response", "last(1)+response"])
def test_a_phi3_that_reads_its_prompt_again_is_steered_where_it_should(positions: str) -> None:
    """transformers drops Phi-3's cache when its rope switches: more than one token is then not
    the prompt. A lone forward of the whole uses the long factors throughout, as the model does
    after the switch, so the last step's logits are compared."""
    torch.manual_seed(0)
    model = longrope().eval()
    options: dict[str, Any] = {"input_ids": IDS[:1], "attention_mask": torch.ones(1, 9).long(),
                               "max_new_tokens": 12, "do_sample": False, "output_logits": True,
                               "return_dict_in_generate": True}
    if loses_its_prompt(model, IDS[:1], 12):
        pytest.skip("this transformers loses Phi-3's prompt by itself when it drops the cache")
    with steer(model, SAE_, [Clamp(5, 4.0)], positions=positions) as run:
        out = model.generate(**options)
    whole = out.sequences[0][:-1]
    named: Any = positions if positions == "all" else Positions(positions, prompt_length=9)
    if positions == "last(1)+response":
        named = torch.zeros(1, len(whole), dtype=torch.bool)
        named[0, 8:] = True
    with steer(model, SAE_, [Clamp(5, 4.0)], positions=named) as lone:
        want, _ = stream(model, whole[None])
    close(out.logits[-1][0], want[0, -1], 1e-4)
    assert run.proof[0].positions == lone.proof[0].positions
    assert run.proof[0].before == pytest.approx(lone.proof[0].before, rel=1e-3)


def test_chunked_prefill_is_steered_like_a_whole_one() -> None:
    torch.manual_seed(0)
    model = llama().eval()
    ids, mask = padded(ROWS, left=True)
    outs = []
    for chunk in (None, 4):
        with steer(model, SAE_, [Clamp(5, 4.0)], positions="prompt") as run:
            out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5,
                                 do_sample=False, output_logits=True,
                                 return_dict_in_generate=True, prefill_chunk_size=chunk)
        outs.append((torch.stack(out.logits, 1), [p.positions for p in run.proof]))
    close(outs[1][0], outs[0][0])
    assert outs[0][1] == outs[1][1] == [tuple(range(9)), tuple(range(5)), tuple(range(7))]


def test_a_row_that_ended_early_is_not_steered_on_its_padding(model: Any) -> None:
    ids, mask = padded(ROWS, left=True)
    with steer(model, SAE_, [Clamp(5, 4.0)], positions="response") as run:
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8,
                             do_sample=False)
    stop = int(out[0, ids.shape[1] + 2])  # make row 0's third token the end
    assert len(run.proof[0].positions) == 7
    with steer(model, SAE_, [Clamp(5, 4.0)], positions="response") as run:
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8,
                             do_sample=False, eos_token_id=stop)
    for n, row in enumerate(ROWS):
        with steer(model, SAE_, [Clamp(5, 4.0)], positions="response") as lone:
            model.generate(input_ids=row[None], attention_mask=torch.ones(1, len(row)).long(),
                           max_new_tokens=8, do_sample=False, eos_token_id=stop)
        assert run.proof[n].positions == lone.proof[0].positions


def test_beams_and_several_sequences_keep_each_rows_edits(model: Any) -> None:
    ids, mask = padded(ROWS, left=True)
    options: dict[str, Any] = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False}
    with steer(model, SAE_, ROW_EDITS) as run:
        together = model.generate(input_ids=ids, attention_mask=mask, **options)
    assert len(run.proof) == 3
    for n, row in enumerate(ROWS):
        with steer(model, SAE_, ROW_EDITS[n]):
            alone = model.generate(input_ids=row[None],
                                   attention_mask=torch.ones(1, len(row)).long(), **options)
        assert together[n, ids.shape[1]:].tolist() == alone[0, len(row):].tolist()


def test_half_precision_is_steered_to_its_own_precision() -> None:
    torch.manual_seed(0)
    model = llama().eval().to(torch.bfloat16)
    _, h = stream(model, IDS)
    want = torch.stack([torch.stack([x + naive(Clamp(5, 4.0), x, SAE_, "exact") for x in row])
                        for row in h.float()])
    with steer(model, SAE_, [Clamp(5, 4.0)]):
        _, got = stream(model, IDS)
    assert got.dtype == torch.bfloat16
    close(got.float(), want, 2e-2)


# ---- rule 3: positions are absolute and named ----------------------------------------------------

def test_a_bool_mask_names_tokens_of_a_plain_forward(model: Any) -> None:
    mask = torch.rand(IDS.shape, generator=torch.Generator().manual_seed(4)) < 0.5
    _, h = stream(model, IDS)
    with steer(model, SAE_, [Clamp(5, 4.0)], positions=mask) as run:
        _, got = stream(model, IDS)
    assert torch.equal((got != h).any(-1), mask)
    assert run.proof[0].positions == tuple(mask[0].nonzero().flatten().tolist())


def test_a_manual_decoding_loop_keeps_absolute_positions(model: Any) -> None:
    at = Positions("response", prompt_length=6)
    _, h = stream(model, IDS)
    with steer(model, SAE_, [Clamp(5, 4.0)], positions=at):
        _, whole = stream(model, IDS)
    with steer(model, SAE_, [Clamp(5, 4.0)], positions=at) as run, torch.no_grad():
        first = model(input_ids=IDS[:, :6], use_cache=True)
        _, second = stream(model, IDS[:, 6:], past_key_values=first.past_key_values)
    close(second, whole[:, 6:])
    assert [proof.positions for proof in (run.calls[0][0], run.calls[1][0])] == [(), (6, 7, 8)]
    assert not torch.equal(whole[:, 6:], h[:, 6:])


@pytest.mark.parametrize("name", ["prompt", "response", "t_inst", "tail"])
def test_a_plain_forward_asks_where_the_prompt_ends(model: Any, name: str) -> None:
    with pytest.raises(PositionsError, match=r"prompt_length|tokenizer"), \
            steer(model, SAE_, [Clamp(5, 4.0)], positions=name):
        stream(model, IDS)


@pytest.mark.parametrize("bad", ["sometimes", "last(0)", "all+", "last", "response++all"])
def test_unknown_positions_are_refused(model: Any, bad: str) -> None:
    with pytest.raises(PositionsError, match="Known"):
        steer(model, SAE_, [], positions=bad)


# ---- rule 4: nothing stays behind ----------------------------------------------------------------

def hooks(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_and_wrapper_are_gone_after_an_exception(model: Any) -> None:
    before, weights = hooks(model), {k: v.clone() for k, v in model.state_dict().items()}
    plain, _ = stream(model, IDS)
    with pytest.raises(KeyError), steer(model, SAE_, [Clamp(5, 4.0)]):
        assert hooks(model) == before + 3
        model.generate(input_ids=IDS, max_new_tokens=2, do_sample=False)
        raise KeyError
    assert hooks(model) == before
    assert "generate" not in vars(model)
    after, _ = stream(model, IDS)
    assert torch.equal(plain, after)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_an_error_inside_generate_leaves_the_context_usable(model: Any) -> None:
    with steer(model, SAE_, [[Clamp(5, 4.0)]]) as run:
        with pytest.raises(EditError, match="3 rows"):
            model.generate(input_ids=IDS, max_new_tokens=2, do_sample=False)
        model.generate(input_ids=IDS[:1], max_new_tokens=2, do_sample=False)
        assert len(run.calls) == 1


def test_two_models_and_nested_contexts_share_no_state() -> None:
    torch.manual_seed(0)
    one, two = llama().eval(), llama().eval()
    plain, _ = stream(two, IDS)
    with steer(one, SAE_, [Clamp(5, 4.0)]) as first:
        same, _ = stream(two, IDS)
        with steer(two, SAE_, [Ablate(3)]) as second:
            stream(one, IDS)
            stream(two, IDS)
        stream(one, IDS)
    assert torch.equal(plain, same)
    assert (len(first.calls), len(second.calls)) == (2, 1)
    other = make_sae(hookpoint=Hookpoint(2))
    _, h = stream(one, IDS, layer=2)
    with steer(one, SAE_, [Clamp(5, 4.0)]), steer(one, other, [Add(7, 0.5)]):
        _, both = stream(one, IDS, layer=2)
        one.generate(input_ids=IDS, max_new_tokens=2, do_sample=False)
    with steer(one, SAE_, [Clamp(5, 4.0)]):
        _, lower = stream(one, IDS, layer=2)
    close(both, lower + naive(Add(7, 0.5), h[0, 0], other, "exact"))
    assert "generate" not in vars(one)


def test_a_steered_model_can_be_collected() -> None:
    import weakref
    model = llama().eval()
    with steer(model, SAE_, [Clamp(5, 4.0)]):
        stream(model, IDS)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


# ---- what is refused -----------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], type[Exception], str]] = {
    "feature out of range": (lambda: {"edits": [Clamp(D_SAE, 1.0)]}, EditError, "0 to 95"),
    "negative feature": (lambda: {"edits": [Clamp(-1, 1.0)]}, EditError, "0 to 95"),
    "NaN": (lambda: {"edits": [Clamp(1, float("nan"))]}, EditError, "finite"),
    "infinite": (lambda: {"edits": [Scale(1, float("inf"))]}, EditError, "finite"),
    "not a number": (lambda: {"edits": [Clamp(1, "8")]}, EditError, "finite"),
    "not an edit": (lambda: {"edits": [(5, 8.0)]}, EditError, "no edit|mixture"),
    "a word": (lambda: {"edits": ["clamp"]}, EditError, "no edit"),
    "mixture": (lambda: {"edits": [[Clamp(1, 1.0)], Clamp(1, 1.0)]}, EditError, "mixture"),
    "mode": (lambda: {"edits": [], "mode": "soft"}, EditError, "exact"),
    "error": (lambda: {"edits": [], "error": "lose"}, EditError, "keep"),
    "drop needs exact": (lambda: {"edits": [], "error": "drop", "mode": "relu"}, EditError,
                         "exact"),
    "direction shape": (lambda: {"edits": [Add(torch.ones(3), 1.0)]}, EditError, "shape"),
    "zero direction": (lambda: {"edits": [Add(torch.zeros(D), 1.0)]}, EditError, "zero"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_done_is_refused_by_name(model: Any, name: str) -> None:
    options, kind, says = REFUSED[name]
    with pytest.raises(kind, match=says):
        steer(model, SAE_, **options())


def test_thresholds_norms_width_and_layer_are_asked_for(model: Any) -> None:
    with pytest.raises(EditError, match="threshold"):
        steer(model, make_sae(threshold=None), [Clamp(1, 1.0)], mode="threshold")
    with pytest.raises(EditError, match="unit"):
        steer(model, make_sae(residual_norm=None), [Add(1, 1.0)])
    with pytest.raises(HookpointError, match="0 to 3"):
        steer(model, make_sae(hookpoint=Hookpoint(4)), [])
    narrow = SAE(torch.ones(8, 4), torch.ones(8, 4), torch.ones(8), torch.ones(4), Hookpoint(0),
                 k=1)
    with pytest.raises(HookpointError, match="d_model"):
        steer(model, narrow, [])


def test_edits_beside_a_plan_are_refused(model: Any) -> None:
    plan = Plan(SAE_, (Clamp(5, 4.0),), positions="last(1)")
    for extra in ({"edits": [Ablate(1)]}, {"mode": "exact"}, {"positions": "all"},
                  {"error": "keep"}):
        with pytest.raises(EditError, match="plan"):
            steer(model, plan, **extra)
    _, h = stream(model, IDS)
    with steer(model, plan):
        _, got = stream(model, IDS)
    assert torch.equal(got[:, :-1], h[:, :-1])
    assert not torch.equal(got[:, -1], h[:, -1])


def test_assisted_generation_and_guidance_are_refused(model: Any) -> None:
    with steer(model, SAE_, [Clamp(5, 4.0)]):
        with pytest.raises(EditError, match="prompt-lookup"):
            model.generate(input_ids=IDS[:1], max_new_tokens=2, prompt_lookup_num_tokens=2)
        with pytest.raises(EditError, match="guidance"):
            model.generate(input_ids=IDS[:1], max_new_tokens=2, guidance_scale=1.5)
