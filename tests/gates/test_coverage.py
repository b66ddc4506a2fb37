"""What a gate was fitted on, counted by hand."""

import pytest

from sternpost.errors import InputError
from sternpost.gates import coverage
from sternpost.gates.coverage import FEW


def test_rows_are_counted_by_side_and_few_benign_ones_are_named() -> None:
    harmful = [True] * 5 + [False] * (FEW + 3)
    language = ["en"] * 4 + ["de"] + ["en"] * FEW + ["de", "de", None]
    found = coverage(harmful, {"language": language, "group": [None] * len(harmful)})
    assert found.counts["language"] == {"de": (1, 2), "en": (4, FEW), "unnamed": (0, 1)}
    assert found.counts["group"] == {"unnamed": (5, FEW + 3)}
    assert list(found.counts["language"]) == ["de", "en", "unnamed"]
    assert [w.split(":")[1].split(",")[0] for w in found.warnings] == [
        " language 'de' has 2 benign rows", " language 'unnamed' has 1 benign rows"]
    assert all(w.startswith("gate: ") for w in found.warnings)


def test_a_value_with_harmful_rows_alone_is_named() -> None:
    harmful = [True] * 50 + [False] * 50
    found = coverage(harmful, {"category": ["fraud"] * 50 + ["none"] * 50})
    assert found.counts["category"]["fraud"] == (50, 0)
    assert len(found.warnings) == 1
    assert "'fraud' has 0 benign rows" in found.warnings[0]


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="language has 1"):
        coverage([True, False], {"language": ["en"]})
