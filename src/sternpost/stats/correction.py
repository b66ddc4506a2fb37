"""A rate as it would be without the judge's errors, the raw one beside it.

    corrected = (raw + specificity - 1) / (sensitivity + specificity - 1)    (Rogan & Gladen 1978)

cut to [0, 1]. Where sensitivity and specificity are exactly known, the interval is the raw rate's,
its ends corrected likewise (Reiczigel, Foldi & Ozsvari 2010). Where they were measured themselves,
it is that of Lang & Reiczigel (2014): with z = 1.96, p the raw rate over n, counts m of the rows
that sensitivity (se) and specificity (sp) were measured on, each pulled to the middle,

    p' = (hits + z^2/2) / (n + z^2)     se' = (hits + 1) / (m + 2)      sp' likewise
    c  = (p' + sp' - 1) / (se' + sp' - 1)
    v_se = se'(1 - se') / (m + 2)       v_sp likewise
    v  = [p'(1 - p') / (n + z^2) + c^2 v_se + (1 - c)^2 v_sp] / (se' + sp' - 1)^2
    d  = 2 z^2 [c v_se - (1 - c) v_sp]
    low, high = c + d -+ z sqrt(v)

A raw rate with a cluster interval counts as so many rows as give Wilson's interval that width.
"""

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

from scipy.stats import norm

from sternpost.errors import InputError
from sternpost.types import Rate

Z = float(norm.ppf(0.975))


@dataclass(frozen=True, slots=True)
class Corrected:
    """A rate without the judge's errors, as far as they are known; fractions."""

    value: float | None
    low: float | None
    high: float | None
    raw: Rate
    """As the judge counts."""
    why: str | None = None
    """Why there is no value."""

    def as_dict(self) -> dict[str, Any]:
        """As in files: never without the raw rate."""
        body: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high,
                                "raw": self.raw.as_dict()}
        return body if self.why is None else body | {"why": {"value": self.why}}


@dataclass(frozen=True, slots=True)
class Share:
    """A share that was measured on so many rows; `n` may be no whole number where rows weigh
    differently, and is None for one that is exactly known."""

    value: float
    n: float | None


def corrected_rate(raw: Rate, sensitivity: Share, specificity: Share) -> Corrected:
    """`raw` corrected. `sensitivity`: of the replies that people call hits, the share that the
    judge does; `specificity`: of the others, the share that the judge does not.

    No value where the judge tells nothing: sensitivity + specificity is 1 or less.
    """
    if raw.n < 1:
        raise InputError("A rate to correct needs at least one row; got none.")
    for name, share in (("sensitivity", sensitivity), ("specificity", specificity)):
        if not (isfinite(share.value) and 0 <= share.value <= 1) or (
                share.n is not None and not share.n > 0):
            raise InputError(f"{name} is a fraction from 0 to 1, on more than 0 rows; got {share}.")
    told = sensitivity.value + specificity.value - 1
    if told <= 0:
        return Corrected(None, None, None, raw, "the judge tells no better than chance: "
                         "sensitivity + specificity is 1 or less")
    value = _cut((raw.share + specificity.value - 1) / told)
    if sensitivity.n is None and specificity.n is None:
        low, high = ((end + specificity.value - 1) / told for end in (raw.low, raw.high))
    else:
        low, high = _measured(raw, sensitivity, specificity)
    return Corrected(value, min(_cut(low), value), max(_cut(high), value), raw)


def _measured(raw: Rate, sensitivity: Share, specificity: Share) -> tuple[float, float]:
    n = _rows(raw)
    p = (n * raw.share + Z ** 2 / 2) / (n + Z ** 2)
    se, spread_se = _pulled(sensitivity)
    sp, spread_sp = _pulled(specificity)
    told = se + sp - 1
    if told <= 0:
        return 0.0, 1.0
    c = _cut((p + sp - 1) / told)
    spread = p * (1 - p) / (n + Z ** 2) + c ** 2 * spread_se + (1 - c) ** 2 * spread_sp
    shift = 2 * Z ** 2 * (c * spread_se - (1 - c) * spread_sp)
    return c + shift - Z * sqrt(spread) / told, c + shift + Z * sqrt(spread) / told


def _pulled(share: Share) -> tuple[float, float]:
    """A share with one more hit and one more miss, and its variance."""
    if share.n is None:
        return share.value, 0.0
    value = (share.n * share.value + 1) / (share.n + 2)
    return value, value * (1 - value) / (share.n + 2)


def _rows(raw: Rate) -> float:
    """Rows that stand alone; a cluster interval's width tells how many they are worth."""
    if raw.interval == "wilson" or not 0 < raw.hits < raw.n:
        return raw.n
    half = (raw.high - raw.low) / 2
    return min(raw.n, max(1.0, raw.share * (1 - raw.share) * (Z / half) ** 2)) if half else raw.n


def _cut(value: float) -> float:
    return min(1.0, max(0.0, value))
