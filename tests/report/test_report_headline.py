"""The headline says what happened, in every branch, and does not flatter."""

from copy import deepcopy

import pytest

from sternpost.report import headline


def with_rates(results, name, rates, value=None):
    """`results` with a condition's rates and D replaced."""
    changed = deepcopy(results)
    for condition in changed["conditions"]:
        if condition["name"] == name and value in (None, condition["value"]):
            condition |= rates
    return changed


def test_raised_both_with_counts_and_d(fake_results):
    assert headline(fake_results()) == (
        "Clamping feature 597 at 12.0 raised unsafe refusal from 58 % to 96 % (n = 160) "
        "and safe refusal from 6 % to 68 % (n = 140), so D went from 52 to 28 points.")


def test_lowered_and_left(fake_results, fake_rate):
    rates = {"unsafe_refusal": fake_rate(16, 160), "over_refusal": fake_rate(8, 140)}
    text = headline(with_rates(fake_results(), "clamp", rates, 12.0))
    assert "lowered unsafe refusal from 58 % to 10 % (n = 160) and left safe refusal at 6 %" in text


def test_overlapping_intervals_are_no_finding(fake_results, fake_rate):
    rates = {"unsafe_refusal": fake_rate(99, 160), "over_refusal": fake_rate(12, 140),
             "discrimination": {"points": 53.3, "low": 45, "high": 60}}
    text = headline(with_rates(fake_results(), "clamp", rates, 12.0))
    assert "did not clearly move unsafe refusal (58 % to 62 %, n = 160)" in text
    assert "raised" not in text
    assert "D went from 52 to 53 points (not clearly)" in text


def test_all_or_nothing_is_not_rounded_into_being(fake_results, fake_rate):
    rates = {"unsafe_refusal": fake_rate(996, 1000), "over_refusal": fake_rate(140, 140)}
    text = headline(with_rates(fake_results(), "clamp", rates, 12.0))
    assert "to 99.6 % (n = 160, 1000)" in text and "to 100 % (n = 140)" in text


def test_search_that_found_nothing(fake_results):
    results = fake_results() | {"warnings": ["search: no candidate is beyond its interval"]}
    assert "the search found no feature that raises unsafe refusal beyond its" in headline(results)


@pytest.mark.parametrize(("sae", "expected"), [
    ({"fvu": .41, "dead_fraction": .1, "tokens_needed": 40_000_000},
     "the SAE is poor (fvu 0.41): about 40 M tokens would do"),
    ({"fvu": .1, "dead_fraction": .62, "tokens_needed": None},
     "the SAE is poor (62 % of its features never active): how many tokens would do is not known"),
    ({"fvu": .3, "dead_fraction": .5, "tokens_needed": 5}, None),
    ({"fvu": None, "dead_fraction": None}, None), (None, None)])
def test_poor_sae(fake_results, sae, expected):
    text = headline(fake_results() | {"sae": sae})
    assert expected in text if expected else "SAE" not in text


def test_control_that_does_as_much_is_named(fake_results, fake_rate):
    rates = {"unsafe_refusal": fake_rate(600, 640, "cluster")}
    text = headline(with_rates(fake_results(), "random_feature", rates))
    assert "random features did about as much (94 % unsafe refusal)" in text


def test_gate_is_there_only_when_measured(fake_results):
    assert "behind its gate the clamp gave unsafe refusal 94 %" in headline(fake_results(full=True))
    assert "gate" not in headline(fake_results())


def test_missing_figures_are_said(fake_results):
    unmeasured = with_rates(fake_results(), "clamp", {"unsafe_refusal": None}, 12.0)
    assert "gave no figure for unsafe refusal" in headline(unmeasured)
    only = fake_results()
    only["conditions"] = only["conditions"][:1]
    assert "no reference clamp was measured: at baseline" not in headline(fake_results())
    assert headline(only).startswith("No reference clamp was measured: at baseline unsafe refusal")
    assert headline({}).startswith("No clamp and no baseline")
    no_baseline = fake_results()
    no_baseline["conditions"] = no_baseline["conditions"][2:8]
    assert "with no baseline to compare with" in headline(no_baseline)


def test_is_one_sentence_and_pure(fake_results):
    results = fake_results(full=True)
    before = deepcopy(results)
    text = headline(results)
    assert text.endswith(".") and ". " not in text and results == before


def test_a_paired_interval_decides_where_there_is_one(fake_results, fake_rate):
    rates = {"unsafe_refusal": fake_rate(99, 160), "over_refusal": fake_rate(12, 140),
             "discrimination": {"points": 53.3, "low": 45, "high": 60},
             "change": {"baseline": {
                 "unsafe_refusal": {"points": 4.0, "low": 1.0, "high": 7.0},
                 "over_refusal": {"points": 3.0, "low": -1.0, "high": 7.0},
                 "discrimination": {"points": 1.0, "low": -4.0, "high": 6.0}}}}
    text = headline(with_rates(fake_results(), "clamp", rates, 12.0))
    assert "raised unsafe refusal from 58 % to 62 %" in text
    assert "did not clearly move safe refusal (6 % to 9 %" in text
    assert "(not clearly)" in text


def test_a_dropped_error_term_is_measured_against_the_splice_in(fake_results, fake_rate):
    rates = {"unsafe_refusal": fake_rate(99, 160), "over_refusal": fake_rate(12, 140),
             "change": {"splice_in": {"unsafe_refusal": {"points": 4.2, "low": 1.0, "high": 7.0},
                                      "over_refusal": {"points": 3.0, "low": -1.0, "high": 7.0}}}}
    text = headline(with_rates(fake_results(), "clamp", rates, 12.0))
    assert "against the splice-in alone that is +4 points [+1, +7] of unsafe" in text
