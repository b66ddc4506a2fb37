import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sternpost.errors import InputError
from sternpost.prompts import sample
from sternpost.types import LabelledPrompt, Request

PROMPTS = [LabelledPrompt(Request((), f"prompt {i}"), "safe") for i in range(50)]


@given(st.integers(1, 60), st.integers(0, 5))
def test_a_sample_is_in_file_order_and_grows_with_its_limit(limit, seed):
    drawn = sample(PROMPTS, limit, seed)
    assert len(drawn) == min(limit, 50)
    assert list(drawn) == [p for p in PROMPTS if p in drawn]
    assert set(drawn) <= set(sample(PROMPTS, limit + 1, seed))


def test_a_sample_depends_on_the_seed_and_not_on_the_order():
    mixed = random.Random(0).sample(PROMPTS, 50)
    assert set(sample(mixed, 10, 1)) == set(sample(PROMPTS, 10, 1)) != set(sample(PROMPTS, 10, 2))
    assert sample(PROMPTS, 10, 1) != tuple(PROMPTS[:10])


def test_no_limit_and_a_bad_one():
    assert sample(PROMPTS, None, 0) == tuple(PROMPTS)
    with pytest.raises(InputError, match="from 1 up; got 0"):
        sample(PROMPTS, 0, 0)
