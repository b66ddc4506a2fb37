"""What is counted: rates and differences, never without n and an interval."""

import math
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `n`, with a 95 % interval of the true share as fractions. Made by `stats/`."""

    hits: int
    n: int
    low: float
    high: float
    interval: Literal["wilson", "cluster"] = "wilson"

    @property
    def share(self) -> float:
        """hits / n, in [0, 1]; NaN for n = 0."""
        return self.hits / self.n if self.n else math.nan

    def as_dict(self) -> dict[str, Any]:
        """As in results.json: `interval` stands only where it is a cluster bootstrap."""
        body: dict[str, Any] = {"hits": self.hits, "n": self.n, "low": self.low, "high": self.high}
        return body | {"interval": "cluster"} if self.interval == "cluster" else body

    def __str__(self) -> str:
        return (f"{100 * self.share:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] "
                f"({self.hits}/{self.n})")


@dataclass(frozen=True, slots=True)
class Points:
    """A difference in percentage points with its 95 % interval."""

    points: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """As in results.json."""
        return {"points": self.points, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class JudgeAccuracy:
    """How well a judge agrees with human labels."""

    accuracy: Rate | None
    kappa: float | None
    n: int
    data: str = ""
    """What it was measured on, with the data's sha256."""
