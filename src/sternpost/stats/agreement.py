"""How far two raters agree beyond chance."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa

from sternpost.stats.clusters import check_lengths


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two raters' labels of the same rows, 1 at best (Cohen 1960).

        kappa = (observed - expected) / (1 - expected)

    None where it has no meaning: no rows, or one label throughout.
    """
    check_lengths(a=a, b=b)
    number: dict[Hashable, int] = {}
    for label in (*a, *b):
        number.setdefault(label, len(number))
    if len(number) < 2:
        return None
    table = np.zeros((len(number), len(number)))
    for x, y in zip(a, b, strict=True):
        table[number[x], number[y]] += 1
    kappa: Any = cohens_kappa(table, return_results=False)
    return float(kappa)
