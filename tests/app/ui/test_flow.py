"""The whole way through the app in a real browser: pick, find, check, remove, judge, keep."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import urlopen

import pytest
from PIL import Image

from concept_forget import zoo

Browser = Any
"""The class in conftest.py, which a test file cannot import."""
STEPS = ("Pick", "Find", "Check", "Remove", "Judge", "Keep")
MODELS = ("tiny-llava", "tiny-mllama", "tiny-llama")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.mark.parametrize("model", MODELS)
def test_a_newcomer_takes_a_concept_out_and_keeps_the_recipe(browser: Browser, model: str, tmp_path: Path) -> None:
    if not (zoo.WEIGHTS / model / "model.safetensors").is_file():
        pytest.skip(f"{model} has not been trained here")
    if model != "tiny-llava":
        browser.choose("#cf-model", model)
        browser.until("#cf-recipe", lambda recipe: f"out of {model}" in recipe.text)
    browser.ready()
    sees = model in zoo.SEEING
    assert len(browser.all("#cf-pictures .cf-thumb")) >= 6

    browser.step("Find")
    browser.click("#cf-find")
    browser.until("#cf-features .cf-card")
    cards = browser.all("#cf-features .cf-card")
    taken = len(browser.all("#cf-features .cf-card.taken"))
    assert len(cards) == 24 and taken == 16
    assert len(cards[0].find_elements("css selector", ".cf-strip img" if sees else ".cf-strip .cf-read")) == 4
    assert "fires on" in cards[0].text and "Strongest on" in cards[0].text
    assert all(card.find_elements("css selector", ".cf-logits b") for card in cards)
    stage = browser.until("#cf-picture").get_attribute("innerHTML")
    browser.click("#cf-features .cf-card .cf-look")
    browser.until(".cf-effect .cf-probs tbody tr")
    assert not sees or browser.until("#cf-picture").get_attribute("innerHTML") != stage
    browser.click("#cf-features .cf-card.taken .cf-take")
    browser.until("#cf-recipe", lambda recipe: f"features {taken - 1}" in recipe.text)
    browser.click("#cf-undo")
    browser.until("#cf-recipe", lambda recipe: f"features {taken}" in recipe.text)

    browser.step("Check")
    browser.click("#cf-preview")
    browser.until("#cf-trace .cf-trace figure img" if sees else "#cf-trace .cf-heat i")
    assert "estimated by attribution patching" in browser.until("#cf-trace").text
    if model == "tiny-llava":  # its features stand where the picture's patches are
        assert "where it truly is" in browser.until("#cf-trace .cf-table").text
    browser.click("#cf-probe")
    assert browser.until("#cf-now .js-plotly-plot .scatterlayer .trace path.js-line").get_attribute("d")

    browser.step("Remove")
    before, after = browser.ask()
    assert before and after
    proof = browser.until("#cf-answers .cf-proof").text
    assert "The hook at" in proof and "was called" in proof
    changed = bool(browser.all("#cf-answers .after del, #cf-answers .after ins"))
    assert changed == (before != after)
    assert model != "tiny-llava" or ("red" in before and "red" not in after)
    assert len(browser.all("#cf-words tbody tr")) == 5
    browser.until("#cf-neighbours table")
    # plotly.py 7 writes for plotly.js 4 and gradio bundles its own: the curves must really be drawn.
    browser.until("#cf-probes .js-plotly-plot .scatterlayer .trace")
    assert all(path.get_attribute("d") for path in browser.all("#cf-probes .scatterlayer path.js-line"))
    assert len(browser.all("#cf-probes .legend .traces")) >= 3

    browser.step("Judge")
    browser.slide("#cf-questions", 10)
    browser.click("#cf-measure")
    table = browser.until("#cf-judge-table table", lambda table: "random features" in table.text)
    assert "only asked" in table.text and " to " in table.text
    assert ("pictures" in table.text) == sees
    browser.until("#cf-metrics .js-plotly-plot .scatterlayer .trace")
    browser.until("#cf-judge-table table", lambda table: "no picture" in table.text or not sees)

    browser.step("Keep")
    assert model in browser.until("#cf-python").text and "concept-forget run" in browser.until("#cf-cli").text
    assert "runs as a hook" in browser.until("#cf-badge").text
    browser.click("#cf-recipe-go")
    names = zipfile.ZipFile(downloaded(browser, tmp_path / "recipe.zip")).namelist()
    assert sorted(names) == ["recipe.safetensors", "recipe.yaml"]
    assert "now" in browser.until("#cf-past .now").text


def test_strength_zero_changes_not_a_word(browser: Browser) -> None:
    browser.step("Remove")
    browser.slide("#cf-strength", 0)
    browser.until("#cf-answers .cf-proof", lambda proof: "bit for bit" in proof.text)
    before, after = browser.panes()
    assert before == after != ""
    assert "strength 0×" in browser.until("#cf-recipe").text


def test_a_method_without_a_strength_or_a_way_to_act_answers_too(browser: Browser) -> None:
    browser.ready()
    browser.step("Remove")
    browser.begin()
    browser.choose("#cf-method", "LEACE")
    browser.finished()  # choosing asks by itself, and what is asked next would stop that in the middle
    assert "method LEACE" in browser.until("#cf-recipe").text
    assert all(browser.ask())
    assert "The hook at" in browser.until("#cf-answers .cf-proof").text
    assert all(browser.ask())


def test_a_damaged_upload_is_refused_in_words_and_a_good_one_is_looked_at(browser: Browser, tmp_path: Path) -> None:
    broken, huge, good = tmp_path / "broken.png", tmp_path / "huge.png", tmp_path / "good.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnot at all")
    Image.new("1", (9000, 9000)).save(huge)
    Image.new("RGB", (640, 480), (200, 30, 30)).save(good)
    browser.upload("#cf-upload", broken)
    browser.until(".toast-body", lambda toast: "not a picture that can be read" in toast.text)
    browser.upload("#cf-upload", huge)
    browser.until(".toast-body", lambda toast: "9000 x 9000 pixels" in toast.text)
    browser.upload("#cf-upload", good)
    browser.until("#cf-picture figcaption", lambda caption: "your picture" in caption.text)
    # What is shown (and read) is a picture made anew, not the file that came.
    assert browser.until("#cf-picture img").get_attribute("src").startswith("data:image/webp")


def test_two_sessions_at_once_get_the_texts_they_get_alone(browsers: Callable[..., Browser]) -> None:
    one, other = browsers(), browsers()
    for window, question in ((one, "Describe the picture."), (other, "What colour is it?")):
        window.ready()
        window.step("Remove")
        window.choose("#cf-question", question)
        window.panes()
    one.slide("#cf-strength", 4)
    other.slide("#cf-strength", 0.5)
    strengths = ("4", "0.5")
    for window, strength in zip((one, other), strengths, strict=True):
        window.until("#cf-recipe", lambda recipe, s=strength: f"strength {s}×" in recipe.text)
    alone = [window.panes() for window in (one, other)]
    for _ in range(3):
        for window in (one, other):  # the second asks while the first is being answered
            window.begin("document.querySelector('#cf-ask').click()")
        for window in (one, other):
            window.finished()
        assert [window.panes() for window in (one, other)] == alone
    for window, strength in zip((one, other), strengths, strict=True):
        assert f"strength {strength}×" in window.until("#cf-recipe").text


def test_a_recipe_travels_as_a_file_and_as_a_link(browsers: Callable[..., Browser], app: Any, tmp_path: Path) -> None:
    giver = browsers()
    giver.choose("#cf-concept", "star")
    giver.taking("star")
    giver.step("Remove")
    giver.slide("#cf-strength", 4)
    given = giver.panes()
    giver.step("Keep")
    giver.until("#cf-link a[href*='recipe=']")
    giver.click("#cf-recipe-go")
    file = downloaded(giver, tmp_path / "star.zip")
    link = urlparse(giver.until("#cf-link a").get_attribute("href"))
    assert link.netloc == urlparse(app.url).netloc

    taker = browsers()
    taker.taking("red")
    taker.step("Keep")
    taker.upload("#cf-recipe-up", file)
    taker.until("#cf-recipe", lambda recipe: "Taking star" in recipe.text and "uploaded" in recipe.text)
    taker.step("Remove")
    taker.click("#cf-ask")
    assert taker.panes() == given

    # Reloading a link begins with its recipe.
    visitor = browsers(f"?{link.query}")
    visitor.taking("star")
    assert "strength 4×" in visitor.until("#cf-recipe").text
    visitor.step("Remove")
    visitor.click("#cf-ask")
    assert visitor.panes() == given


def test_a_link_that_was_cut_is_refused_in_words(browsers: Callable[..., Browser]) -> None:
    window = browsers("?recipe=eyJtb2RlbCI6InRpbnk")
    assert window.until(".toast-body", lambda toast: "holds no recipe" in toast.text)
    window.taking("red")


def test_a_point_of_the_sweep_becomes_the_recipe(browser: Browser) -> None:
    browser.ready()
    browser.step("Judge")
    browser.click("#cf-sweep")
    browser.until("#cf-points .cf-pareto li button")
    browser.click("#cf-judge-stop")
    browser.until("#cf-judge-status", lambda status: "Stopped" in status.text)
    browser.click("#cf-points .cf-pareto li button")
    browser.until("#cf-points .cf-pareto li button[aria-pressed=true]")
    assert browser.until("#cf-undo").is_enabled()


def test_attempts_to_get_it_back_say_how_many_questions_are_answered_again(browser: Browser) -> None:
    browser.ready()
    browser.step("Judge")
    browser.slide("#cf-questions", 10)
    browser.click("#cf-audit-go")
    browser.until("#cf-audit li", lambda chip: "relearned" in chip.text)
    chips = [chip.text for chip in browser.all("#cf-audit li")]
    for name in ("as asked", "paraphrases", "aliases", "cropped", "words written in", "relearned"):
        assert sum(name in chip and " of " in chip for chip in chips) == 1, name
    assert "0 of" in chips[0]


def test_a_linear_edit_leaves_as_a_checkpoint_that_was_compared(browser: Browser, tmp_path: Path) -> None:
    browser.ready()
    browser.step("Remove")
    browser.choose("#cf-method", "Difference of means")
    browser.until("#cf-recipe", lambda recipe: "method Difference of means" in recipe.text)
    browser.panes()
    browser.click("#cf-gate input")
    browser.until("#cf-recipe", lambda recipe: "gate off" in recipe.text)
    browser.step("Keep")
    browser.until("#cf-badge", lambda badge: "exact in the weights" in badge.text)
    browser.click("#cf-export-go")
    said = browser.until("#cf-keep-status .cf-note", lambda note: "Reloaded by stock code" in note.text).text
    assert said.startswith("exact") and "largest difference of a logit" in said
    names = zipfile.ZipFile(downloaded(browser, tmp_path / "checkpoint.zip")).namelist()
    assert {"config.json", "model.safetensors"} <= set(names)


def test_the_page_is_dark_where_the_system_is_and_fits_a_phone(browsers: Callable[..., Browser]) -> None:
    phone = browsers(width=390, dark=True)
    ground = phone.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in ground[ground.index("(") + 1 : -1].split(",")[:3]) < 120
    for step in STEPS:
        phone.step(step)
        wide = phone.driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 390, f"{step} is {wide} pixels wide"


def test_every_control_has_a_name_and_every_picture_a_text(browser: Browser) -> None:
    for step in STEPS:
        browser.step(step)
        nameless = browser.driver.execute_script(
            "return [...document.querySelectorAll('button, input:not([type=file]), select, textarea')]"
            ".filter(e => e.offsetParent && !(e.ariaLabel || e.innerText || e.title || e.labels?.length"
            " || e.getAttribute('aria-labelledby') || e.placeholder || e.querySelector('img[alt]')))"
            ".map(e => e.outerHTML.slice(0, 160))"
        )
        assert nameless == []
    assert not [image for image in browser.all("img") if image.get_attribute("alt") is None]


def test_the_keyboard_is_enough(browser: Browser) -> None:
    """From the first tab by arrow keys to Remove, by Tab to Ask, Enter: it is asked."""
    browser.ready()
    browser.until("#cf-steps button[role=tab]").click()
    active = browser.driver.switch_to.active_element
    for _ in range(3):
        active.send_keys(browser.keys.ARROW_RIGHT)
        active = browser.driver.switch_to.active_element
    if "Remove" not in active.text:  # tabs that take no arrows are reached by Tab
        browser.driver.execute_script("arguments[0].focus()", browser.all("#cf-steps button[role=tab]")[3])
        active = browser.driver.switch_to.active_element
    active.send_keys(browser.keys.ENTER)
    for _ in range(12):
        browser.driver.switch_to.active_element.send_keys(browser.keys.TAB)
        if browser.driver.switch_to.active_element.get_attribute("id") == "cf-ask":
            break
    browser.driver.switch_to.active_element.send_keys(browser.keys.ENTER)
    assert browser.panes()[0]


def downloaded(browser: Browser, place: Path) -> Path:
    """The file that is ready to download."""
    link = browser.until("#cf-file a[href*='.zip']").get_attribute("href")
    place.write_bytes(urlopen(link).read())
    return place
