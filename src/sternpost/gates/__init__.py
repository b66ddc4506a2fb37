"""WHEN to steer: features at a position -> P(harm). One file a kind, the formula on top."""

from sternpost.gates.categories import CategoryGate, Fit, fit_categories
from sternpost.gates.combined import CombinedGate
from sternpost.gates.cosine import CosineGate, fit_cosine
from sternpost.gates.coverage import Coverage, Sides, coverage
from sternpost.gates.feature import FeatureGate, fit_feature
from sternpost.gates.held_out import HeldOut, held_out
from sternpost.gates.nullspace import NullspaceGate, fit_nullspace
from sternpost.gates.residual import ResidualGate, fit_residual
from sternpost.gates.rolling import Continuation, Hysteresis, Opening, rolled, rolling
from sternpost.gates.sparse import SparseGate, fit_sparse
from sternpost.gates.tensors import FittedGate, from_tensors, to_tensors

__all__ = ["CategoryGate", "CombinedGate", "Continuation", "CosineGate", "Coverage", "FeatureGate",
           "Fit", "FittedGate", "HeldOut", "Hysteresis", "NullspaceGate", "Opening", "ResidualGate",
           "Sides", "SparseGate", "coverage", "fit_categories", "fit_cosine", "fit_feature",
           "fit_nullspace", "fit_residual", "fit_sparse", "from_tensors", "held_out", "rolled",
           "rolling", "to_tensors"]
