"""The report in a real browser: it draws, its script runs, nothing is wrong on the console."""

import re

import pytest

from browsing import browse, colours, needs_chromium
from sternpost.report import render_report

pytestmark = needs_chromium


@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
@pytest.mark.parametrize("kind", ["full", "ugly"])
def test_draws_without_a_word_on_the_console(tmp_path, fake_results, fake_samples, ugly_run, kind,
                                             scheme):
    results = fake_results(full=True)
    run = ugly_run if kind == "ugly" else (results, fake_samples(results, n=6))
    picture = tmp_path / "picture.png"
    browse(tmp_path, render_report(*run), f"--screenshot={picture}", "--window-size=1280,2000",
           f"--blink-settings=preferredColorScheme={scheme}")
    width, height, different = colours(picture.read_bytes())
    assert (width, height) == (1280, 2000) and different > 100


def test_script_veils_harmful_text_and_reveals_controls(tmp_path, fake_results, fake_samples):
    results = fake_results()
    dom = browse(tmp_path, render_report(results, fake_samples(results, n=6)), "--dump-dom")
    assert re.search(r'<html[^>]*class="js"', dom)
    items = re.findall(r'<details class="item([^"]*)"[^>]*data-harmful="(yes|no)"', dom)
    assert items and all((" veiled" in style) == (harmful == "yes") for style, harmful in items)
    assert "12 of these 12 prompts match" in dom and 'aria-pressed="false"' in dom
    assert not re.search(r'class="tools needs-js" hidden', dom)
