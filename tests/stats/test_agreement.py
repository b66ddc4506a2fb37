import pytest
from hypothesis import given
from hypothesis import strategies as st

from sternpost.errors import InputError
from sternpost.stats import cohen_kappa

labels = st.sampled_from(["refusal", "partial", "compliance"])


def naive_kappa(a, b):
    n = len(a)
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    expected = sum(a.count(c) * b.count(c) for c in set(a) | set(b)) / n ** 2
    return (observed - expected) / (1 - expected)


@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=60))
def test_kappa_as_the_formula(rows):
    a, b = [x for x, _ in rows], [y for _, y in rows]
    if len({*a, *b}) == 1:
        assert cohen_kappa(a, b) is None
    else:
        assert cohen_kappa(a, b) == pytest.approx(naive_kappa(a, b))
        assert cohen_kappa(a, b) == pytest.approx(cohen_kappa(b, a))


def test_kappa_of_full_agreement_is_one_and_of_none_is_negative():
    assert cohen_kappa([True, False, True], [True, False, True]) == pytest.approx(1)
    assert cohen_kappa([True, False], [False, True]) == pytest.approx(-1)


def test_kappa_of_nothing_has_no_meaning():
    assert cohen_kappa([], []) is None


def test_raters_must_see_the_same_rows():
    with pytest.raises(InputError, match="a has 1, b has 0"):
        cohen_kappa(["x"], [])
