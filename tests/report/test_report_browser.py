"""The report in a real browser: it draws, its script runs, nothing is wrong on the console."""

import re
import shutil
import struct
import subprocess
import zlib

import pytest

from sternpost.report import render_report

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
                 if (found := shutil.which(name))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium found; install it: apt-get install chromium")]
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=4000")


def browse(folder, html, *flags):
    """Chromium's output on the page."""
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8", errors="backslashreplace")
    own = f"--user-data-dir={folder / 'profile'}"
    command = [str(CHROMIUM), *FLAGS, own, *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True,
                          encoding="utf-8", errors="replace")
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    return done.stdout


def colours(png):
    """Width, height and the number of different bytes in the picture's data."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    data, at = b"", 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        data += png[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    return width, height, len(set(zlib.decompress(data)))


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
