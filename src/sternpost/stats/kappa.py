"""How far two raters agree beyond chance, with its 95 % interval.

    kappa = (observed - expected) / (1 - expected)          (Cohen 1960)

The interval is a percentile bootstrap over clusters of rows (rows alone where none is named).
Where the raters agree on every row a bootstrap would know no doubt: there the lower end is kappa
with Wilson's lower bound of the agreement (n = clusters), chance agreement as observed.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sternpost.stats.agreement import cohen_kappa
from sternpost.stats.clusters import RESAMPLES, check_lengths
from sternpost.stats.rates import wilson


@dataclass(frozen=True, slots=True)
class Kappa:
    """Cohen's kappa with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """Rows."""

    def as_dict(self) -> dict[str, Any]:
        """As in files."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def kappa_of(a: Sequence[Hashable], b: Sequence[Hashable],
             clusters: Sequence[Hashable] | None = None, seed: int = 0) -> Kappa | None:
    """Kappa of two raters' labels of the same rows; None where it has no meaning: no rows, or one
    label throughout."""
    check_lengths(a=a, b=b, clusters=clusters)
    value = cohen_kappa(a, b)
    if value is None:
        return None
    tables = _tables(a, b, range(len(a)) if clusters is None else clusters)
    whole = tables.sum(0)
    if not (whole.sum() - whole.trace()):
        chance = float((whole.sum(0) / whole.sum()) @ (whole.sum(1) / whole.sum()))
        low, _ = wilson(len(tables), len(tables))
        return Kappa(value, (low - chance) / (1 - chance), 1.0, len(a))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(tables), np.full(len(tables), 1 / len(tables)), RESAMPLES)
    values = _kappas(np.tensordot(drawn, tables, 1))
    low, high = np.quantile(values, [0.025, 0.975])
    return Kappa(value, float(low), float(high), len(a))


def _tables(a: Sequence[Hashable], b: Sequence[Hashable],
            clusters: Sequence[Hashable]) -> np.ndarray:
    """[cluster, label, label]: how often each pair of labels occurs in each cluster; sorted, so
    that neither names nor the order of rows change an interval."""
    number = {label: at for at, label in enumerate(sorted({*a, *b}, key=repr))}
    rows: dict[Hashable, np.ndarray] = {}
    for x, y, cluster in zip(a, b, clusters, strict=True):
        rows.setdefault(cluster, np.zeros((len(number), len(number))))[number[x], number[y]] += 1
    ordered = sorted(rows.values(), key=lambda table: tuple(np.ravel(table)))
    return np.stack(ordered)


def _kappas(tables: np.ndarray) -> np.ndarray:
    """Of [resample, label, label]; 0 where a resample has one label throughout."""
    n = tables.sum((1, 2))
    seen = np.trace(tables, axis1=1, axis2=2) / n
    chance = (tables.sum(1) * tables.sum(2)).sum(1) / n ** 2
    return np.divide(seen - chance, 1 - chance, out=np.zeros_like(seen), where=chance < 1)
