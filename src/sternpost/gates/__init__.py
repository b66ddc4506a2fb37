"""WHEN to steer: features at a position -> P(harm). One file a kind, the formula on top."""

from sternpost.gates.residual import ResidualGate, fit_residual
from sternpost.gates.sparse import SparseGate, fit_sparse
from sternpost.gates.tensors import from_tensors, to_tensors

__all__ = ["ResidualGate", "SparseGate", "fit_residual", "fit_sparse", "from_tensors", "to_tensors"]
