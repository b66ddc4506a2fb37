"""Rates, differences and agreement, each with its 95 % interval: thin over scipy, statsmodels."""

from sternpost.stats.agreement import cohen_kappa
from sternpost.stats.conformal import (
    GroupedThreshold,
    Threshold,
    conformal_threshold,
    grouped_threshold,
)
from sternpost.stats.differences import discrimination, interaction, mcnemar, paired_difference
from sternpost.stats.paired import Compared, PairedRows, holm, paired_discrimination
from sternpost.stats.ranking import Auroc, auroc
from sternpost.stats.rates import rate

__all__ = ["Auroc", "Compared", "GroupedThreshold", "PairedRows", "Threshold", "auroc",
           "cohen_kappa", "conformal_threshold", "discrimination", "grouped_threshold", "holm",
           "interaction", "mcnemar", "paired_difference", "paired_discrimination", "rate"]
