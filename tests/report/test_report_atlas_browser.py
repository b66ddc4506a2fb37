"""The atlas in a real browser: searched, sorted, walked through by mouse and by keyboard."""

import json

import pytest

from atlases import about, feature, some
from browsing import Tab, colours, needs_chromium
from sternpost.report.atlas import atlas_pages

pytestmark = needs_chromium
ROWS = "[...document.querySelectorAll('#rows a')].map(a => Number(a.dataset.feature))"
COUNT = "document.querySelector('#count').textContent"
FOCUS = "document.activeElement.dataset.feature ?? document.activeElement.id"
HERE = "location.pathname.split('/').pop() + location.hash"
CELLS = ("[...document.querySelectorAll('tbody tr')].map(line => ['feature', 'density', "
         "'strongest', 'hazard lift'].map(name => line.querySelector(`[data-label='${name}']`)"
         ".textContent))")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with Tab(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve features of every kind, written."""
    return written(tmp_path_factory.mktemp("atlas"), some())


def written(folder, features):
    for name, html in atlas_pages(about(d_sae=len(features)), features):
        (folder / name).write_text(html, encoding="utf-8")
    return folder


def opened(tab, folder, file="index.html", fragment=""):
    tab.console.clear()
    tab.open("about:blank")
    tab.open((folder / file).as_uri() + fragment)


def settled(tab):
    """The address, once it has followed what was typed."""
    return tab.run(f"new Promise(done => setTimeout(() => done({HERE}), 400))")


def test_search_then_a_page_then_a_neighbour_then_back(tab, folder):
    opened(tab, folder)
    assert tab.run(ROWS)[:5] == [2, 7, 3, 0, 1]  # those with a measured effect first
    assert tab.run(COUNT) == "12 of 12 features match"
    tab.press("/", *"Bomb weap")
    assert tab.run(FOCUS) == "search" and tab.run(ROWS) == [2]
    assert tab.run(COUNT) == "1 of 12 features match"
    assert settled(tab) == "index.html#q=Bomb+weap"
    tab.follow(lambda: tab.click("#rows a"))
    assert tab.run(HERE) == "feature-2.html#q=Bomb+weap&at=2"
    assert tab.run("document.querySelector('h1').textContent") == 'fires on "bomb"'
    tab.follow(lambda: tab.click("#near a"))
    assert tab.run("document.querySelector('h1').textContent") == 'fires on "knife"'
    tab.back(2)
    assert tab.run(ROWS) == [2] and tab.run("search.value") == "Bomb weap"
    assert tab.run(FOCUS) == "2"
    assert tab.console == []


def test_by_keyboard_alone(tab, folder):
    opened(tab, folder)
    first = tab.run(ROWS)
    tab.press("/", "ArrowDown", "ArrowDown")
    assert tab.run(FOCUS) == str(first[1])
    tab.press("End")
    assert tab.run(FOCUS) == str(first[-1])
    tab.press("ArrowDown", "ArrowUp")
    assert tab.run(FOCUS) == str(first[-2])
    tab.press("Home", "ArrowUp")
    assert tab.run(FOCUS) == "search"
    tab.press("ArrowDown")
    tab.follow(lambda: tab.press("Enter"))
    assert tab.run(HERE) == "feature-2.html#at=2"
    tab.follow(lambda: tab.press("n"))
    tab.follow(lambda: tab.press("n"))
    tab.follow(lambda: tab.press("p"))
    assert tab.run(HERE) == "feature-3.html#at=2"
    tab.press("x")
    tab.follow(lambda: tab.press("i"))
    assert tab.run(HERE) == "index.html#at=2" and tab.run(FOCUS) == "2"
    assert tab.console == []


def test_sorting_is_said_and_kept(tab, folder):
    opened(tab, folder)
    heads = "document.querySelectorAll('th[aria-sort]')"
    said = f"[...{heads}].map(head => head.dataset.sort + ' ' + head.ariaSort)"
    assert tab.run(said) == ["effect descending"]
    tab.click("th[data-sort=density] button")
    assert tab.run(said) == ["density descending"]
    assert tab.run(ROWS) == [11, 10, 9, 8, 6, 4, 3, 2, 1, 0, 5, 7]  # 5 is 0 %, 7 unknown
    tab.click("th[data-sort=density] button")
    assert tab.run(said) == ["density ascending"]
    assert tab.run(ROWS) == [5, 0, 1, 2, 3, 4, 6, 8, 9, 10, 11, 7]  # unknown stays last
    assert settled(tab) == "index.html#sort=-density"
    tab.click("th[data-sort=label] button")
    assert tab.run(said) == ["label ascending"] and tab.run(ROWS)[1:4] == [2, 11, 1]
    opened(tab, folder, fragment="#q=river&show=all&sort=-feature")
    assert tab.run(said) == ["feature descending"] and tab.run(ROWS) == [7, 5, 4, 0]
    opened(tab, folder, fragment="#sort=__proto__&from=x&at=-1&show=%3Cb%3E&q=%00")
    assert tab.run(said) == ["effect descending"] and tab.run("show.value") == "all"
    assert tab.console == []


def test_words_numbers_and_choices(tab, folder):
    opened(tab, folder)

    def asked(words, show="all"):
        tab.run(f"search.value = {json.dumps(words)}; show.value = '{show}';"
                "show.dispatchEvent(new Event('change'))")
        return sorted(tab.run(ROWS))

    assert asked("") == list(range(12))
    assert asked("weapons") == [2, 3]  # by a hazard that is beyond chance
    assert asked("gardens") == [11]  # by a promoted token
    assert asked("9") == [9] and asked("11") == [11]  # by its number
    assert asked("FIRES river") == [0, 4, 7] and asked("river nothing") == []
    assert tab.run("getComputedStyle(none).display") == "block"
    assert asked("", "found") == [2, 3, 7, 8] and asked("", "dead") == [5]
    assert asked("", "linked") == [2, 3, 8] and asked("knife", "linked") == [3]
    assert asked("<script>") == [8]
    assert tab.console == []


def test_many_rows_are_drawn_in_slices(tab, tmp_path):
    opened(tab, written(tmp_path, [feature(at) for at in range(250)]))
    assert tab.run(ROWS) == list(range(100))
    tab.press("/", "ArrowDown", "End")
    assert tab.run(FOCUS) == "249" and tab.run(ROWS) == list(range(200, 250))
    tab.click("#earlier")
    assert tab.run(FOCUS) == "100" and tab.run(ROWS) == list(range(100, 200))
    tab.press("ArrowUp")
    assert tab.run(FOCUS) == "99" and tab.run("where.textContent") == "1 to 100 of 250"
    tab.click("#later")
    tab.follow(lambda: tab.press("Enter"))
    tab.back()
    assert tab.run(FOCUS) == "100" and tab.run(ROWS)[0] == 100
    assert tab.console == []


def test_unsafe_texts_are_shown_when_asked_for(tab, folder):
    opened(tab, folder, "feature-2.html")
    seen = "[...document.querySelectorAll('.text')].map(text => text.checkVisibility())"
    assert tab.run(seen) == [True, False, True]
    assert tab.run("unveil.textContent") == "Show the texts of unsafe prompts (1)"
    tab.press("u")
    assert tab.run(seen) == [True, True, True]
    tab.press("u")
    tab.run("document.querySelector('summary').focus()")
    tab.press("Enter")
    assert tab.run(seen) == [True, True, True]
    assert tab.run("new Promise(done => setTimeout(() => done(unveil.textContent), 50))") == (
        "Hide the texts of unsafe prompts (1)")
    assert tab.console == []


def test_hostile_texts_do_nothing(tab, folder):
    opened(tab, folder)
    assert tab.run("document.querySelectorAll('#rows img, #rows script').length") == 0
    label = tab.run("document.querySelector('[data-feature=\"8\"] .says').textContent")
    opened(tab, folder, "feature-8.html")
    assert tab.run("document.querySelector('h1').textContent") == label
    assert "<script>alert(1)</script>\u23ce" in label and "\u27e8U+202E\u27e9gnp" in label
    assert tab.console == []


def test_without_script_there_is_a_table_with_the_same_figures(tab, folder):
    opened(tab, folder, fragment="#sort=feature")
    drawn = tab.run(CELLS)
    tab.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        opened(tab, folder)
        assert tab.run(CELLS) == drawn and len(drawn) == 12
        assert tab.run("search.checkVisibility()") is False
        opened(tab, folder, "feature-2.html")
        assert tab.run("document.querySelector('.text').checkVisibility()") is True
        assert tab.run("document.querySelector('details .text').checkVisibility()") is False
        assert tab.run("document.querySelector('.keys').checkVisibility()") is False
        assert tab.console == []
    finally:
        tab.ask("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_draws_at_every_width_in_light_and_dark(tab, folder, width, dark):
    for file in ("index.html", *(f"feature-{at}.html" for at in (2, 5, 7, 8))):
        opened(tab, folder, file)
        size = colours(tab.look(width, 1200, dark))
        assert size[:2] == (width, 1200) and size[2] > 100
        assert tab.run("document.documentElement.scrollWidth") <= width, file
        assert tab.console == []
