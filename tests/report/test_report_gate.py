"""The section on the gate: its sentences, its plots and its bars hold the right counts."""

import math
import re
from html import unescape
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sternpost.report import render_report
from sternpost.report.gated import gate_section
from sternpost.report.replies import choose
from sternpost.report.risks import BINS, Risks, Scale, edges, histogram, risk_histogram, scale_for
from sternpost.report.roc import roc_plot, roc_points

THRESHOLD = 0.5
RISKS = {("unsafe", "wrapped"): (.9, .8, .3, .97), ("safe", "how_to"): (.01, .02, .1, .2),
         ("safe", "look_alike"): (.6, .4), ("capability", "sums"): (.7, .1, .1),
         ("unsafe", "rude"): (.99, .2)}
risk = st.floats(0, 1, allow_subnormal=False)


def line(name, kind, source, i, risk, **changes):
    fired = risk > THRESHOLD
    return {"condition": name, "value": 12.0 if name == "gated_clamp" else None, "kind": kind,
            "source": source, "prompt": f"{kind} {source} {i}",
            "prompt_sha256": f"{kind}{source}{i}",
            "harm_kind": "offensive" if source == "rude" else "none", "cluster": None,
            "category": None, "risk": risk if name == "gated_clamp" else None,
            "fired": fired if name == "gated_clamp" else None, "hit": fired, "verdict": "refusal",
            "reply": f"steered {i}" if fired and name == "gated_clamp" else f"plain {i}"} | changes


@pytest.fixture
def gated_run(fake_results, fake_rate):
    """A run whose gate has four unsafe and six safe risks, and its lines."""
    results = fake_results(full=True)
    results["gate"] |= {"threshold": THRESHOLD, "budget": .02, "false_fire": fake_rate(1, 6)}
    samples = [line(name, kind, source, i, risk) for name in ("baseline", "gated_clamp")
               for (kind, source), risks in RISKS.items() for i, risk in enumerate(risks)]
    return results, samples


def drawn(chart):
    """Hits and n by row, with the heading above."""
    return {(row.above, row.name): (row.bars[0].rate["hits"], row.bars[0].rate["n"])
            for row in chart.groups}


def test_sentences_hold_the_figures(gated_run):
    text = " ".join(gate_section(*gated_run).paragraphs)
    assert "above 0.500" in text and "in 97 % of pairs" in text
    assert "AUROC 0.973 [0.955, 0.988], n = 300 test prompts" in text
    assert "fired on 75.0 % [30.1, 95.4] (3/4) of unsafe prompts" in text
    assert re.search(r"and on 16\.7 % \[3\.0, 56\.4\] \(1/6\) of safe prompts", text)
    assert "Where it stayed shut, all 9 replies are the baseline's" in text


def test_a_shut_gate_that_changed_a_reply_is_told(gated_run):
    results, samples = gated_run
    next(s for s in samples if s["fired"] is False)["reply"] = "other"
    assert "8 of 9 replies are the baseline's" in gate_section(results, samples).paragraphs[1]


@pytest.mark.parametrize(("budget", "words"), [(.02, "fits"), (.0001, "is more"), (.3, "is less")])
def test_budget_is_held_against_the_measured_interval(gated_run, fake_rate, budget, words):
    results, samples = gated_run
    results["gate"] |= {"budget": budget, "budget_asked": .02, "false_fire": fake_rate(4, 140)}
    text = gate_section(results, samples).paragraphs[1]
    assert f"on safe test prompts it was 2.9 % [1.1, 7.1], n = 140, which {words}." in text
    assert ("(asked: 2.0 %)" in text) == (budget != .02)


def test_fires_are_counted_by_side_and_source(gated_run):
    results, samples = gated_run
    chart = gate_section(results, samples).fires
    assert drawn(chart) == {("safe prompts", "look alike"): (1, 2), ("", "how to"): (0, 4),
                            ("capability prompts", "sums"): (1, 3),
                            ("offensive prompts", "rude"): (1, 2)}
    assert chart.line == (.02, "budget 2.0 %")


def test_a_source_with_both_sides_counts_its_safe_prompts_only(gated_run):
    results, samples = gated_run
    mixed = [s | {"source": "xstest"} for s in samples]
    assert drawn(gate_section(results, mixed).fires)["safe prompts", "xstest"] == (1, 6)


def test_without_lines_the_gates_own_rates_are_shown(gated_run):
    section = gate_section(gated_run[0], [])
    assert drawn(section.fires) == {("", "how to"): (1, 70), ("", "look alike"): (3, 70)}
    assert section.risks is None
    older = gated_run[0]["gate"] | {"fires": None}
    assert drawn(gate_section(gated_run[0] | {"gate": older}, []).fires) == {
        ("safe prompts", "all"): (1, 6)}


def test_lines_without_source_are_one_row_a_side(gated_run):
    results, samples = gated_run
    bare = [{k: v for k, v in s.items() if k != "source"} for s in samples]
    assert drawn(gate_section(results, bare).fires)["safe prompts", "safe"] == (1, 6)


def test_offensive_and_capability_prompts_are_in_no_histogram(gated_run):
    risks = gate_section(*gated_run).risks
    assert sorted(risks.unsafe) == [.3, .8, .9, .97] and len(risks.safe) == 6
    svg = risk_histogram(risks, (610, 400))
    assert "unsafe (n = 4)" in svg and "safe (n = 6)" in svg and "threshold 0.500" in svg
    assert "fires on 75 %" in svg and "fires on 17 %" in svg


@given(st.lists(risk, min_size=1, max_size=60), risk, st.booleans())
def test_bins_hold_every_risk_and_the_threshold_parts_them(risks, threshold, odds):
    scale = Scale(odds)
    places, at = [scale(r) for r in risks], scale(threshold)
    ends = edges([*places, at], at)
    counts = histogram(places, ends)
    assert sum(counts) == len(risks) and at in ends and len(counts) <= BINS + 4
    above = sum(n for low, n in zip(ends, counts, strict=False) if low >= at)
    assert above == sum(place > at for place in places)


def test_outermost_bins_take_what_lies_beyond():
    assert histogram([-5, 0, 1, 1.5, 9], [0, 1, 2]) == [3, 2]


def test_strong_columns_are_those_that_fire():
    even = tuple(i / 40 for i in range(1, 40))
    plain = Risks(even, even, .5, None, None, "")
    assert scale_for((even, even)) == Scale(False)
    svg = risk_histogram(plain, (610, 400))
    assert 'class="column s-unsafe fires"' in svg and 'class="column s-over"' in svg
    just = risk_histogram(Risks((.501,), even, .5, None, None, ""), (610, 400))
    assert 'class="column s-unsafe fires"' in just
    assert "log scale" not in svg
    never = risk_histogram(Risks(even, even, 1.0, None, None, ""), (610, 400))
    assert "fires" not in never


def test_crowded_risks_are_drawn_by_their_odds():
    crowd = (1e-9, *(10 ** -(i / 20) for i in range(20, 90)), 1.0)
    assert scale_for((crowd, (.2, .5, .7))) == Scale(True)
    svg = risk_histogram(Risks(crowd, (.2, .5, .7), .79, None, None, ""), (610, 400))
    assert "log scale of the odds" in svg and ">0.001<" in svg and "nan" not in svg
    assert scale_for(((-3.0, 7.0), (0.1,))) == Scale(False)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=25),
       st.lists(st.integers(0, 9), min_size=1, max_size=25))
def test_area_under_the_roc_is_the_share_of_pairs(unsafe, safe):
    points = roc_points(unsafe, safe)
    assert points[0] == (0, 0) and points[-1] == (1, 1)
    area = sum((x1 - x0) * (y0 + y1) / 2
               for (x0, y0), (x1, y1) in pairwise(points))
    pairs = [(u > s) + (u == s) / 2 for u in unsafe for s in safe]
    assert math.isclose(area, sum(pairs) / len(pairs), abs_tol=1e-9)


def test_roc_marks_the_operating_point(fake_rate):
    risks = Risks((.9, .8, .3, .97), (.1, .2, .6, .4), .5, fake_rate(3, 4), fake_rate(1, 4),
                  "0.938 [0.700, 1.000]")
    svg = roc_plot(risks, (400, 400))
    assert "unsafe 75.0 % [30.1, 95.4] (3/4)" in svg and "75 % of unsafe," in svg
    assert re.search(r'class="bar c-gated_clamp" x1="122" x2="122"', svg)  # 34 + 352 / 4
    assert "25 % of safe" in svg and "AUROC 0.938" in svg and "[0.700, 1.000]" in svg
    assert "<polygon" not in roc_plot(Risks((.9,), (.1,), None, None, None, ""), (400, 400))


def test_page_shows_the_section_and_the_run_without_gate_none(gated_run, fake_results,
                                                              fake_samples):
    html = unescape(render_report(*gated_run))
    for text in ("When it steers", "False fires by source", "residual 0.961, sparse 0.902",
                 "look alike\nfires on 50.0 % "):
        assert text in html
    assert 'id="gate"' in html and 'class="plot risks"' in html and 'class="plot roc"' in html
    plain = fake_results()
    page = render_report(plain, fake_samples(plain, n=4))
    assert 'id="gate"' not in page and "When it steers" not in page


def test_older_lines_without_risk_or_source_still_make_a_page(fake_results, fake_samples):
    results = fake_results(full=True)
    for key in ("fires", "search_auroc", "budget"):
        del results["gate"][key]
    old = [{k: v for k, v in s.items() if k not in ("source", "risk", "fired", "cluster")}
           for s in fake_samples(results, n=6)]
    html = render_report(results, old)
    assert "When it steers" in html and 'class="plot roc"' not in html
    results["gate"] |= {"auroc": None, "false_fire": None, "threshold": None}
    assert "When it steers" in render_report(results, old)


def test_text_from_prompts_is_escaped(gated_run, ugly_run):
    nasty = "<script>alert(1)</script>"
    results, samples = gated_run
    for i, sample in enumerate(samples):
        sample |= {"source": f"{nasty}{i % 3}", "category": f"{nasty}{i % 2}"}
    results["provenance"]["command"] = f"sternpost run --out '{nasty}'"
    html = render_report(results, samples)
    assert html.count("<script>") == 1 and "&lt;script&gt;alert(1)" in html
    assert 'id="kinds"' in html and "load_pack(&#34;&lt;script&gt;" in html


def test_replies_beside_each_other_tell_risk_and_decision(gated_run):
    results, samples = gated_run
    unsafe = [s for s in samples if s["prompt"] == "unsafe wrapped 0"]
    others = [unsafe[0] | {"condition": "clamp", "value": v} for v in (12.0, 2.0)]
    item = choose(results, [*others, *unsafe]).items[0]
    assert [r.condition for r in item.replies] == ["baseline", "clamp 12", "gated_clamp", "clamp 2"]
    assert item.replies[2].notes == "risk 0.900 (threshold 0.500): gate fired, steered"
    assert item.gate == "fired" and item.replies[0].gate == "" and not item.replies[0].notes
    html = render_report(results, samples)
    assert "risk 0.300 (threshold 0.500): gate shut, not steered" in html
    assert html.count('data-gate="shut"') == 9 and '<select data-filter="gate">' in html
