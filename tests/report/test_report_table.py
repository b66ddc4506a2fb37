"""The tables carry the run's numbers, all of them, and fit 80 columns."""

import io
import re

import pytest
from rich.console import Console

from sternpost.report import results_html_table, results_table
from sternpost.report.numerals import count_text, risk_text, seconds_text, value_text


def printed(results, width=80):
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(results_table(results))
    return out.getvalue()


@pytest.mark.parametrize("full", [False, True])
def test_terminal_shows_every_rate_uncut_at_80_columns(fake_results, full):
    results = fake_results(full)
    text = printed(results)
    assert max(map(len, text.splitlines())) <= 80 and "\u2026" not in text
    for condition in results["conditions"]:
        for key in ("unsafe_refusal", "over_refusal", "incoherent", "capability"):
            if condition[key]:
                rate = condition[key]
                assert f"{100 * rate['hits'] / rate['n']:.1f} %" in text
                low, high = (f"{100 * rate[end]:.0f}" for end in ("low", "high"))
                assert f"{low}-{high} n={rate['n']}" in text
    assert ("capability" in text) is full


def test_marks_reference_and_best_d(fake_results):
    text = printed(fake_results())
    assert re.search(r"clamp +6\.0.*\nbest D", text)
    assert re.search(r"clamp +12\.0.*\nreference", text)
    both = printed(fake_results() | {"best_d": {"value": 12.0}})
    assert "ref., best D" in both


def test_html_has_the_same_numbers(fake_results):
    results = fake_results(full=True)
    html = results_html_table(results)
    for condition in results["conditions"]:
        rate = condition["unsafe_refusal"]
        assert f"[{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]" in html
        assert f"{rate['hits']}/{rate['n']}" in html
        assert f"{condition['discrimination']['points']:.1f}" in html
    assert html.count("<tr") == 1 + len(results["conditions"])
    assert "capability" not in results_html_table(fake_results())


def test_offensive_refusal_only_where_measured(fake_results, fake_rate):
    results = fake_results()
    results["conditions"][0]["offensive_refusal"] = fake_rate(3, 30)
    assert "10.0 %" in results_html_table(results) and "offensive" in results_html_table(results)


def test_nulls_say_why_and_text_is_escaped(ugly_run):
    html = results_html_table(ugly_run[0])
    assert "no prompts &lt;script" in html and "<script" not in html
    assert max(map(len, printed(ugly_run[0]).splitlines())) <= 80


def test_empty_run_is_still_a_table():
    assert "<table" in results_html_table({}) and printed({})


@pytest.mark.parametrize(("number", "text"), [
    (8, "8.0"), (0.125, "0.125"), (-3.5, "-3.5"), (-1200.0, "-1200"), (98765.4, "98765"),
    (2e6, "2e+06"), (0.0, "0.0"), (1e-5, "1e-05"), (None, "\u2013")])
def test_values(number, text):
    assert value_text(number) == text


def test_risks_claim_neither_nothing_nor_all():
    assert [risk_text(r) for r in (0.0, 1e-5, .0014, .9636, .99996, 1.0, None)] == [
        "0.000", "under 0.001", "0.001", "0.964", "over 0.999", "1.000", "\u2013"]


def test_counts_and_times():
    assert [count_text(n) for n in (950, 24_576, 40_000_000, None)] == ["950", "24.6 k", "40 M",
                                                                       "\u2013"]
    assert [seconds_text(s) for s in (.42, 12.4, 200, 7500)] == ["0.4 s", "12 s", "3 min 20 s",
                                                                 "2 h 5 min"]
