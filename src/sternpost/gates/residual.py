"""A logistic probe on the residual stream.

    risk = sigmoid(w . h + b)         h: the residual stream at t_inst, at the gate's hookpoint

Covered: whatever of harm stands linearly in one token's stream. Not covered: harm that other tokens
hold or that shows only later. Overall: a gate knows the kinds of prompts that it was fitted on; its
figures on other kinds are its quality (see the report's figures by kind).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sternpost.gates.logistic import fit_logistic
from sternpost.gates.scores import dot, sigmoid
from sternpost.types import Hookpoint


@dataclass(frozen=True, eq=False)
class ResidualGate:
    """A fitted residual gate."""

    kind: ClassVar[str] = "residual"
    categories = ()
    hookpoint: Hookpoint
    w: Float[Tensor, " d_model"]
    b: float
    threshold: float = 1.0

    def risk(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """P(harm) of each row."""
        return sigmoid(dot(h, self.w) + self.b)

    def risks(self, h: Float[Tensor, "row d_model"]) -> Float[Tensor, "row 1"]:
        """The same as a column: no categories."""
        return self.risk(h)[:, None]


def fit_residual(h: Float[Tensor, "row d_model"], harmful: Bool[np.ndarray, " row"],
                 clusters: np.ndarray, hookpoint: Hookpoint, seed: int = 0) -> ResidualGate:
    """The gate that tells the harmful rows of `h` from the others, calibrated."""
    found = fit_logistic(h.double().numpy(), harmful, clusters, seed)
    return ResidualGate(hookpoint, torch.tensor(found.weight, dtype=torch.float32), found.bias)
