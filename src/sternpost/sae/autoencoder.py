"""A sparse autoencoder: residual stream -> feature activations -> residual stream.

    pre       = W_enc (x - b_dec) + b_enc        (without b_dec where the SAE does not subtract it)
    acts      = sparsifier(pre)                  a file a kind: topk.py, batchtopk.py, jumprelu.py
    x_hat     = sum over active features of acts[f] * W_dec[f] + b_dec

Row f of `W_enc` reads feature f (also called a latent), row f of `W_dec` is its direction.
"""

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sternpost.errors import SAEError
from sternpost.sae import batchtopk, jumprelu, topk
from sternpost.types import Hookpoint

SAEKind = Literal["topk", "batchtopk", "jumprelu"]
PerToken = Literal["layer_norm", "constant_norm_rescale"]
_LN_EPS = 1e-5


class FeatureActs(namedtuple("FeatureActs", ["values", "indices"])):
    """The pair `values, indices`, both `[..., K]`: what is active, in activation units.

    An unused slot holds the value 0 and a valid id.
    """

    d_sae: int

    def __new__(cls, values: Tensor, indices: Tensor, d_sae: int) -> "FeatureActs":
        self = super().__new__(cls, values, indices)
        self.d_sae = d_sae
        return self

    def dense(self) -> Float[Tensor, "*rows d_sae"]:
        """The same activations with a column for every feature."""
        empty = self.values.new_zeros(*self.values.shape[:-1], self.d_sae)
        return empty.scatter_add(-1, self.indices, self.values)


@dataclass(frozen=True)
class FeatureStats:
    """What a feature does on data, measured with the SAE: see `sae/measure.py`."""

    high: Float[Tensor, " d_sae"]
    """A feature's high activation: the 99th percentile of its activations where it is active."""
    density: Float[Tensor, " d_sae"]
    """Share of tokens on which a feature is active."""
    agreement: Float[Tensor, " d_sae"] | None = None
    """Of the held-out tokens on which a feature is active under top-k or by its threshold, the
    share on which it is under both; NaN where there are none. None: not measured."""


@dataclass(frozen=True, eq=False)
class SAE:
    """Weights and equations of one sparse autoencoder. Rows keep the units of the file."""

    W_enc: Float[Tensor, "d_sae d_model"]
    W_dec: Float[Tensor, "d_sae d_model"]
    b_enc: Float[Tensor, " d_sae"]
    b_dec: Float[Tensor, " d_model"]
    hookpoint: Hookpoint
    """The residual stream that it reads."""
    kind: SAEKind = "topk"
    k: int | None = None
    """Active features a token: of a TopK SAE each token's, of a BatchTopK SAE their mean."""
    threshold: Float[Tensor, " d_sae"] | None = None
    """Per feature, activation units: of the kind itself, or calibrated from data for TopK."""
    subtract_b_dec: bool = True
    """Whether `b_dec` is taken off the input before encoding."""
    centred: bool = False
    """Trained on a stream whose mean over d_model is 0 (TransformerLens' centred writing
    weights): `encode` takes the mean off, which is exact for models that normalise with
    LayerNorm."""
    per_token: PerToken | None = None
    """How each token is normalised before encoding: to mean 0 and deviation 1, or to the norm
    sqrt(d_model)."""
    residual_norm: float | None = None
    """Median norm of the residual stream at the hookpoint."""
    stats: FeatureStats | None = field(default=None, repr=False)
    name: str = ""
    """Where it was loaded from."""
    ids: tuple[int, ...] | None = None
    """Where these are only some rows of a larger SAE: the feature that each row is there. Such rows
    are read by their thresholds; `encode` and `decode` need the whole SAE."""
    prefixes: tuple[int, ...] | None = None
    """Of a Matryoshka SAE: the features below each of these reconstruct the stream by themselves;
    the last is d_sae."""

    def __post_init__(self) -> None:
        if self.W_enc.dim() != 2:
            raise SAEError(f"SAE {self.name or '(unnamed)'}: W_enc has shape "
                           f"{tuple(self.W_enc.shape)}; it should be [d_sae, d_model].")
        d_sae, d_model = self.W_enc.shape
        shapes = {"W_dec": (d_sae, d_model), "b_enc": (d_sae,), "b_dec": (d_model,)}
        if self.threshold is not None:
            shapes["threshold"] = (d_sae,)
        for key, shape in shapes.items():
            got = tuple(getattr(self, key).shape)
            if got != shape:
                raise SAEError(f"SAE {self.name or '(unnamed)'}: {key} has shape {got}, but W_enc "
                               f"{tuple(self.W_enc.shape)} ([d_sae, d_model]) asks for {shape}.")
        if self.kind != "jumprelu" and not (isinstance(self.k, int) and 1 <= self.k <= d_sae):
            raise SAEError(f"SAE {self.name or '(unnamed)'}: a {self.kind} SAE needs 1 <= k <= "
                           f"d_sae = {d_sae}; got k = {self.k!r}.")
        if self.kind == "jumprelu" and self.threshold is None:
            raise SAEError(f"SAE {self.name or '(unnamed)'}: a JumpReLU SAE needs thresholds.")

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return self.W_enc.shape[0]

    def row_of(self, feature: int) -> int | None:
        """The row of `feature`; None where there is none."""
        if self.ids is not None:
            return self.ids.index(feature) if feature in self.ids else None
        return feature if 0 <= feature < self.d_sae else None

    def rows(self, features: Sequence[int]) -> "SAE":
        """Only the rows of `features`: all that a threshold edit needs."""
        at = [row for feature in features if (row := self.row_of(feature)) is not None]
        if len(at) != len(features) or self.threshold is None:
            raise SAEError(f"This SAE has no rows with thresholds for features {list(features)}.")
        return replace(self, W_enc=self.W_enc[at], W_dec=self.W_dec[at], b_enc=self.b_enc[at],
                       threshold=self.threshold[at], kind="jumprelu", k=None, stats=None,
                       ids=tuple(int(feature) for feature in features))

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.W_enc.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.W_enc.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.W_enc.device

    def pre(self, x: Float[Tensor, "*rows d_model"],
            features: Int[Tensor, " features"] | None = None) -> Float[Tensor, "*rows columns"]:
        """Pre-activations of `features` (default: all), one column each."""
        x = self._normalised(x.to(self.dtype))
        W_enc = self.W_enc if features is None else self.W_enc[features]
        b_enc = self.b_enc if features is None else self.b_enc[features]
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        if self.subtract_b_dec:
            x = x - self.b_dec
        return x @ W_enc.T + b_enc

    def encode(self, x: Float[Tensor, "*rows d_model"]) -> FeatureActs:
        """Feature activations of `x`, as the library that wrote the SAE computes them."""
        pre = self.pre(x)
        if self.kind != "jumprelu":
            assert self.k is not None
            sparsify = topk.sparsify if self.kind == "topk" else batchtopk.sparsify
            return FeatureActs(*sparsify(pre, self.k), self.d_sae)
        assert self.threshold is not None
        return FeatureActs(*jumprelu.sparsify(pre, self.threshold.to(pre)), self.d_sae)

    def decode(self, values: Float[Tensor, "*rows K"] | FeatureActs,
               indices: Int[Tensor, "*rows K"] | None = None) -> Float[Tensor, "*rows d_model"]:
        """The residual stream that the activations stand for; takes the pair, or its two parts."""
        if indices is None:
            values, indices = values
        assert isinstance(values, Tensor)
        assert isinstance(indices, Tensor)
        flat, ids = values.reshape(-1, values.shape[-1]), indices.reshape(-1, indices.shape[-1])
        out = torch.nn.functional.embedding_bag(
            ids, self.W_dec, per_sample_weights=flat.to(self.dtype), mode="sum")
        return out.reshape(*values.shape[:-1], self.d_model) + self.b_dec

    def unit(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows 1"] | float:
        """How much of its `W_dec` row one unit of a feature's activation is in the stream `x`."""
        if self.per_token is None:
            return 1.0
        x = x.to(self.dtype)
        if self.per_token == "layer_norm":
            return x.std(-1, keepdim=True)
        return x.norm(dim=-1, keepdim=True) / self.d_model ** 0.5

    def reconstruct(self, x: Float[Tensor, "*rows d_model"],
                    acts: FeatureActs | None = None) -> Float[Tensor, "*rows d_model"]:
        """What the SAE makes of `x`: decoded, and back in the stream's own units. `acts`: its
        activations, where they are known."""
        out = self.decode(self.encode(x) if acts is None else acts)
        if self.per_token is not None:
            out = out * self.unit(x)
        if self.per_token == "layer_norm":
            out = out + x.to(self.dtype).mean(-1, keepdim=True)
        return out

    def _normalised(self, x: Tensor) -> Tensor:
        if self.per_token is None:
            return x
        if self.per_token == "layer_norm":
            return (x - x.mean(-1, keepdim=True)) / (self.unit(x) + _LN_EPS)
        return x / self.unit(x)

    def as_saebench(self, model_name: str, training_tokens: int = -100_000) -> Any:
        """This SAE as SAEBench's evaluations take one; see saebench.py."""
        from sternpost.sae.saebench import as_saebench  # it is built on this very class

        return as_saebench(self, model_name, training_tokens)

    def to(self, device: torch.device | str | None = None,
           dtype: torch.dtype | None = None) -> "SAE":
        """The same SAE on another device or in another type."""
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype)

        tensors = {name: move(getattr(self, name)) for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
        threshold = None if self.threshold is None else move(self.threshold)
        stats = self.stats
        if stats is not None:
            agreement = None if stats.agreement is None else move(stats.agreement)
            stats = FeatureStats(move(stats.high), move(stats.density), agreement)
        return replace(self, **tensors, threshold=threshold, stats=stats)
