"""SAE objects of other libraries, by their documented attributes, against their formulas."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sternpost.errors import HookpointError, SAEError
from sternpost.sae import adopt
from sternpost.trials.load import load_sae

D, M = 6, 20


def draw(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return module


class AutoEncoderTopK(nn.Module):
    """dictionary_learning: Linear layers, b_dec, buffers k and threshold (-1: not set)."""

    def __init__(self, k: int = 3, threshold: float = -1.0) -> None:
        super().__init__()
        self.register_buffer("k", torch.tensor(k, dtype=torch.int))
        self.register_buffer("threshold", torch.tensor(threshold))
        self.encoder, self.decoder = nn.Linear(D, M), nn.Linear(M, D, bias=False)
        self.b_dec = nn.Parameter(torch.zeros(D))

    def encode(self, x):
        acts = self.encoder(x - self.b_dec).relu()
        kept = acts.topk(int(self.k), dim=-1)
        return torch.zeros_like(acts).scatter(-1, kept.indices, kept.values)

    def decode(self, acts):
        return self.decoder(acts) + self.b_dec


class BatchTopKSAE(AutoEncoderTopK):
    """At inference one threshold for all features."""

    def encode(self, x):
        acts = self.encoder(x - self.b_dec).relu()
        return acts * (acts > self.threshold)


class JumpReluAutoEncoder(nn.Module):
    """x @ W_enc, a threshold per feature, b_dec off the input only where it says so."""

    def __init__(self, subtract: bool = False) -> None:
        super().__init__()
        self.W_enc, self.W_dec = nn.Parameter(torch.zeros(D, M)), nn.Parameter(torch.zeros(M, D))
        self.b_enc, self.b_dec = nn.Parameter(torch.zeros(M)), nn.Parameter(torch.zeros(D))
        self.threshold = nn.Parameter(torch.zeros(M))
        self.apply_b_dec_to_input = subtract

    def encode(self, x):
        if self.apply_b_dec_to_input:
            x = x - self.b_dec
        pre = x @ self.W_enc + self.b_enc
        return (pre * (pre > self.threshold)).relu()

    def decode(self, acts):
        return acts @ self.W_dec + self.b_dec


class MatryoshkaBatchTopKSAE(nn.Module):
    """x @ W_enc, one threshold for all, b_dec off the input; buffers k and group_sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.W_enc, self.W_dec = nn.Parameter(torch.zeros(D, M)), nn.Parameter(torch.zeros(M, D))
        self.b_enc, self.b_dec = nn.Parameter(torch.zeros(M)), nn.Parameter(torch.zeros(D))
        self.register_buffer("k", torch.tensor(3, dtype=torch.int))
        self.register_buffer("threshold", torch.tensor(0.4))
        self.register_buffer("group_sizes", torch.tensor([8, 12]))

    def encode(self, x):
        acts = ((x - self.b_dec) @ self.W_enc + self.b_enc).relu()
        return acts * (acts > self.threshold)

    def decode(self, acts):
        return acts @ self.W_dec + self.b_dec


class AutoEncoder(nn.Module):
    """dictionary_learning's first: ReLU, and one bias for both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(D, M), nn.Linear(M, D, bias=False)
        self.bias = nn.Parameter(torch.zeros(D))

    def encode(self, x):
        return self.encoder(x - self.bias).relu()

    def decode(self, acts):
        return self.decoder(acts) + self.bias


class AutoEncoderNew(nn.Module):
    """Two linear layers with biases, nothing off the input."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(D, M), nn.Linear(M, D)

    def encode(self, x):
        return self.encoder(x).relu()

    def decode(self, acts):
        return self.decoder(acts)


class GatedAutoEncoder(nn.Module):
    """Gate and magnitude share the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(D, M, bias=False)
        self.decoder = nn.Linear(M, D, bias=False)
        self.decoder_bias = nn.Parameter(torch.zeros(D))
        self.r_mag, self.gate_bias = nn.Parameter(torch.zeros(M)), nn.Parameter(torch.zeros(M))
        self.mag_bias = nn.Parameter(torch.zeros(M))

    def encode(self, x):
        seen = self.encoder(x - self.decoder_bias)
        return (self.r_mag.exp() * seen + self.mag_bias).relu() * (seen + self.gate_bias > 0)

    def decode(self, acts):
        return self.decoder(acts) + self.decoder_bias


class SparseCoder(nn.Module):
    """sparsify: encoder Linear, W_dec [d_sae, d_model], cfg with to_dict."""

    def __init__(self, **cfg: Any) -> None:
        super().__init__()
        options = {"activation": "topk", "k": 3, "transcode": False, "skip_connection": False} | cfg
        self.cfg = SimpleNamespace(**options, to_dict=lambda: options)
        self.encoder, self.W_dec = nn.Linear(D, M), nn.Parameter(torch.zeros(M, D))
        self.b_dec, self.W_skip = nn.Parameter(torch.zeros(D)), None

    def encode(self, x):
        acts = self.encoder(x - self.b_dec).relu()
        kept = acts.topk(self.cfg.k, dim=-1)
        return torch.zeros_like(acts).scatter(-1, kept.indices, kept.values)

    def decode(self, acts):
        return acts @ self.W_dec + self.b_dec


@dataclass
class SAELensConfig:
    """SAELens: `architecture` is a method, `metadata` an object that to_dict makes a dict."""

    name: str = "topk"
    k: int = 3
    rescale_acts_by_decoder_norm: bool = False
    apply_b_dec_to_input: bool = True
    metadata: dict[str, Any] = field(
        default_factory=lambda: {"hook_name": "blocks.5.hook_resid_pre"})

    def architecture(self) -> str:
        return self.name

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "name"} | {
            "architecture": self.name}


class SAELens(nn.Module):
    def __init__(self, **cfg: Any) -> None:
        super().__init__()
        self.cfg = SAELensConfig(**cfg)
        self.W_enc, self.W_dec = nn.Parameter(torch.zeros(D, M)), nn.Parameter(torch.zeros(M, D))
        self.b_enc, self.b_dec = nn.Parameter(torch.zeros(M)), nn.Parameter(torch.zeros(D))
        if cfg.get("name") == "jumprelu":
            self.threshold = nn.Parameter(torch.zeros(M))

    def _norm(self):
        return self.W_dec.norm(dim=-1) if self.cfg.rescale_acts_by_decoder_norm else 1.0

    def encode(self, x):
        pre = (x - self.b_dec * self.cfg.apply_b_dec_to_input) @ self.W_enc + self.b_enc
        if self.cfg.name == "jumprelu":
            return pre.relu() * (pre > self.threshold)
        kept = (pre * self._norm()).topk(self.cfg.k, dim=-1)
        return torch.zeros_like(pre).scatter(-1, kept.indices, kept.values.relu())

    def decode(self, acts):
        return (acts / self._norm()) @ self.W_dec + self.b_dec


THINGS = [AutoEncoderTopK(), AutoEncoderTopK(threshold=0.4), BatchTopKSAE(threshold=0.4),
          BatchTopKSAE(threshold=0.0), JumpReluAutoEncoder(), JumpReluAutoEncoder(subtract=True),
          MatryoshkaBatchTopKSAE(), AutoEncoder(), AutoEncoderNew(), GatedAutoEncoder(),
          SparseCoder(), SparseCoder(k=5), SAELens(), SAELens(apply_b_dec_to_input=False),
          SAELens(rescale_acts_by_decoder_norm=True), SAELens(name="jumprelu")]


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: type(thing).__name__)
def test_adopted_objects_encode_and_decode_as_they_do_themselves(thing, x):
    draw(thing)
    sae = adopt(thing, hookpoint=6)
    acts = thing.encode(x).detach()
    assert 0 < (acts > 0).sum() < acts.numel()
    assert torch.allclose(sae.encode(x).dense(), acts, atol=1e-5)
    assert torch.allclose(sae.decode(sae.encode(x)), thing.decode(acts).detach(), atol=1e-5)
    assert sae.W_enc.shape == sae.W_dec.shape == (M, D)
    assert not sae.W_enc.requires_grad
    assert sae.hookpoint.layer == 6


def test_a_topk_of_dictionary_learning_keeps_its_threshold_beside_its_k():
    sae = adopt(draw(AutoEncoderTopK(threshold=0.4)), hookpoint=6)
    assert (sae.kind, sae.k) == ("topk", 3)
    assert torch.equal(sae.threshold, torch.full((M,), 0.4))
    assert adopt(AutoEncoderTopK(), hookpoint=6).threshold is None


def test_a_batch_topk_without_a_threshold_is_refused():
    with pytest.raises(SAEError, match="no threshold yet"):
        adopt(BatchTopKSAE(), hookpoint=6)


def test_the_hookpoint_is_the_argument_else_what_the_object_says():
    assert adopt(SAELens()).hookpoint.layer == 4  # blocks.5.hook_resid_pre
    assert adopt(SAELens(), hookpoint="layers.9").hookpoint.layer == 9
    thing = SparseCoder()
    thing.hookpoint = "layers.2"
    assert adopt(thing).hookpoint.layer == 2
    for silent in (SparseCoder(), AutoEncoderTopK(), JumpReluAutoEncoder()):
        with pytest.raises(HookpointError, match="hookpoint=6"):
            adopt(silent)


def test_an_sae_of_ours_is_itself_but_for_the_hookpoint_asked_for(make_sae):
    sae = make_sae()
    assert adopt(sae) is sae
    assert load_sae(sae) is sae
    moved = adopt(sae, hookpoint=2)
    assert moved.hookpoint.layer == 2
    assert moved.W_enc is sae.W_enc


@pytest.mark.parametrize(("thing", "says"), [
    (object(), "object is no SAE"), (nn.Linear(3, 4), "Linear is no SAE"),
    (SimpleNamespace(encoder=nn.Linear(D, M), decoder=nn.Linear(M, D)), "no SAE"),
    (SAELens(name="temporal"), "'temporal' is not read"),
    (SparseCoder(activation="groupmax"), "'groupmax' is not read"),
    (SparseCoder(transcode=True), "transcoder"),
])
def test_what_is_no_sae_that_we_read_is_refused(thing, says):
    with pytest.raises(SAEError, match=says):
        adopt(thing, hookpoint=6)


def test_a_skip_connection_and_a_missing_decoder_are_refused():
    thing = SparseCoder()
    thing.W_skip = nn.Parameter(torch.eye(D))
    with pytest.raises(SAEError, match="transcoder"):
        adopt(thing, hookpoint=6)
    thing = SparseCoder()
    thing.W_dec = None
    with pytest.raises(SAEError, match="no SAE that sternpost knows"):
        adopt(thing, hookpoint=6)
