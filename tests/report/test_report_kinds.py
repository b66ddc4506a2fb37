"""Refusal by kind of prompt: the right lines are counted, for the right conditions."""

import pytest

from sternpost.report import render_report
from sternpost.report.groups import Bar, Chart, Group, bar_chart
from sternpost.report.kinds import MOST, compared, refusal_by
from sternpost.stats import rate

HITS = {"baseline": 1, "clamp": 3, "gated_clamp": 2}
"""Of four weapons prompts each."""


@pytest.fixture
def results(fake_results):
    return fake_results(full=True)


def line(name, value, category, i, hit, kind="unsafe", harm="harmful"):
    return {"condition": name, "value": value, "kind": kind, "category": category,
            "source": category, "harm_kind": harm, "cluster": f"c{i // 2}", "prompt": f"p{i}",
            "prompt_sha256": f"{category}{i}", "hit": hit, "feature": 1,
            "verdict": "refusal", "reply": ""}


def make(kind="unsafe"):
    shown = [("baseline", None), ("clamp", 12.0), ("gated_clamp", 12.0), ("clamp", 2.0),
             ("random_feature", 12.0)]
    weapons = [line(name, value, "weapons", i, i < HITS.get(name, 4) and value != 2.0, kind)
               for name, value in shown for i in range(4)]
    fraud = [line(name, value, "fraud", i, False, kind) for name, value in shown for i in range(2)]
    return weapons + fraud


def test_bars_count_the_lines_of_three_conditions(results):
    chart = refusal_by(results, make(), "unsafe", "category", "unsafe refusal, %")
    assert [c["name"] for c in compared(results)] == list(HITS)
    assert [group.name for group in chart.groups] == ["weapons", "fraud"]
    assert [bar.rate["hits"] for bar in chart.groups[0].bars] == [1, 3, 2]
    assert [bar.rate["n"] for bar in chart.groups[1].bars] == [2, 2, 2]
    assert [bar.name for bar in chart.groups[0].bars] == [
        "baseline", "clamp 12.0, reference", "gated clamp 12.0"]


def test_intervals_are_those_of_stats_over_clusters(results):
    chart = refusal_by(results, make(), "unsafe", "category", "")
    want = rate([True, True, True, False], ["c0", "c0", "c1", "c1"]).as_dict()
    assert chart.groups[0].bars[1].rate == want and want["interval"] == "cluster"


def test_offensive_prompts_and_the_other_side_do_not_count(results):
    extra = [line(name, value, "weapons", 9, True, kind, harm)
             for name, value in (("baseline", None), ("clamp", 12.0))
             for kind, harm in (("unsafe", "offensive"), ("safe", "none"))]
    chart = refusal_by(results, make() + extra, "unsafe", "category", "")
    assert [bar.rate["n"] for bar in chart.groups[0].bars] == [4, 4, 4]
    assert refusal_by(results, make(), "safe", "source", "") is None


def test_one_kind_only_is_no_chart(results):
    same = [s | {"category": None} for s in make()]
    assert refusal_by(results, same, "unsafe", "category", "") is None
    assert refusal_by({"conditions": []}, make(), "unsafe", "category", "") is None


def test_many_kinds_are_pooled_in_the_last_row(results):
    lines = [line("baseline", None, f"kind{j:02}", i, True) for j in range(20) for i in range(2)]
    chart = refusal_by(results, lines, "unsafe", "category", "")
    assert len(chart.groups) == MOST and chart.groups[-1].name == "7 others"
    assert chart.groups[-1].bars[0].rate["n"] == 14 and chart.groups[0].bars[1].rate is None


def test_chart_draws_each_figure_and_never_runs_out(fake_rate):
    bars = tuple(Bar(r, name, "c-clamp") for r, name in
                 ((fake_rate(4, 4), "one"), (fake_rate(0, 7), "two"), (None, "three")))
    chart = Chart("share, %", (Group("a name that is much too long to fit", bars, "head"),),
                  legend=True, line=(.01, "budget 1 %"))
    for width in (512, 358):
        svg = bar_chart(chart, width)
        assert "100.0 % [51.0, 100.0] (4/4)" in svg and "0.0 % [0.0, 35.4] (0/7)" in svg
        assert ">100 %</text>" in svg and ">0 %</text>" in svg
        assert "budget 1 %" in svg and "head" in svg and "nan" not in svg
        assert "<title>a name that is much too long to fit</title>" in svg
    assert bar_chart(Chart("share, %", ()), 358) == ""


def test_page_has_both_charts(results):
    html = render_report(results, make() + make("safe"))
    assert 'id="kinds"' in html and html.count('class="plot groups"') >= 4
    assert "weapons\nclamp 12.0, reference 75.0 % " in html
    assert 'id="kinds"' not in render_report(results, [])
