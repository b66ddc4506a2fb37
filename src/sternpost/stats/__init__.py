"""Rates, differences and agreement, each with its 95 % interval: thin over scipy, statsmodels."""

from sternpost.stats.agreement import cohen_kappa
from sternpost.stats.differences import discrimination, mcnemar, paired_difference
from sternpost.stats.rates import rate

__all__ = ["cohen_kappa", "discrimination", "mcnemar", "paired_difference", "rate"]
