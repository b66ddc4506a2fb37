"""Combinations against their words, row by row."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from sternpost.errors import GateError
from sternpost.gates import CombinedGate
from sternpost.types import Hookpoint
from streams import HERE


@dataclass(eq=False)
class Column:
    """A gate whose risk is one number of the row; it counts the rows that it was asked for."""

    kind = "column"
    categories = ()
    column: int
    hookpoint: Hookpoint = HERE
    threshold: float = 1.0
    asked: int = 0

    def risk(self, h: Tensor) -> Tensor:
        self.asked += len(h)
        return h[:, self.column].double()

    def risks(self, h: Tensor) -> Tensor:
        return self.risk(h)[:, None]


def columns() -> tuple[Any, ...]:
    return Column(0), Column(1), Column(2)


H = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))


def test_any_all_and_weighted_are_what_they_say() -> None:
    by_hand = {"any": [max(row) for row in H.tolist()], "all": [min(row) for row in H.tolist()],
               "weighted": [0.5 * a + 0.3 * b + 0.2 * c for a, b, c in H.tolist()]}
    for how, want in by_hand.items():
        gate = CombinedGate(columns(), how, (0.5, 0.3, 0.2) if how == "weighted" else ())
        assert gate.risk(H).tolist() == pytest.approx(want)
        assert gate.risks(H).shape == (200, 1)


def test_a_cascade_asks_on_only_where_it_is_not_sure() -> None:
    members = columns()
    gate = CombinedGate(members, "cascade", low=0.3, high=0.6)
    want, asked = [], [0, 0, 0]
    for row in H.tolist():
        for at, risk in enumerate(row):
            asked[at] += 1
            if not 0.3 < risk < 0.6 or at == 2:
                want.append(risk)
                break
    assert gate.risk(H).tolist() == pytest.approx(want)
    assert [member.asked for member in members] == asked
    assert asked[2] < asked[1] < asked[0]


def test_a_member_that_cannot_tell_is_not_hidden() -> None:
    h = H.clone()
    h[0, 1] = float("nan")
    assert bool(CombinedGate(columns(), "any").risk(h)[0].isnan())
    assert bool(CombinedGate(columns(), "all").risk(h)[0].isnan())


def test_it_reads_where_its_members_read() -> None:
    assert CombinedGate(columns(), "any").hookpoint == HERE


@pytest.mark.parametrize(("given", "says"), [
    ({"members": ()}, "got 0 gates at none"),
    ({"members": (Column(0), Column(1, Hookpoint(5)))}, "layers.2, layers.5"),
    ({"how": "most"}, "any, all, weighted, cascade; got 'most'"),
    ({"how": "weighted"}, "takes 3 weights"),
    ({"how": "weighted", "weights": (0.5, 0.6, 0.2)}, "sum to 1"),
    ({"how": "weighted", "weights": (1.5, -0.7, 0.2)}, "sum to 1"),
    ({"how": "weighted", "weights": (float("nan"), 0.7, 0.3)}, "sum to 1"),
    ({"how": "any", "weights": (0.5, 0.3, 0.2)}, "takes 0 weights; got"),
    ({"how": "cascade", "low": 0.6, "high": 0.3}, "low < high"),
])
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_combined_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(GateError, match=says):
        CombinedGate(**{"members": columns(), "how": "any", **given})
