"""`heads` as a user calls it."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def call(caller):
    return caller("heads")


def test_every_head_is_taken_out_and_the_strongest_are_looked_at(call):
    code, out, _, folder = call("--concept", "star", "--prompts", "2", "--top", "3", "--json")
    assert code == 0
    found = json.loads(out)
    assert len(found["values"]) == 4 and len(found["values"][0]) == 4 and len(found["top"]) == 3
    best = found["top"][0]
    assert best["effect"] == pytest.approx(max(v for row in found["values"] for v in row), abs=1e-5)
    assert sum(next(iter(found["looks"].values()))["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert {path.stem for path in (folder / "figures").glob("*.html")} == {"head_effects", "head_maps"}


def test_one_prompt_has_no_interval_and_is_still_json(call):
    code, out, _, _ = call("--concept", "star", "--prompts", "1", "--json")
    assert code == 0 and json.loads(out)["top"][0]["low"] is None
    code, out, _, _ = call("--concept", "star", "--prompts", "1", "--top", "2")
    assert code == 0 and "looks at picture" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of --concept NAME or --cases FILE"),
        (("--concept", "strar"), "star"),
        (("--concept", "star", "--ablation", "noise"), "'zero' or 'mean'"),
        (("--concept", "star", "--prompts", "1", "--out", "/proc/nowhere"), "/proc/nowhere"),
    ],
)
def test_bad_input_ends_with_code_2(call, arguments, message):
    code, _, err, _ = call(*arguments)
    assert code == 2 and message in " ".join(err.split())
