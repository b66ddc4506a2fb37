"""The plots: ticks that are round, marks where they belong, labels that leave each other room."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sternpost.report.plane import cost_plane, refusal_plane, trade_plane
from sternpost.report.plots import Axis, Box, Frame, Labels, el, nice_ticks
from sternpost.report.sweep import evenly, sweep_plot


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_within_and_few(low, span):
    ticks = nice_ticks(low, low + span)
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in ticks)
    assert 1 <= len(ticks) <= 7


def test_ticks_are_round():
    assert nice_ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert nice_ticks(0, 12) == [0, 2.5, 5, 7.5, 10]
    assert nice_ticks(3, 3) == [3]


def test_elements_are_escaped():
    assert el("text", "<b>", class_='"') == '<text class="&#34;">&lt;b&gt;</text>'


def test_labels_do_not_cover_each_other():
    frame = Frame(400, 300, Axis(0, 1, 40, 380), Axis(0, 1, 260, 20))
    labels = Labels(frame)
    for i in range(5):
        labels.keep_mark_clear((200 + i, 150), 7)
    for i in range(5):
        labels.add(f"label {i}", (200 + i, 150))
    boxes = [box for box, weight in labels.taken if weight == 2.0]
    assert len(boxes) == 5
    assert not any(a.overlap(b) for i, a in enumerate(boxes) for b in boxes[i + 1:])
    assert all(frame.inside(box) for box in boxes)


def test_overlap_is_an_area():
    assert Box(0, 0, 4, 4).overlap(Box(2, 3, 10, 10)) == 2
    assert Box(0, 0, 4, 4).overlap(Box(5, 0, 1, 1)) == 0


def test_plane_has_a_mark_a_condition_with_its_numbers(fake_results):
    results = fake_results(full=True)
    svg = refusal_plane(results, (512, 440))
    tips = re.findall(r"<title>([^<]*)</title>", svg)
    for condition in results["conditions"]:
        rate = condition["unsafe_refusal"]
        assert any(f"({rate['hits']}/{rate['n']})" in tip for tip in tips)
    assert "clamp 12.0, reference" in svg and "clamp 6.0, best D" in svg
    assert "gated clamp" in cost_plane(results, (430, 318), "capability", "capability")


def test_trade_plane_sets_gate_and_baseline_apart(fake_results):
    results = fake_results(full=True)
    svg = trade_plane(results, (1040, 510))
    assert svg.count('class="mark ') == len(results["conditions"]) and "nan" not in svg
    assert svg.count('class="bar ') == 2 * len(results["conditions"])
    assert "gated clamp 12.0" in svg and 'class="ring c-gated_clamp"' in svg
    assert svg.count('class="cross"') == 2 and svg.count('class="better"') == 1
    assert svg.count("behind") == 1 and svg.count("c-clamp path") == 1
    frame = re.search(r'<rect class="better" x="([\d.]+)" y="[\d.]+" width="[\d.]+" '
                      r'height="([\d.]+)"', svg)
    dot = re.search(r'class="mark c-baseline" cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert frame and dot and frame.group(1) == dot.group(1)


def test_gate_at_a_value_that_was_not_swept_has_no_line_to_it(fake_results):
    results = fake_results(full=True)
    next(c for c in results["conditions"] if c["name"] == "gated_clamp")["value"] = 3.3
    assert "behind" not in trade_plane(results, (1040, 510))
    results["conditions"] = results["conditions"][1:]
    assert 'class="cross"' not in trade_plane(results, (1040, 510))


@pytest.mark.parametrize("values", [(5.0,), (-1200.0, -3.5, 0.0, 98765.4), (2.0, 4.0, 8.0)])
def test_sweep_draws_any_values(fake_results, values):
    results = fake_results()
    clamps = [c for c in results["conditions"] if c["name"] == "clamp"][:len(values)]
    for clamp, value in zip(clamps, values, strict=True):
        clamp["value"] = value
    results |= {"conditions": clamps, "reference": {"value": values[-1]}}
    svg = sweep_plot(results, 1040)
    assert svg.count('class="mark s-unsafe"') == len(values) and "reference" in svg
    assert ("not to scale" in svg) == evenly(values)
    assert "nan" not in svg


def test_sweep_without_clamps_is_nothing():
    assert sweep_plot({"conditions": []}, 1040) == ""
