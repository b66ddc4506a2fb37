"""The report: its numbers, its escaping, its silence on the network, its gaps."""

import re
from html.parser import HTMLParser

import pytest

from sternpost.report import headline, render_report
from sternpost.report.replies import LETTERS, PROMPTS, choose

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


@pytest.fixture(params=["plain", "full", "ugly"])
def run(request, fake_results, fake_samples, ugly_run):
    if request.param == "ugly":
        return ugly_run
    results = fake_results(full=request.param == "full")
    return results, fake_samples(results)


def test_tags_nest_and_nothing_is_requested(run):
    html = render_report(*run)
    page = Page(html)
    assert page.open == []
    for tag, attrs in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "form", "base"}
        assert not {"src", "srcset", "action", "xlink:href", "style"} & set(attrs)
        assert attrs.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attrs)
    own = re.findall(r"<style>(.*?)</style>|<script>(.*?)</script>", html, re.DOTALL)
    assert len(own) == 2
    asking = r"https?:|@import|url\(|fetch\(|XMLHttp|import\("
    assert not re.search(asking, "".join(map("".join, own)))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    policy = next(attrs["content"] for _, attrs in page.tags if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert len(html.encode("utf-8", "replace")) < 3_000_000


def test_everything_important_is_said(run):
    results, samples = run
    page = Page(render_report(results, samples))
    assert headline(results) in next(a["content"] for t, a in page.tags
                                     if a.get("name") == "description")
    texts = [*results["warnings"], results["provenance"]["command"],
             "Judge: " + results["judge"]["name"]]
    for text in texts:
        assert re.sub(r"\s+", " ", text) in page.visible
    for condition in results["conditions"]:
        if condition["unsafe_refusal"]:
            rate = condition["unsafe_refusal"]
            assert f"{100 * rate['hits'] / rate['n']:.1f} %" in page.visible
    for candidate in results["candidates"]:
        assert str(candidate["feature"]) in page.visible
    for value in results["provenance"]["hashes"].values():
        assert value in page.visible


def test_gate_and_capability_come_and_go(fake_results, fake_samples):
    full, plain = fake_results(full=True), fake_results()
    shown = Page(render_report(full, fake_samples(full))).visible
    assert "0.973 [0.955, 0.988], n = 300" in shown and "2.9 % [1.1, 7.1] (4/140)" in shown
    absent = Page(render_report(plain, fake_samples(plain))).visible
    assert "AUROC" not in absent and "of answers right" not in absent
    assert "--no-gate was given" in absent and "no capability prompts were given" in absent


def test_capability_is_traded_only_where_it_was_measured(fake_results):
    full = render_report(fake_results(full=True), [])
    assert full.index('class="plot plane trade"') < full.index("Unsafe refusal against")
    plain = render_report(fake_results(), [])
    assert "plane trade" not in plain and "Unsafe refusal against over-refusal" in plain


def test_replies_are_cut_counted_and_chosen(fake_results, fake_samples):
    results = fake_results()
    samples = fake_samples(results, n=80)
    samples[0]["reply"] = "x" * (LETTERS + 7)
    shown = choose(results, samples)
    assert len(shown.items) == PROMPTS and shown.prompts == 160
    changed = [item.changed for item in shown.items]
    assert changed == sorted(changed, reverse=True) and not changed[-1]
    assert {item.kind for item in shown.items[:2]} == {"unsafe", "safe"}
    text = Page(render_report(results, samples)).visible
    assert "60 of 160 prompts" in text and f"All {len(samples)} replies" in text


def test_long_reply_says_what_is_missing(fake_results, fake_samples):
    results = fake_results()
    samples = fake_samples(results, n=3)
    for sample in samples:
        sample["reply"] = "x" * (LETTERS + 7)
    assert "7 more letters in samples.jsonl" in Page(render_report(results, samples)).visible


def test_size_is_bounded_with_huge_hostile_replies(fake_results, fake_samples):
    results = fake_results()
    samples = fake_samples(results, n=60)
    for sample in samples:
        sample["reply"] = '<"' * 5000
    assert len(render_report(results, samples).encode()) < 3_000_000


def test_harmful_text_is_folded_without_script(fake_results, fake_samples):
    results = fake_results()
    page = Page(render_report(results, fake_samples(results, n=4)))
    items = [a for t, a in page.tags if t == "details" and a.get("class") == "item"]
    assert len(items) == 8 and not any("open" in item for item in items)
    assert {i["data-harmful"] for i in items if i["data-kind"] == "unsafe"} == {"yes"}
    hidden = [a for t, a in page.tags if "needs-js" in (a.get("class") or "")]
    assert hidden and all("hidden" in a for a in hidden)


def test_conversation_prompts_read_as_turns(fake_results, fake_samples):
    results = fake_results()
    samples = fake_samples(results, n=1)
    for sample in samples:
        sample["prompt"] = '[{"content":"hello there","role":"user"}]'
    assert "user: hello there" in Page(render_report(results, samples)).visible


def test_almost_nothing_still_makes_a_page(fake_results):
    one = fake_results()
    one["conditions"], one["candidates"] = one["conditions"][:1], []
    assert "No reference clamp" in Page(render_report(one, [])).visible
    assert Page(render_report({"model": "m", "conditions": []}, [])).open == []


def test_same_input_same_bytes(run):
    assert render_report(*run) == render_report(*run)
