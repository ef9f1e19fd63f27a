"""The whole way through the app in a real browser: pick, find, check, remove, judge, keep."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import urlopen

import pytest
from PIL import Image

Browser = Any
"""The class in conftest.py, which a test file cannot import."""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


def test_from_a_concept_to_a_changed_answer(browser: Browser, record_property: Callable) -> None:
    """Remove red with what stands there: the answer changes, the hook proves it, probes and neighbours follow."""
    browser.step("Remove")
    browser.click("#cf-ask")
    before, after = browser.panes()
    assert "red" in before
    assert "The hook at vision.3.resid" in browser.until("#cf-answers .cf-proof").text
    assert browser.all("#cf-answers .after del") or before == after
    assert len(browser.all("#cf-words tbody tr")) == 5
    browser.until("#cf-neighbours table")
    # plotly.py 7 writes for plotly.js 4 and gradio bundles 3: the figure must really be drawn.
    browser.until("#cf-probes .js-plotly-plot .scatterlayer .trace")
    started = time.perf_counter()
    browser.click("#cf-ask")
    browser.until("#cf-answers .cf-cursor")
    browser.panes()
    record_property("both answers, seconds", round(time.perf_counter() - started, 2))


def test_strength_zero_changes_not_a_word(browser: Browser) -> None:
    browser.step("Remove")
    browser.slide("#cf-strength", 0)
    browser.until("#cf-answers .cf-proof", lambda proof: "bit for bit" in proof.text)
    before, after = browser.panes()
    assert before == after != ""
    assert "strength 0×" in browser.until("#cf-recipe").text


def test_features_are_shown_chosen_and_dropped(browser: Browser) -> None:
    browser.step("Find")
    browser.click("#cf-find")
    browser.until("#cf-features .cf-card")
    cards = browser.all("#cf-features .cf-card")
    assert len(cards) == 24 and len(browser.all("#cf-features .cf-card.taken")) == 16
    assert len(cards[0].find_elements("css selector", ".cf-strip img")) == 4
    plain = browser.until("#cf-picture img").get_attribute("src")
    browser.click("#cf-features .cf-card .cf-look")
    browser.until("#cf-picture figcaption", lambda caption: "feature" in caption.text)
    assert browser.until("#cf-picture img").get_attribute("src") != plain
    browser.click("#cf-features .cf-card.taken .cf-take")
    browser.until("#cf-recipe", lambda recipe: "features 15" in recipe.text)
    browser.click("#cf-undo")
    browser.until("#cf-recipe", lambda recipe: "features 16" in recipe.text)


def test_a_trace_is_previewed_and_stops_when_told(browser: Browser) -> None:
    browser.step("Check")
    browser.click("#cf-preview")
    browser.until("#cf-trace figure")
    assert len(browser.all("#cf-trace figure")) == 5
    browser.click("#cf-exact")
    browser.until("#cf-check-status .cf-progress")
    browser.click("#cf-check-stop")
    browser.until("#cf-check-status", lambda status: "Stopped" in status.text)
    # The queue is free: the next question is answered.
    browser.step("Remove")
    browser.slide("#cf-strength", 0)
    assert browser.panes()[0]


def test_a_corrupt_upload_is_refused_in_words_and_a_good_one_is_looked_at(browser: Browser, tmp_path: Path) -> None:
    broken, good = tmp_path / "broken.png", tmp_path / "good.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnot at all")
    Image.new("RGB", (640, 480), (200, 30, 30)).save(good)
    browser.upload("#cf-upload", broken)
    browser.until(".toast-body", lambda toast: "not a picture that can be read" in toast.text)
    browser.upload("#cf-upload", good)
    browser.until("#cf-picture figcaption", lambda caption: "your picture" in caption.text)


def test_a_recipe_travels_from_one_browser_to_another(
    browsers: Callable[..., Browser], app: str, tmp_path: Path
) -> None:
    """Also that two sessions do not see each other: the second one's concept stays what it was."""
    giver, taker = browsers(), browsers()
    giver.choose("#cf-concept", "star")
    giver.until("#cf-recipe", lambda recipe: "Taking star" in recipe.text)
    assert "Taking red" in taker.until("#cf-recipe").text
    giver.step("Remove")
    giver.slide("#cf-strength", 4)
    given = giver.panes()
    giver.step("Keep")
    giver.click("#cf-recipe-go")
    link = giver.until("#cf-file a[href*='.zip']").get_attribute("href")
    assert link and urlparse(link).netloc == urlparse(app).netloc
    file = tmp_path / "star.zip"
    file.write_bytes(urlopen(link).read())
    assert sorted(zipfile.ZipFile(file).namelist()) == ["recipe.safetensors", "recipe.yaml"]
    taker.step("Keep")
    taker.upload("#cf-recipe-up", file)
    taker.until("#cf-recipe", lambda recipe: "Taking star" in recipe.text and "uploaded" in recipe.text)
    taker.step("Remove")
    taker.click("#cf-ask")
    assert taker.panes() == given


def test_judging_measures_and_a_point_of_the_sweep_becomes_the_recipe(browser: Browser) -> None:
    browser.step("Judge")
    browser.slide("#cf-questions", 10)
    browser.click("#cf-sweep")
    browser.until("#cf-points .cf-pareto li button")
    browser.click("#cf-judge-stop")
    browser.until("#cf-judge-status", lambda status: "Stopped" in status.text)
    browser.click("#cf-points .cf-pareto li button")
    browser.until("#cf-points .cf-pareto li button[aria-pressed=true]")
    assert browser.until("#cf-undo").is_enabled()


def test_the_page_is_dark_where_the_system_is_and_fits_a_phone(browsers: Callable[..., Browser]) -> None:
    phone = browsers(width=390, dark=True)
    ground = phone.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in ground[ground.index("(") + 1 : -1].split(",")[:3]) < 120
    for step in ("Pick", "Find", "Check", "Remove", "Judge", "Keep"):
        phone.step(step)
        wide = phone.driver.execute_script("return document.querySelector('#cf-main').getBoundingClientRect().right")
        assert wide <= 390, f"{step} is {wide} pixels wide"


def test_every_control_has_a_name_and_every_picture_a_text(browser: Browser) -> None:
    nameless = browser.driver.execute_script(
        "return [...document.querySelectorAll('button, input:not([type=file]), select, textarea')]"
        ".filter(e => e.offsetParent && !(e.ariaLabel || e.innerText || e.title || e.labels?.length"
        " || e.getAttribute('aria-labelledby') || e.placeholder || e.querySelector('img[alt]')))"
        ".map(e => e.outerHTML.slice(0, 160))"
    )
    assert nameless == []
    assert not [image for image in browser.all("img") if image.get_attribute("alt") is None]


def test_nothing_is_fetched_from_elsewhere(browser: Browser, app: str) -> None:
    for step in ("Find", "Check", "Remove", "Judge", "Keep"):
        browser.step(step)
    here, asked = urlparse(app).netloc, []
    for entry in browser.driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    others = [url for url in asked if url.startswith("http") and urlparse(url).netloc != here]
    assert asked and others == []
