"""The report: one file that needs nothing else, shows what changed and claims no more than was measured."""

import re

import pytest
from PIL import Image

from app.report_page import Answer, Exhibit, diff, percent, render, verdict


def m(value):
    return {"value": value, "low": value, "high": value, "n": 40}


@pytest.fixture
def results():
    names = ("UAd", "UAg", "IRA", "CRA", "COA", "HM")
    change = {name: {"before": m(0.25), "after": m(0.75), "difference": m(0.5)} for name in names}
    probe = {"site": "vision.1.resid", "before": m(0.9), "after_frozen": m(0.5), "after_retrained": m(0.625)}
    return {
        "schema": "concept-forget/results/1",
        "model": "a <model>",
        "concept": "red",
        "method": "clamp",
        "seed": 3,
        "metrics": change,
        "unanswered": {"UAd": {"refusals_after": 3, "unparseable_after": 4}},
        "controls": {"prompt": change},
        "probes": [{**probe, "chance": 0.5, "selectivity": m(0.25)}],
        "hook": [{"site": "vision.1.resid", "calls": 11, "tokens": 2222, "mean_abs_delta": 0.125}],
        "gate": {"recall": 0.99, "false_fire": 0.011},
        "settings": {"k": 16},
        "provenance": {"command": "concept-forget run --concept red"},
        "timing": {"load": 2.0},
        "versions": {"torch": "2.13.0"},
    }


ANSWER = Answer("What <colour>?", "a red cup", "a blue cup", "UAg", "correct", "incorrect")
EXHIBIT = Exhibit(Image.new("RGB", (8, 8), "red"), ("cup", "red"), True, (ANSWER,))


def test_the_page_needs_nothing_from_outside(results):
    page = render(results, [EXHIBIT])
    body = page.split("</script>", 1)[0].split("<script>")[0] + page.rsplit("</script>", 1)[1]
    links = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')\s>]+)', page.split("<script>")[0] + body)
    assert all(link.startswith("data:") for link in links)
    assert len(re.findall(r'<img src="data:image/png;base64,', page)) == 1
    assert page.count("plotly.js v") == 1
    assert "<link" not in page


def test_what_comes_from_models_and_users_is_escaped(results):
    page = render(results, [EXHIBIT])
    assert "a <model>" not in page
    assert "What <colour>?" not in page
    assert "What &lt;colour&gt;?" in page


def test_the_page_says_what_is_not_claimed(results):
    page = " ".join(render(results).split())
    assert "no longer accessible under these probes" in page
    assert "erased" not in page.lower().split("<script>")[0] + page.lower().rsplit("</script>")[-1]


def test_numbers_of_the_run_are_on_the_page(results):
    page = render(results, [EXHIBIT])
    for text in (
        "75%",
        "7 unanswered",
        "2222",
        "0.125",
        "62%",
        "99%",
        "1%",
        "seed 3",
        "concept-forget run --concept red",
    ):
        assert text in page, text


def test_a_text_exhibit_has_no_picture(results):
    page = render(results, [Exhibit(None, ("red",), True, (ANSWER,))])
    assert "<img" not in page
    assert "no longer named" in page


@pytest.mark.parametrize(
    ("before", "after", "html"),
    [
        ("a red cup", "a blue cup", "a <del>red</del> <ins>blue</ins> cup"),
        ("yes", "yes", "yes"),
        ("", "no", "<ins>no</ins>"),
        ("a red cup", "a cup", "a <del>red</del> cup"),
        ("<b>", "<i>", "<del>&lt;b&gt;</del> <ins>&lt;i&gt;</ins>"),
    ],
)
def test_diff_marks_the_words_that_changed(before, after, html):
    assert diff(before, after) == html


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.999, "99.9%"), (1.0, "100%"), (0.001, "0.1%"), (0.0, "0%"), (0.5, "50%"), (None, "not measured")],
)
def test_percent_never_rounds_to_all_or_nothing(value, text):
    assert percent(value) == text


def test_the_verdict_names_the_strongest_retrained_probe_at_an_edited_layer(results):
    untouched = {**results["probes"][0], "site": "vision.0.resid", "after_frozen": m(0.9), "after_retrained": m(0.9)}
    results["probes"] = [untouched, *results["probes"]]
    assert "reads it with 62% at vision.1.resid (chance: 50%): the information is still inside" in " ".join(
        verdict(results)
    )
