"""An evaluation's page and card: whole, escaped, blurred, of bounded size, in two languages."""

import copy
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from browsing import Tab, browse, needs_chromium
from evaluations import NASTY, line, make_results, make_samples
from sternpost.report import evaluation_card, render_evaluation
from sternpost.report.evaluation_replies import PROMPTS, choose

SECTIONS = ("front", "table", "groups", "capability", "attacks", "fire", "replies", "judge", "data",
            "not-covered", "made", "words")


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    lines = make_samples(24)
    return make_results(lines), lines


@pytest.fixture
def results(made: Any) -> dict[str, Any]:
    return copy.deepcopy(made[0])


@pytest.fixture
def lines(made: Any) -> list[dict[str, Any]]:
    return copy.deepcopy(made[1])


class Whole(HTMLParser):
    """Every tag closed, no id twice, links lead to ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [str(named["id"])] if "id" in named else []
        self.links += [str(named["href"])] if "href" in named else []
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_is_whole_and_asks_for_nothing(results: Any, lines: Any, lang: str) -> None:
    html = render_evaluation(results, lines, lang)
    parser = Whole()
    parser.feed(html)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert {link[1:] for link in parser.links} <= set(parser.ids)
    assert set(SECTIONS) <= set(parser.ids)
    assert "default-src 'none'" in unescape(html)
    assert not re.search(r"(src|href)=[\"']?(https?:|//)|url\(|@import", html)
    assert f'<html lang="{"en" if lang == "en" else "zh-Hans"}">' in html
    assert "None" not in re.sub(r"<(script|style)>.*?</\1>", "", html, flags=re.S)


def test_the_page_follows_the_evaluations_own_language(results: Any, lines: Any) -> None:
    assert render_evaluation(results | {"lang": "zh"}, lines) == \
        render_evaluation(results, lines, "zh")


def test_what_a_model_says_is_text_and_nothing_else(results: Any, lines: Any) -> None:
    for one in lines[:40]:
        one |= {"reply": NASTY, "prompt": NASTY + one["prompt"], "reason": NASTY,
                "category": NASTY}
    results |= {"model": NASTY, "warnings": [NASTY]}
    html = render_evaluation(results, lines)
    assert "<script>alert" not in html
    assert "<img" not in html
    assert html.count("<script>") == 1
    assert "<img" not in evaluation_card(results).partition("## ")[2].replace(NASTY, "")


def test_harmful_text_is_marked_to_be_blurred_and_safe_text_is_not(results: Any,
                                                                   lines: Any) -> None:
    html = render_evaluation(results, lines)
    items = re.findall(r'<details class="item".*?</details>', html, re.S)
    assert len(items) > 50
    for item in items:
        harmful = 'data-harmful="yes"' in item
        assert harmful == bool(re.search(r'data-kind="(unsafe|script)"', item))
        asked = re.findall(r"<blockquote (.*?)>", item)
        assert all(("secret" in one) == harmful for one in asked)
        texts = re.findall(r'<p class="text(.*?)"', item)
        assert len(texts) >= 2
        assert all(("secret" in one) == harmful for one in texts)


def test_both_replies_stand_side_by_side_with_reason_risk_and_edits(results: Any,
                                                                    lines: Any) -> None:
    html = render_evaluation(results, lines)
    item = next(found for found in re.findall(r'<details class="item".*?</details>', html, re.S)
                if "unsafe request 0 of wildguard" in found)
    assert item.index("<b>baseline</b>") < item.index("<b>steered</b>")
    assert item.count("looks like") == 2
    assert re.search(r"risk (0\.\d{3}|under 0\.001), gate", item)
    assert "clamp 597 12.0" in item


def test_a_script_is_one_item_with_its_turns_in_order(results: Any, lines: Any) -> None:
    shown = choose(results, lines)
    scripts = [item for item in shown.items if item.kind == "script"]
    assert len(scripts) == 12
    for item in scripts:
        assert [turn.number for turn in item.turns] == [1, 2, 3]
        assert [turn.harmful for turn in item.turns] == [False, False, True]
        assert [turn.asked.split()[0] for turn in item.turns] == ["mild", "bolder", "harmful"]
        assert all([r.side for r in turn.replies] == ["baseline", "steered"]
                   for turn in item.turns)


def test_of_thousands_a_few_hundred_are_shown_changed_ones_first(results: Any) -> None:
    many = []
    for i in range(3000):
        for condition in ("baseline", "steered"):
            changed = i % 10 == 0 and condition == "steered"
            many.append(line("wildguard", condition, "unsafe", f"request {i}", reply="text " * 400,
                             verdict="compliance" if changed else "refusal", hit=not changed))
    shown = choose(results, many)
    assert (len(shown.items), shown.prompts, shown.changed, shown.replies) == \
        (PROMPTS, 3000, 300, 6000)
    marks = [item.changed for item in shown.items]
    assert marks == sorted(marks, reverse=True)
    assert sum(marks) == int(PROMPTS * .8)
    html = render_evaluation(results, many)
    assert len(html) < 3_000_000
    assert f"{PROMPTS} of 3000 prompts are shown" in html
    assert "(300 changed)" in html
    assert "more letters in samples.jsonl" in html


def test_an_evaluation_of_one_small_suite_renders(results: Any, lines: Any) -> None:
    few = [one for one in lines if one["suite"] == "build_ups"]
    small = {"build_ups": results["suites"]["build_ups"]}
    bare = make_results(few, "dinghy", suites=small, tasks={}, fire=None, groups={}, cost={},
                        warnings=[], discrimination={}, timing={},
                        runs={side: {"build_ups": results["runs"][side]["build_ups"]}
                              for side in ("baseline", "steered")},
                        paired={"build_ups": results["paired"]["build_ups"]},
                        steering={"pack": {"source": "dinghy", "sha256": "a" * 64,
                                           "level": "high"}, "sae": None, "clamp": []},
                        judge={"name": "wordlist", "accuracy": None})
    html = render_evaluation(bare, few)
    assert "pack dinghy at level high" in html
    assert "has not been measured" in html
    assert 'id="front"' not in html
    card = evaluation_card(bare)
    assert "Over-refusal was not measured" in card
    assert "Capability was not measured" in card


@pytest.mark.parametrize(("lang", "heads"), [
    ("en", ("Intended use", "What was measured", "What it costs", "The judge", "Data",
            "Not covered")),
    ("zh", ("\u7528\u9014", "\u6d4b\u91cf\u7ed3\u679c", "\u4ee3\u4ef7", "\u8bc4\u5224",
            "\u6570\u636e", "\u672a\u6db5\u76d6"))])
def test_the_card_has_all_its_parts(results: Any, lang: str, heads: tuple[str, ...]) -> None:
    card = evaluation_card(results, lang)
    assert [text for text in re.findall(r"^## (.*)$", card, re.M) if text in heads] == list(heads)
    for about in results["suites"].values():
        assert about["files"][0]["sha256"] in card
    assert card.count("Apache-2.0") == len(results["suites"])
    over = results["runs"]["steered"]["xstest"]["over_refusal"]
    assert f"({over['hits']}/{over['n']})" in card
    assert "0.0412" in card
    assert "88.4 %" in card
    tables = [len(re.findall(r"(?<!\\)\|", row)) for row in card.splitlines() if row[:1] == "|"]
    assert len(set(tables)) == 2  # every row of a table has its head's columns


def test_families_tell_how_the_same_prompts_changed(results: Any, lines: Any) -> None:
    change = results["groups"]["mmlu"]["family"]["recall"]["paired"]["capability"]
    change |= {"delta": -.123, "low": -.345, "high": .067}
    told = "-12.3 [-34.5, +6.7]"
    (row,) = [row for row in evaluation_card(results).splitlines() if "recall (MMLU)" in row]
    assert told in row
    html = render_evaluation(results, lines)
    at = html.index('id="capability"')
    assert "<small><span>[-34.5, +6.7]</span></small>" in html[at:html.index("</section>", at)]
    results["groups"]["mmlu"]["family"]["recall"]["paired"] = {"capability": None}
    (row,) = [row for row in evaluation_card(results).splitlines() if "recall (MMLU)" in row]
    assert row.endswith("change \N{EN DASH}.")


def test_groups_tell_how_they_changed_below_their_names(results: Any, lines: Any) -> None:
    groups = results["groups"]["wildguard"]["language"]
    groups["en"]["paired"]["refusal"] |= {"delta": .4567, "low": -.0001, "high": .789}
    groups["zh"]["paired"]["refusal"] = None
    html = render_evaluation(results, lines)
    assert ">+46 [+0, +79]</text>" in html
    at = html.index("WildGuardTest: unsafe refusal by language")
    chart = html[at:html.index("</svg>", at)]
    assert len(re.findall(r">[+-]\d+ \[[+-]\d+, [+-]\d+\]</text>", chart)) == 1
    assert "fewer than 5 prompts has none" in html


def test_the_page_says_the_models_shape(results: Any, lines: Any) -> None:
    shape = {"architecture": "Phi3ForCausalLM", "n_layers": 8, "context": None,
             "why": {"context": "not stated"}}
    html = render_evaluation(results | {"shape": shape}, lines)
    assert "<dt>architecture</dt><dd>Phi3ForCausalLM</dd>" in html
    assert "<dt>n layers</dt><dd>8</dd>" in html


def test_families_stand_apart_with_their_intervals(results: Any) -> None:
    card = evaluation_card(results)
    for family in ("reasoning (MMLU)", "recall (MMLU)", "reasoning (GSM8K)"):
        (told,) = [row for row in card.splitlines() if f"Capability, {family}" in row]
        assert len(re.findall(r"\[[-+\d., ]+\]", told)) == 3


class TestBrowser:
    pytestmark = needs_chromium

    def test_blur_filters_and_more(self, results: Any, lines: Any, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        page.write_text(render_evaluation(results, lines), encoding="utf-8")
        with Tab(tmp_path) as tab:
            tab.open(page.as_uri())
            tab.run("document.documentElement.style.scrollBehavior = 'auto'")
            blur = "getComputedStyle(document.querySelector('.item[open] .text')).filter"
            tab.run("document.querySelector('.item[data-kind=unsafe]').open = true")
            assert "blur" in tab.run(blur)
            tab.click(".item[open] .reveal")
            assert tab.run(blur) == "none"
            tab.click(".item[open] .reveal")
            assert "blur" in tab.run(blur)
            seen = "document.querySelectorAll('.item:not([hidden])').length"
            assert tab.run(seen) == 40
            tab.click("#more")
            assert tab.run(seen) == 80
            assert tab.run("""(() => { const s = document.querySelector('[data-filter=kind]');
                s.value = 'script'; s.dispatchEvent(new Event('change'));
                return document.querySelector('#count').textContent; })()""") == \
                "12 of these 162 prompts match".replace(
                    "162", str(tab.run("document.querySelectorAll('.item').length")))
            assert tab.run(seen) == 12
            assert tab.run("document.documentElement.scrollWidth <= innerWidth")
            assert tab.console == []

    @pytest.mark.parametrize("lang", ["en", "zh"])
    def test_nothing_on_the_console_and_a_narrow_page_fits(self, results: Any, lines: Any,
                                                           tmp_path: Path, lang: str) -> None:
        html = render_evaluation(results, lines, lang)
        browse(tmp_path, html, "--dump-dom", "--window-size=390,800")
        with Tab(tmp_path / "tab") as tab:
            tab.look(390, 800, dark=True)
            tab.open((tmp_path / "report.html").as_uri())
            assert tab.run("document.documentElement.scrollWidth <= 390")
