import base64
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sternpost.prompts.disguise import halves, in_base64, leetspeak, misspelt, spaced

TEXT = "Where does the old ship sail in winter, and why?"


@pytest.mark.parametrize("way", [leetspeak, spaced, misspelt])
def test_a_disguise_is_the_seeds_and_hides_the_words(way):
    assert way(TEXT, Random("1")) == way(TEXT, Random("1"))
    assert TEXT not in way(TEXT, Random("1"))
    assert len({way(TEXT, Random(str(i))) for i in range(20)}) > 1


@given(st.text())
def test_base64_reads_back(text):
    assert base64.b64decode(in_base64(text)).decode("utf-8", errors="surrogatepass") == text


@given(st.text(), st.integers())
def test_spacing_reads_back(text, seed):
    marked = spaced(text, Random(seed))
    assert [word[::2] for word in marked.split("  ") if word] == text.split()


@given(st.text(alphabet="abcdefgh ij,.12界航"), st.integers())
def test_typos_keep_every_letter_and_the_first_of_a_word(text, seed):
    typed = misspelt(text, Random(seed))
    assert [sorted(word) for word in typed.split()] == [sorted(word) for word in text.split()]
    assert [word[0] for word in typed.split()] == [word[0] for word in text.split()]


def test_leetspeak_changes_letters_to_digits_alone():
    digits = dict(zip("431057", "aeiost", strict=True))
    told = leetspeak(TEXT.lower(), Random(0))
    assert "".join(digits.get(c, c) for c in told) == TEXT.lower()


@pytest.mark.parametrize(("text", "parts"), [
    ("one two three", ("one", "two three")), ("怎么开船", ("怎么", "开船")), ("", ("", ""))])
def test_halves(text, parts):
    assert halves(text) == parts
