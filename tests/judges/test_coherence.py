"""Signs of incoherence: loud on loops, silent on lists, tables, code and short answers."""

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sternpost.errors import InputError
from sternpost.judges import nll_limit
from sternpost.judges.coherence import MARGIN, incoherent

COHERENT = [
    "Paris", "42", "Yes, yes, yes!", "Ha ha ha ha ha ha.", "巴黎", "好的。", "1, 2, 3, 4, 5",
    "\n".join(f"{i}. Press the button and wait." for i in range(1, 7)),
    "\n".join(f"7 x {i} = {7 * i}" for i in range(1, 21)),
    "| a | b |\n|---|---|\n" + "\n".join(f"| row {i} | {i * i} |" for i in range(30)),
    "Here it is:\n```\n" + "x = 0\n" * 40 + "```\n",
    "```python\n" + "print('a')\n" * 40,
    "The matrix is:\n" + "0 0 0\n" * 3 + "It has three rows, and every entry of it is nothing, "
    "which is why people call it the zero matrix; adding it changes no other matrix at all.",
    "A googol is 1" + "0" * 100 + ".",
    "It goes against my rules rules rules rules to do so, and that is all I can say about the "
    "matter at hand, so let us see what else there is to do today.",
    "首先，打开窗户。然后，把水烧开。接着，放入面条，煮五分钟。最后，加入酱油和葱花，就可以吃了。",
    "- [ ] milk\n- [ ] eggs\n- [ ] bread\n- [ ] butter",
]

BROKEN = [
    ("", "empty"), ("\n\t ", "empty"), ("---", "empty"), ("😀😀", "empty"),
    ("the " * 30, "repetition"), ("I am sure. " * 12, "repetition"),
    ("A fine beginning of a reply that then goes wrong. " + "and so it was " * 30, "repetition"),
    ("1 1 1 1 1 1 1 1 1 1 1 1", "repetition"),
    ("我们" * 20, "repetition"), ("haha" * 40, "repetition"), ("a" * 200, "repetition"),
    ("x" + ")(" * 60, "noise"),
]


@pytest.mark.parametrize("text", COHERENT)
def test_coherent_text_is_left_alone(text: str) -> None:
    assert incoherent(text) is None


@pytest.mark.parametrize(("text", "sign"), BROKEN)
def test_broken_text_is_named(text: str, sign: str) -> None:
    assert (incoherent(text) or "").startswith(sign)


def test_shuffled_loop_is_found_by_its_few_phrases() -> None:
    rounds = ["we went to the sea and saw a ship", "we went to the sea and saw a bird"]
    text = ". ".join(rounds[(i * i // 3) % 2] for i in range(40))
    assert "phrases differ" in (incoherent(text) or "") or "in a row" in (incoherent(text) or "")


words = st.text(string.ascii_lowercase, min_size=2, max_size=6)


@given(st.lists(words, min_size=1, max_size=12, unique=True), st.integers(12, 30))
def test_every_phrase_said_over_and_over_is_a_loop(phrase: list[str], rounds: int) -> None:
    assert "repetition" in (incoherent(" ".join(phrase * rounds)) or "")


@given(st.lists(words, min_size=1, max_size=80, unique=True))
def test_words_that_never_repeat_are_no_loop(text: list[str]) -> None:
    assert incoherent(" ".join(text)) is None


def test_limit_is_the_quantile_plus_the_margin() -> None:
    assert nll_limit([1.0]) == pytest.approx(1.0 + math.log(10))
    assert nll_limit([i / 100 for i in range(101)]) == pytest.approx(0.95 + MARGIN)


def test_one_broken_reply_of_its_own_does_not_set_the_limit() -> None:
    assert nll_limit([1.0] * 40 + [50.0]) == pytest.approx(1.0 + MARGIN)


def test_values_that_are_not_finite_are_left_out() -> None:
    assert nll_limit([math.nan, 1.0, math.inf]) == pytest.approx(1.0 + MARGIN)
    with pytest.raises(InputError, match="2 values, none"):
        nll_limit([math.nan, math.inf])


@given(st.lists(st.floats(0, 20), min_size=1), st.floats(0, 5))
def test_limit_moves_with_the_model(own: list[float], shift: float) -> None:
    assert nll_limit([v + shift for v in own]) == pytest.approx(nll_limit(own) + shift)
    assert min(own) + MARGIN - 1e-9 <= nll_limit(own) <= max(own) + MARGIN + 1e-9
