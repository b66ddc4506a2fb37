"""Edits compiled to tensors, and the pure function (residual, table) -> residual."""

from sternpost.steering.caps import mahalanobis_cap
from sternpost.steering.compile import Table, check_edit, compile_plan, rows_of
from sternpost.steering.write import Change, Written, change, changed, moved, read, write

__all__ = ["Change", "Table", "Written", "change", "changed", "check_edit", "compile_plan",
           "mahalanobis_cap", "moved", "read", "rows_of", "write"]
