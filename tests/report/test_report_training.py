"""The page and the table of a training."""

import re
from typing import Any

import pytest

from sternpost.report import render_training, training_headline, training_table


def entry(layer: int, **changes: Any) -> dict[str, Any]:
    return {"layer": layer, "folder": f"layers.{layer}", "fvu": 0.125, "l0": 31.5,
            "dead_fraction": 0.02, "ce_recovered": 0.97, "measured_on": 1234, "sampled": 4321,
            "density_histogram": {"log10": [-6.0, -4.0, -2.0, 0.0], "features": [1, 7, 3]},
            **changes}


def results(*saes: dict[str, Any]) -> dict[str, Any]:
    return {"model": "a <model>", "layers": [s["layer"] for s in saes], "tokens": 5_000_000,
            "saes": list(saes), "warnings": ["doubt <this>"], "recipe": {"k": 32, "lr": None},
            "provenance": {"date": "2026-01-02T03:04:05"}}


def metrics(*layers: int) -> list[dict[str, Any]]:
    return [{"step": s, "tokens": 1_000_000 * s, "layer": layer, "fvu": 1 / s, "loss": 1.1 / s,
             "l0": 32.0, "dead_fraction": 0.0} for s in range(1, 6) for layer in layers]


@pytest.mark.parametrize("layers", [(6,), (3, 6, 9)])
def test_the_page_has_every_plot_and_loads_nothing(layers: tuple[int, ...]) -> None:
    page = render_training(results(*map(entry, layers)), metrics(*layers))
    assert page.count("<svg") == 4 + len(layers)
    assert page.count("<polyline") == 4 * len(layers)
    assert page.count("class=\"column") == 3 * len(layers)
    assert not re.search(r"(src|href)=\"|url\(|<script", page)
    assert "a &lt;model&gt;" in page
    assert "doubt &lt;this&gt;" in page
    assert "million tokens" in page
    assert ("layer 3" in page.lower()) == (len(layers) > 1)


def test_no_dead_feature_is_a_line_at_zero_on_a_readable_axis() -> None:
    page = render_training(results(entry(6)), metrics(6))
    assert "e-1" not in re.sub(r"<style>.*</style>", "", page, flags=re.DOTALL)


def test_what_was_not_measured_is_left_out() -> None:
    one = results(entry(6, ce_recovered=None))
    assert "cross-entropy" not in training_headline(one)
    assert training_headline(one).startswith("5,000,000 tokens of a <model>. Layer 6: FVU 0.125")
    assert [column.header for column in training_table(one).columns] == [
        "layer", "FVU", "L0", "dead", "CE recovered", "folder"]
    assert render_training(one, [])
