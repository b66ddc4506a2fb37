
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sternpost.prompts import is_right

RIGHT = [
    # numbers
    ("18", "18"), ("She has 3 + 15 = 18 eggs.", "18"), ("The total is $1,234.50.", "1234.5"),
    ("It is -3.", "-3"), ("It is \u22123", "-3"), ("10-5", "5"), ("about 12%", "12"),
    ("about 12 percent", "12%"), ("18.00", "18"), ("First 7, then 1,234,567", "1234567"),
    ("**42**", "42"), ("\\boxed{42}", "42"), ("共有１８个", "18"), ("答案是-3", "-3"),
    ("1, 2, 3", "3"), ("1,2,3", "3"), ("costs -$5", "-5"), ("costs $-5", "-5"), ("18th", "18"),
    ("0.5", ".5"), ("it is .5", "0.5"), ("6e3 m", "6000"), ("18 g of H2O", "18"), ("$18", "$18.00"),
    ("Rs 1,00,000", "100000"), ("+4", "4"), ("3 apples (7)", "7"), ("costs 18 €", "18"),
    # letters
    ("B", "B"), ("b) no. B", "B"), ("The answer is B", "B"), ("the Answer is: **B** because", "B"),
    ("(B) Paris", "B"), ("B) Paris", "B"), ("B: Paris", "B"), ("B. Paris", "B"), ("**B**", "B"),
    ("I think it is C.", "C"),
    ("A good choice would be C.", "C"), ("B. So the answer is B.", "B"),
    ("答案是B。", "B"), ("選Ｂ）", "B"), ("answer is (C), since A is wrong", "C"), ("'D'", "D"),
    ("In the U.S. it is D.", "D"), ("I'm sure: A", "A"), ("B", "b"), ("B", "(B)"), ("C\n", "C"),
    # phrases
    ("It is Paris, of course.", "Paris"), ("PARIS", "paris"),
    ("the  well known\nman", "well-known"),
    ("首都是北京。", "北京"), ("New  York City", "new york"), ("Yes, it is.", "yes"),
    ("I don\u2019t know", "don't know"), ("written in C++ today", "C++"), ("at 10:30 am", "10:30"),
]
WRONG = [
    ("", "18"), ("none", "18"), ("18 or 19", "18"), ("1,8", "18"), ("It is 3", "-3"), ("-3", "3"),
    ("180", "18"), ("1.8", "18"), ("1,234", "234"), ("12%", "0.12"), ("3 - 18", "-18"),
    ("H18", "18"), ("9e99", "9"),
    ("", "B"), ("A or B", "A"), ("A) x B) y", "B"), ("A. No, B.", "B"),
    ("the answer is A. B: no", "A"),
    ("b", "B"), ("BC", "B"), ("A good choice", "A"), ("I like it", "I"), ("DNA", "A"),
    ("U.S.", "S"), ("x = 3.14.15", "15"),
    ("It's a B+ film", "B"), ("maybe", "B"), ("I'm", "I"),
    ("Parisian", "Paris"), ("York New", "new york"), ("", "paris"), ("北方的京城", "北京"),
    ("c", "C++"), ("anything", ""), ("10 at 30", "10:30"),
]


@pytest.mark.parametrize(("reply", "answer"), RIGHT)
def test_right(reply, answer):
    assert is_right(reply, answer)


@pytest.mark.parametrize(("reply", "answer"), WRONG)
def test_wrong(reply, answer):
    assert not is_right(reply, answer)


@given(st.decimals(-10**9, 10**9, places=3), st.decimals(0, 10**6, places=2))
def test_the_last_number_counts_however_it_is_written(last, other):
    assert is_right(f"Not {other:,} but {last:,}.", f"{last:f}")
    assert is_right(f"Not {other:,} but {last:,}.", str(last)) == is_right(f"{last}", f"{last:,}")
    assert is_right(f"{last} then {other:,}", str(last)) == (last == other)


@given(st.text(), st.text())
def test_any_text_gets_a_verdict(reply, answer):
    assert is_right(reply, answer) in (True, False)
