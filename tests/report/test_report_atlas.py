"""The atlas: its links, its escaping, its silence on the network, its gaps."""

import json
import re
from html.parser import HTMLParser

import pytest

from atlases import NASTY, about, dead, feature, hazardous, some
from sternpost.errors import InputError
from sternpost.report.atlas import activation, atlas_pages, density, hits, signed, spaced, visible
from sternpost.report.html import asset, policy

VOID = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """Tags, attributes, visible text, and whether tags nest."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def visible(self):
        return re.sub(r"\s+", " ", "".join(self.text))

    def links(self):
        return [attrs["href"] for tag, attrs in self.tags if tag == "a" and "href" in attrs]


def test_pages_come_one_by_one_in_order():
    pages = atlas_pages(about(), some())
    assert next(pages)[0] == "index.html" and next(pages)[0] == "feature-0.html"
    assert [name for name, _ in pages] == [f"feature-{at}.html" for at in range(1, 12)]


def test_features_are_read_twice_and_never_held():
    class Anew:
        passes, alive = 0, 0

        def __iter__(self):
            self.passes += 1
            yield from map(feature, (4, 2, 9))

    features = Anew()
    pages = dict(atlas_pages(about(), features))
    assert features.passes == 2
    assert re.findall(r'rel="(prev|next)".*?href|href="([^"]*)" rel="(prev|next)"',
                      pages["feature-2.html"]) == [("", "feature-4.html", "prev"),
                                                   ("", "feature-9.html", "next")]
    with pytest.raises(InputError, match="got an iterator"):
        next(atlas_pages(about(), iter([feature(1)])))
    with pytest.raises(InputError, match="got 1 different ids on 2 features"):
        next(atlas_pages(about(), [feature(1), feature(1)]))


def test_every_link_leads_to_a_page():
    pages = dict(atlas_pages(about(warnings=["doubt it"]), some()))
    seen = set()
    for name, html in pages.items():
        ids = {attrs["id"] for _, attrs in Page(html).tags if "id" in attrs}
        for link in Page(html).links():
            file, _, place = link.partition("#")
            assert file in pages or not file, (name, link)
            assert not place or file or place in ids, (name, link)
            seen.add(file)
    assert seen - {""} == set(pages)
    assert "not in this atlas" in pages["feature-11.html"]  # its neighbours are 12 and 13
    assert 'id="warnings"' in pages["index.html"] and "doubt it" in pages["index.html"]


@pytest.mark.parametrize("name", ["index.html", *(f"feature-{at}.html" for at in (0, 2, 5, 7, 8))])
def test_tags_nest_and_nothing_is_requested(name):
    html = dict(atlas_pages(about(model=NASTY, warnings=[NASTY]), some()))[name]
    page = Page(html)
    assert page.open == []
    for tag, attrs in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "form", "base"}
        assert not {"src", "srcset", "action", "xlink:href", "style"} & set(attrs)
        assert re.match(r"#|index\.html|feature-\d+\.html", attrs.get("href") or "#")
        assert not any(key.startswith("on") for key in attrs)
    code = [attrs for tag, attrs in page.tags if tag == "script"]
    assert code == [{"type": "application/json", "id": "features"}, {}][-len(code):]
    assert len(code) == (2 if name == "index.html" else 1)
    style, script = asset("atlas.css"), asset("atlas.js")
    said = next(attrs["content"] for _, attrs in page.tags if "http-equiv" in attrs)
    assert said == policy(style, script) and "unsafe" not in said
    assert f"<style>{style}</style>" in html and f"<script>{script}</script>" in html
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|import\(|innerHTML|eval", style
                         + script)
    html.encode("utf-8")
    unseen = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
    assert not re.search(unseen, html)


def test_hostile_texts_are_whole_and_only_text():
    pages = dict(atlas_pages(about(), some()))
    page = Page(pages["feature-8.html"])
    assert page.visible.count(re.sub(r"\s+", " ", visible(NASTY))) >= 6
    assert "U+202E" in page.visible and "\u23ce" in page.visible and "\u241b" in page.visible
    data = re.search(r'id="features">(.*?)</script>', pages["index.html"], re.DOTALL).group(1)
    assert "<" not in data
    assert next(row for row in json.loads(data)["rows"] if row[0] == 8)[1] == visible(NASTY)


def test_index_rows_say_what_is_known_and_null_where_nothing_is():
    html = dict(atlas_pages(about(), some()))["index.html"]
    data = json.loads(re.search(r'id="features">(.*?)</script>', html, re.DOTALL).group(1))
    rows = {row[0]: row for row in data["rows"]}
    assert data["names"]["weapons"] == "Weapons" and data["names"]["theft"] == "theft"
    assert rows[2] == [2, 'fires on "bomb"', "bombs \u00b7 \u23ce", ["weapons", "unsafe"], 0.003,
                       51.0, 4.25, [17, 20, *rows[2][7][2:]], [38.2, 31.2, 45.2], 1, 1]
    assert rows[0][3] == [] and rows[0][6] is None and rows[0][9:] == [0, 0]  # no link
    assert rows[5][4:] == [0.0, None, None, None, None, 0, 0]
    assert rows[7][4:] == [None, None, None, None, [1.0, None, None], 1, 0]
    for choice in ("all, 12", "found by a method, 4", "linked to a hazard, 3", "dead, 1"):
        assert choice in Page(html).visible


def test_index_without_script_is_a_table_that_says_what_is_missing():
    features = [feature(at) for at in range(620)]
    html = next(atlas_pages(about(), features))[1]
    plain = Page(re.search(r"<noscript>(.*?)</noscript>", html, re.DOTALL).group(1))
    assert len(plain.links()) == 500 and plain.links()[-1] == "feature-499.html"
    assert "JavaScript is off" in plain.visible and "first 500 of 620 features" in plain.visible
    few = next(atlas_pages(about(), features[:3]))[1]
    assert "Below are the first" not in few and few.count('<tr><td data-label="feature">') == 3


def test_a_features_page_says_what_is_known():
    text = Page(dict(atlas_pages(about(), some()))["feature-2.html"]).visible
    for said in ("detection 17/20 = 85 % [77, 93], fuzzing 12/20 = 60 % [49, 71]",
                 "99 % are below 35.2", "mean where active 9.10", "0.30 %", "on safe prompts 1.0 %",
                 "4.25 times", "17/20 = 85 % [64, 95]", "q under 0.001", "+38.2 points",
                 "refusal, clamped at 70.1", "[31.2, 45.2]", "+3.5 points", "paper 1",
                 "integrated gradients 4", "prompt 70 %, template's tail 10 %, reply 20 %",
                 "0.83 3 fires on \"knife\"", "\u2423bombs 1.23", "stone -0.75",
                 "51.0 corpus How", "44.0 unsafe prompt, Weapons, in the prompt",
                 "About the 50 % quantile"):
        assert said in text, said


def test_active_tokens_are_told_apart_without_colour():
    html = dict(atlas_pages(about(), some()))["feature-0.html"]
    texts = re.findall(r'<p class="text"[^>]*>(.*?)</p>', html)
    assert texts[0] == (
        'How <span class="t2" title="17.0">to</span> <mark class="t4" title="51.0">'
        'river<sup>51.0</sup></mark><span class="t1" title="2.55">\u23ce</span> it?')
    assert 'class="t1" title="8.00">river<sup>8.00</sup></mark>' in texts[2]  # weaker: thinner
    widths = dict(re.findall(r"\.(t\d) \{ border-bottom-width: (\dpx)", asset("atlas.css")))
    assert widths == {"t2": "2px", "t3": "3px", "t4": "4px"}


def test_unsafe_texts_are_folded_and_others_are_not():
    html = dict(atlas_pages(about(), some()))["feature-2.html"]
    folded = re.findall(r'<details class="context">(.*?)</details>', html, re.DOTALL)
    assert len(folded) == 1 and "unsafe prompt" in folded[0] and 'class="text"' in folded[0]
    assert html.count('<div class="context">') == 2
    strange = dict(atlas_pages(about(), some()))["feature-8.html"]
    assert '<div class="context">' not in strange  # a kind that nobody knows is folded, too


def test_dead_features_have_a_page():
    html = dict(atlas_pages(about(), [dead(0), feature(1)]))["feature-0.html"]
    text = Page(html).visible
    assert "active on none of the 1,234,567 tokens" in text and "never active" in text
    assert "<svg" not in html and "Hazards" not in text and "Density" not in text


def test_histogram_says_in_words_what_it_draws():
    html = dict(atlas_pages(about(), [feature(0)]))["feature-0.html"]
    assert ('aria-label="Histogram of 981 activations from 0.00 to 60.0; half of them are below '
            '20.0"') in html
    path = re.search(r'class="column" d="([^"]+)"', html).group(1)
    tops = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)H", path)]
    assert len(tops) == 3 and tops == sorted(tops) and tops[-1] < 172  # a single one can be seen


def test_who_labelled_is_said():
    by = {"by": "openai:a-model", "date": "2026-01-02T03:04:05"}
    one = feature(0, label_by=by["by"], label_date=by["date"])
    pages = dict(atlas_pages(about(labels=by), [one]))
    assert "written by openai:a-model, 2026-01-02." in Page(pages["index.html"]).visible
    assert "Labelled by openai:a-model, 2026-01-02;" in Page(pages["feature-0.html"]).visible


@pytest.mark.parametrize(("value", "text"), [
    (None, "\u2013"), (41.0, "41.0"), (9.123, "9.12"), (-0.5, "-0.500"), (0.03123, "0.0312")])
def test_activations_as_people_read_them(value, text):
    assert activation(value) == text


@pytest.mark.parametrize(("value", "text"), [
    (None, "\u2013"), (0.0, "0 %"), (0.5, "50.0 %"), (0.0123, "1.2 %"), (0.0001234, "0.012 %"),
    (2e-6, "< 0.001 %")])
def test_densities_as_people_read_them(value, text):
    assert density(value) == text


def test_small_things_as_people_read_them():
    assert hits(None) == hits({"hits": 0, "n": 0}) == signed(None) == "\u2013"
    assert hits({"hits": 1, "n": 2}) == "1/2 = 50 %"
    assert signed(-4) == "-4.0" and signed({"points": 0.0}) == "+0.0"
    assert [spaced(text) for text in (" a b ", "  ", "", "\n")] == [
        "\u2423a b\u2423", "\u2423\u2423", "", "\u23ce"]


def test_palette_is_the_reports():
    ours, theirs = (re.findall(r"--[a-z-]+: [^;]+;", asset(name))
                    for name in ("atlas.css", "report.css"))
    assert ours and set(ours) <= set(theirs)


def test_same_input_same_bytes():
    one, other = (dict(atlas_pages(about(), [hazardous(1, "bomb", 3.0), dead(2)])) for _ in "ab")
    assert one == other
