"""An evaluation in a terminal and its headline: figures, signs, the paper's columns."""

import copy
import io
import re
from typing import Any

import pytest
from rich.console import Console

from evaluations import make_results, make_samples
from sternpost.errors import InputError
from sternpost.report import evaluation_headline, evaluation_html_table, evaluation_table
from sternpost.report.evaluation_rows import rows_of
from sternpost.report.evaluation_words import words


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return make_results(make_samples())


@pytest.fixture
def results(made: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(made)


def drawn(results: dict[str, Any], width: int, lang: str | None = None) -> str:
    out = io.StringIO()
    Console(width=width, file=out).print(evaluation_table(results, lang))
    return out.getvalue()


def cells(text: str, metric: str) -> str:
    return next(line for line in text.splitlines() if metric in line)


def test_rows_say_n_both_conditions_change_and_p(results: dict[str, Any]) -> None:
    text = drawn(results | {"model": "dinghy"}, 80)
    rate, paired = (results[part] for part in ("runs", "paired"))
    before, after = (rate[side]["gsm8k"]["capability"] for side in ("baseline", "steered"))
    change = paired["gsm8k"]["capability"]
    line = cells(text.partition("GSM8K")[2], "capability")
    assert line.split() == ["capability", "80", f"{100 * before['hits'] / 80:.1f}", "%",
                            f"{100 * after['hits'] / 80:.1f}", "%", f"{100 * change['delta']:+.1f}",
                            "<0.001" if change["p_holm"] < .001 else f"{change['p_holm']:.3f}"]
    assert f"{100 * change['low']:+.0f} to {100 * change['high']:+.0f}" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_papers_columns_stand_only_beside_its_model(results: dict[str, Any]) -> None:
    text = drawn(results, 120)
    assert "the paper" in text
    assert cells(text, "+37.69").split()[0] == "refusal"  # below the baseline's line
    assert "35.98" in text
    assert "the paper" not in drawn(results | {"model": "dinghy"}, 120)


def test_the_papers_model_in_a_folder_of_another_name_is_known_by_its_shape(
        results: dict[str, Any]) -> None:
    shape = {"architecture": "Phi3ForCausalLM", "n_layers": 32, "d_model": 3072,
             "vocabulary": 32064, "context": 4096, "parameters": 3_821_079_552}
    text = drawn(results | {"model": "/models/mine", "shape": shape}, 120)
    assert "35.98" in text
    assert "the paper" not in drawn(
        results | {"model": "/models/mine", "shape": {**shape, "d_model": 2048}}, 120)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_figure_is_cut_in_80_columns(results: dict[str, Any], lang: str) -> None:
    text = drawn(results, 80, lang)
    yes, no = (words(lang)(f"words.{name}") for name in ("yes", "no"))
    assert "<0.001" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for line in text.splitlines():
        if re.search(r"(\u224858\.3|37\.69|68\.80|35\.98)", line):
            assert line.rstrip().endswith((yes, no))


def test_another_clamp_is_only_compared_at_baseline(results: dict[str, Any]) -> None:
    results["steering"]["clamp"] = [{"feature": 597, "value": 11.0}]
    text = drawn(results, 120)
    assert "+37.69" not in text
    assert "68.80" in text
    assert "only baselines" in " ".join(text.split())


def test_cover_follows_our_interval(results: dict[str, Any]) -> None:
    results["paired"]["wildguard"]["refusal"] |= {"delta": .2, "low": .1, "high": .3}
    row = next(row for row in rows_of(results) if row.metric == "refusal")
    assert row.papers is not None
    assert row.papers.second is not None
    assert row.papers.second.covered is False
    assert row.papers.second.difference == pytest.approx(20 - 37.69)


def test_the_html_table_has_the_same_rows_and_escapes(results: dict[str, Any]) -> None:
    results["suites"]["xstest"]["title"] = "<b>XSTest</b>"
    html = evaluation_html_table(results)
    assert html.count("<tr") == 1 + len(rows_of(results))
    assert "<b>XSTest" not in html
    assert "&lt;b&gt;XSTest" in html


def test_a_figure_without_meaning_is_a_dash_with_its_reason(results: dict[str, Any]) -> None:
    for side in ("baseline", "steered"):
        results["runs"][side]["gsm8k"] = {"capability": None, "why": {"capability": "no <tasks>"}}
    results["paired"]["gsm8k"] = {"capability": None}
    assert 'title="no &lt;tasks&gt;"' in evaluation_html_table(results)
    assert re.search(r"GSM8K +capability +– +– +– +– +–", drawn(results, 120))


def test_an_unknown_metric_is_shown_by_its_name(results: dict[str, Any]) -> None:
    for side in ("baseline", "steered"):
        results["runs"][side]["xstest"]["gender_gap"] = {"mean": .25, "n": 4, "low": .1, "high": .4}
    results["paired"]["xstest"]["gender_gap"] = {"delta": -.015, "low": -.2, "high": .1, "p": .4,
                                                 "p_holm": 1.0, "n": 4}
    text = drawn(results | {"model": "dinghy"}, 120)
    assert "gender gap" in text
    assert "-0.015" in text


@pytest.mark.parametrize(("low", "high", "verb"), [(5.0, 55.0, "rose"), (-55.0, -5.0, "fell"),
                                                   (-5.0, 5.0, "did not clearly move")])
def test_the_headline_names_the_move_by_its_interval(results: dict[str, Any], low: float,
                                                     high: float, verb: str) -> None:
    results["discrimination"]["wildguard"]["paired"] |= {"low": low, "high": high}
    assert verb in evaluation_headline(results)


def test_the_headline_says_when_d_is_not_known(results: dict[str, Any]) -> None:
    results["discrimination"] = {}
    said = evaluation_headline(results)
    assert "D is not known" in said
    assert "refusal on WildGuardTest went from" in said.replace("Refusal", "refusal")


def test_the_headline_in_chinese(results: dict[str, Any]) -> None:
    said = evaluation_headline(results, "zh")
    assert "WildGuardTest" in said
    assert said.endswith("\N{IDEOGRAPHIC FULL STOP}")
    assert not re.search(r"[a-z]{4,} [a-z]{2,}", said)


def test_both_languages_have_the_same_keys_and_fill_the_same_names() -> None:
    en, zh = words("en").texts, words("zh").texts
    assert {(s, k) for s in en for k in en[s]} == {(s, k) for s in zh for k in zh[s]}
    for section, entries in en.items():
        for name, text in entries.items():
            wanted, got = (set(re.findall(r"\{(\w+)\}", one)) for one in (text, zh[section][name]))
            assert wanted == got, (section, name)
            assert text.strip(), (section, name)
            assert zh[section][name].strip(), (section, name)


def test_chinese_is_chinese() -> None:
    for section in ("page", "card", "not_covered", "headline", "words_explained"):
        for name, text in words("zh").texts[section].items():
            if name not in ("sae",):
                assert re.search(r"[\u3002\uff08\u4e00-\u9fff]", text), (section, name)


def test_another_language_is_refused() -> None:
    with pytest.raises(InputError, match="en or zh; got 'fr'"):
        words("fr")
