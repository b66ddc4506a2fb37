"""Selection: which features might make a model refuse, and what to compare them with."""

from sternpost.features.candidates import (
    Candidate,
    ablation_path,
    active_counts,
    active_in,
    attribution,
    merge,
    strongest,
)
from sternpost.features.controls import difference_in_means, matched_features

__all__ = ["Candidate", "ablation_path", "active_counts", "active_in", "attribution",
           "difference_in_means", "matched_features", "merge", "strongest"]
