"""Rates, differences and agreement, each with its 95 % interval: thin over scipy, statsmodels."""

from sternpost.stats.agreement import cohen_kappa
from sternpost.stats.changes import Change, Mean, change_of_hits, change_of_means, mean
from sternpost.stats.conformal import (
    GroupedThreshold,
    Threshold,
    conformal_threshold,
    grouped_threshold,
)
from sternpost.stats.correction import Corrected, Share, corrected_rate
from sternpost.stats.differences import discrimination, interaction, mcnemar, paired_difference
from sternpost.stats.kappa import Kappa, kappa_of
from sternpost.stats.paired import Compared, PairedRows, holm, paired_discrimination
from sternpost.stats.ranking import Auroc, auroc
from sternpost.stats.rates import rate

__all__ = ["Auroc", "Change", "Compared", "Corrected", "GroupedThreshold", "Kappa", "Mean",
           "PairedRows", "Share", "Threshold", "auroc", "change_of_hits", "change_of_means",
           "cohen_kappa", "conformal_threshold", "corrected_rate", "discrimination",
           "grouped_threshold", "holm", "interaction", "kappa_of", "mcnemar", "mean",
           "paired_difference", "paired_discrimination", "rate"]
