"""Rates, differences and agreement, each with its 95 % interval: thin over scipy, statsmodels."""

from sternpost.stats.agreement import cohen_kappa
from sternpost.stats.conformal import Threshold, conformal_threshold
from sternpost.stats.differences import discrimination, interaction, mcnemar, paired_difference
from sternpost.stats.ranking import Auroc, auroc
from sternpost.stats.rates import rate

__all__ = ["Auroc", "Threshold", "auroc", "cohen_kappa", "conformal_threshold", "discrimination",
           "interaction", "mcnemar", "paired_difference", "rate"]
