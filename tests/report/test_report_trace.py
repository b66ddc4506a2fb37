"""The page and the map of a traced conversation: escaped, silent on the network, told without
colour, and readable where half of it is missing."""

import copy
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from sternpost.report.trace import render_trace
from sternpost.report.trace_map import features_table, heat_map
from sternpost.report.trace_words import sentences, shown, signed

HOSTILE = '</span><script>alert(1)</script>"\' onload=x'
WORDS = (("<|user|>", "prompt"), ("How", "prompt"), (" do", "prompt"), (" I", "prompt"),
         ("\x1b[31m", "prompt"), (HOSTILE, "prompt"), ("\u202e水", "prompt"), ("", "prompt"),
         ("?", "t_inst"), ("<|end|>\n", "tail"), ("Sure", "response"), ("\t", "response"))


def an_entry(feature: int, part: str, number: int) -> dict[str, Any]:
    return {"feature": feature, "activation": 3.5 + number, "relative": 0.5 + number / 10,
            "surprise": number / 10, "contribution": None if part == "response"
            else (-1) ** number * number / 4}


def a_token(number: int, text: str, part: str) -> dict[str, Any]:
    reply = part == "response"
    return {"at": number, "id": 100 + number, "text": text, "part": part,
            "contribution": None if reply else (-1) ** number * number / 2,
            "surprise": number / 10, "risk": None if reply else min(0.05 + number / 10, 0.99),
            "features": [an_entry(feature, part, number) for feature in (646, 7)]}


@pytest.fixture
def trace() -> dict[str, Any]:
    features = [{**an_entry(646, "prompt", 8), "at": 8, "ablation": 2.25, "contrast": 1.5},
                {**an_entry(7, "prompt", 3), "at": 3, "ablation": -0.5, "contrast": None},
                {**an_entry(12, "prompt", 4), "at": None, "ablation": None, "contrast": None}]
    return {
        "schema_version": 1, "kind": "trace", "model": "a <model>", "sae": "sae", "layer": 2,
        "d_sae": 1024, "prompt": "How do I ...?", "reply": "Sure", "reply_given": False,
        "verdict": "compliance", "shown": False, "goal": "refusal", "about": "",
        "logit": {"token": 5, "text": "<I>", "source": "archetype", "value": 12.5,
                  "says": {"token": 6, "text": "Sure", "value": 14.0}, "difference": -1.5},
        "tokens": [a_token(number, *word) for number, word in enumerate(WORDS)],
        "features": features,
        "checked": [{key: f[key] for key in ("feature", "contribution", "ablation", "contrast")}
                    for f in features[:2]],
        "agreement": {"n": 2, "pearson": 0.98, "largest_gap": 0.25, "feature": 7},
        "gate": {"pack": "0" * 64, "kind": "residual", "layer": 2, "risk": 0.85,
                 "threshold": 0.56, "fired": True},
        "reference": {"source": "safe.jsonl", "prompts": 300, "tokens": 5229},
        "labels": {"646": "asks for <b>harm</b>"}, "why": {"contribution": "after the decision"},
        "warnings": ["doubt <this>"], "timing": {},
        "provenance": {"date": "2026-01-02T03:04:05", "hashes": {},
                       "settings": {"model": "a <model>", "prompt": HOSTILE, "feature": [646],
                                    "reply": None}}}


@pytest.fixture
def bare(trace: dict[str, Any]) -> dict[str, Any]:
    """Nothing but activations is known."""
    out = copy.deepcopy(trace)
    for token in out["tokens"]:
        token |= {"contribution": None, "surprise": None, "risk": None}
    for entry in (*out["features"], *(e for t in out["tokens"] for e in t["features"])):
        entry |= {"contribution": None, "surprise": None, "relative": None}
    for entry in out["features"]:
        entry |= {"ablation": None, "contrast": None}
    none = dict.fromkeys(("logit", "gate", "reference", "agreement"))
    why = {key: f"no {key}." for key in (*none, "relative")}
    return out | none | {"checked": [], "labels": {}, "why": why, "warnings": []}


class Page(HTMLParser):
    """Tags with attributes, the text that is seen, whether tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.seen, self.open = "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.seen += data


@pytest.mark.parametrize("kind", ["trace", "bare"])
def test_tags_nest_nothing_is_requested_and_nothing_hostile_gets_through(
        request: pytest.FixtureRequest, kind: str) -> None:
    html = render_trace(request.getfixturevalue(kind))
    page = Page(html)
    assert page.open == []
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    for tag, attrs in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "form", "base", "b<"}
        assert not {"src", "style", "onload"} & set(attrs)
        assert (attrs.get("href") or "#").startswith("#")
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert HOSTILE in page.seen
    assert "\x1b" not in html
    assert "\u202e" not in html
    own = "".join(re.findall(r"<(?:style|script)>(.*?)</(?:style|script)>", html, re.DOTALL))
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp", own)


def test_every_token_is_reached_by_keyboard_and_has_its_table(trace: dict[str, Any]) -> None:
    page = Page(render_trace(trace))
    tokens = [attrs for tag, attrs in page.tags if "tok" in (attrs.get("class") or "").split()]
    assert [a["href"] for a in tokens] == [f"#t{number}" for number in range(len(WORDS))]
    assert [attrs["id"] for tag, attrs in page.tags if tag == "article"] == [
        f"t{number}" for number in range(len(WORDS))]
    assert tokens[3]["aria-label"] == f"I, contributes {signed(-1.5)}, surprise 0.30, risk 0.350"
    assert sum("data-first" in a for a in tokens) == 1
    assert sum(tag == "table" for tag, _ in page.tags) == len(WORDS) + 2


def test_bars_have_heights_above_and_below_a_line(trace: dict[str, Any]) -> None:
    html = render_trace(trace)
    bars = [(kind, float(height)) for kind, height in re.findall(
        r'<svg class="above".*?<rect class="(adds|takes)"[^>]*height="([\d.]+)"', html)]
    sums = [t["contribution"] for t in trace["tokens"] if t["contribution"]]
    assert [kind for kind, _ in bars] == ["adds" if value > 0 else "takes" for value in sums]
    largest = max(height for _, height in bars)
    for (_, height), value in zip(bars, sums, strict=True):
        assert height / largest == pytest.approx((abs(value) / 4.5) ** 0.5, abs=0.01)
    assert html.count('class="below"') == len(WORDS)
    assert html.count('aria-label="The gate') == 2


def test_what_is_not_known_is_left_out_and_said(bare: dict[str, Any]) -> None:
    page = Page(render_trace(bare))
    for gone in ("ablated", "surprise", "risk "):
        assert gone not in page.seen
    told = sentences(bare)
    assert "first" not in told
    assert "no logit." in told["logit"]
    assert "no gate." in told["gate"]
    assert "no reference." in told["reference"]
    assert [c.header for c in features_table(bare).columns] == ["feature", "strongest at", "active"]


def test_an_empty_reply_and_an_inactive_token_are_shown(trace: dict[str, Any]) -> None:
    trace["tokens"] = trace["tokens"][:-2]
    trace["tokens"][1]["features"] = []
    page = Page(render_trace(trace))
    assert "No feature is active." in page.seen
    assert "empty" in page.seen
    heat_map(trace, 80)


# ---- the terminal --------------------------------------------------------------------------------

def printed(what: Any, width: int = 80) -> str:
    console = Console(width=width, no_color=True, force_terminal=False)
    with console.capture() as got:
        console.print(what)
    return got.get()


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_digits_stand_under_their_tokens_without_colour(trace: dict[str, Any],
                                                        width: int) -> None:
    said = printed(heat_map(trace, width), width)
    assert all(cell_len(line) <= width for line in said.splitlines())
    assert "\x1b" not in said
    digits = "".join(re.findall(r"^adds {6}(.*)$", said, re.M)).replace(" ", "")
    sums = [t["contribution"] or 0.0 for t in trace["tokens"] if t["part"] != "response"]
    assert digits == "".join(str(min(9, int(10 * (max(v, 0) / 4.5) ** 0.5)) or ".") for v in sums)
    risks = "".join(re.findall(r"^risk {6}(.*)$", said, re.M)).replace(" ", "")
    assert risks == "".join(str(int(10 * t["risk"])) for t in trace["tokens"][:len(sums)])
    if width == 200:
        lines = said.splitlines()
        at = 10 + sum(cell_len(shown(text)) for text, _ in WORDS[:4]) - 1
        assert lines[0][at] == "I"
        assert lines[2][at] == "5"


def test_the_table_says_all_that_the_page_does(trace: dict[str, Any]) -> None:
    said = printed(features_table(trace), 100)
    for word in ("646", "? (8)", signed(2.25), signed(-0.5), "asks for <b>harm</b>", "lead"):
        assert word in said
    assert printed(features_table(trace), 40)


def test_sentences_do_not_flatter(trace: dict[str, Any]) -> None:
    told = sentences(trace)
    assert told["reply"] == "The reply shows no refusal (verdict: compliance)."
    assert "1.50 below that of \u201cSure\u201d, which it says" in told["logit"]
    assert told["first"].startswith("Feature 646 (asks for <b>harm</b>) adds most to the logit")
    assert "loses 2.25" in told["first"]
    assert "above its threshold of 0.560: it fires" in told["gate"]
    assert "They hold no replies" in told["reference"]
    trace["gate"] |= {"risk": 0.2, "fired": False}
    trace["logit"] |= {"difference": 0.0}
    trace["reference"] |= {"tokens": 150}
    told = sentences(trace)
    assert "it stays shut" in told["gate"]
    assert "the token that it says" in told["logit"]
    assert "So few tell little" in told["reference"]


@pytest.mark.parametrize(("text", "want"), [
    ("a\nb", "a\u23ceb"), ("\x1b[0m", "\\x1b[0m"), ("", "\u00b7"), ("\u202e", "\\u202e"),
    ("\u3000", " "), ("水", "水"), (" a", " a")])
def test_a_token_can_be_printed_anywhere(text: str, want: str) -> None:
    assert shown(text) == want


# ---- in a browser --------------------------------------------------------------------------------

@pytest.mark.browser
@pytest.mark.skipif(not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                    reason="no Chromium found; install it: apt-get install chromium")
def test_the_script_shows_the_table_of_a_token(tmp_path: Path, trace: dict[str, Any]) -> None:
    from report.test_report_browser import browse, colours

    picture = tmp_path / "picture.png"
    dom = browse(tmp_path, render_trace(trace), "--dump-dom")
    browse(tmp_path, render_trace(trace), f"--screenshot={picture}", "--window-size=1280,1600")
    assert colours(picture.read_bytes())[2] > 100
    lens = re.search(r'<aside class="lens"[^>]*>(.*?)</aside>', dom, re.DOTALL)
    assert lens is not None
    assert "hidden" not in lens[0].partition(">")[0]
    assert "where the request ends" in lens[1] or "in the template" in lens[1]
    assert dom.count('tabindex="0"') == 1
    assert dom.count('tabindex="-1"') == len(WORDS) - 1
