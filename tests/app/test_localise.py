"""`localise` as a user calls it, and its tables."""

from __future__ import annotations

import json

import pytest
import torch

from analysis.localise import located
from analysis.validity import Validity, over_pictures
from app import localising
from app.localising import by_layer, layer_table, markdown, summary
from concept_forget.sites import Site

SITE, TEXT = Site("vision", 1, "resid"), Site("text", 0, "resid")


def planted(concept: str, seed: int) -> dict:
    """A concept that the probe finds at one layer and not at the other, and the trace at neither."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(10, 16, generator=generator) < 0.3
    mask[:, 0], mask[:, 1] = True, False
    noise = torch.rand(10, 16, generator=generator)
    rows = {"probe": {SITE: mask + 0.1 * noise, TEXT: noise}, "trace": {SITE: noise.flip(1)}}
    maps = {name: row[SITE] for name, row in rows.items()}
    found = located(concept, SITE, maps, mask.float(), (4, 4), layers=rows)
    few = over_pictures(noise[:, 0].numpy())
    found.validity.update({name: Validity(few, few, few, few, few, 1.0) for name in maps})
    return found.to_json()


@pytest.fixture
def call(caller, random_dictionary):
    return caller("localise", "--dictionary", str(random_dictionary))


def test_an_interrupted_run_goes_on_where_it_stopped(call, monkeypatch):
    done, stop = [], [True]

    def one(_model, concept, *_):
        if concept == "wood" and stop:
            stop.clear()
            raise KeyboardInterrupt
        done.append(concept)
        example = {"picture": "data:image/png;base64,AA==", "maps": {"truth": [[0, 1], [1, 0]]}}
        return {**planted(concept, len(done)), "example": example}

    monkeypatch.setattr(localising, "one", one)
    monkeypatch.setattr(localising, "prepared", lambda *_: None)
    asked = ("-c", "star", "-c", "wood", "--pictures", "4")
    assert call(*asked)[0] == 130
    code, out, _, folder = call(*asked, "--resume", "--json")
    assert code == 0 and done == ["star", "wood"], "star was taken over"
    found = json.loads(out)
    assert [part["concept"] for part in found["concepts"]] == ["star", "wood"] and "example" not in found["concepts"][0]
    assert found["summary"]["probe"]["auroc"]["value"] == 1 and found["layers"]["probe"][str(TEXT)]["value"] < 0.7
    table = (folder / "localisation.md").read_text()
    assert "| object | star | 1.00 [1.00, 1.00]" in table and "| vision.1.resid | 1.00" in table
    assert {path.stem for path in (folder / "figures").glob("*.html")} == {
        "localise_layers", "localise_star", "localise_wood"
    }  # fmt: skip
    assert not (folder / ".steps").exists()


def test_tables_have_every_instrument_there_is_and_a_line_for_what_is_not():
    found = [planted("star", 0), planted("red", 1)]
    assert list(summary(found)) == ["probe", "trace"]
    layers = by_layer(found)
    assert list(layers["probe"]) == [str(SITE), str(TEXT)] and list(layers["trace"]) == [str(SITE)]
    assert layer_table(layers).splitlines()[-1].endswith("| - |")
    assert len(markdown(found).splitlines()) == 4


def test_one_concept_has_its_interval_over_pictures():
    (only,) = found = [planted("star", 0)]
    assert summary(found)["trace"]["auroc"] == only["hits"]["trace"]["auroc"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pictures", "1"), "greater than or equal to 2"),
        (("-c", "strar"), "star"),
        (("--model", "tiny-llama"), "reads no pictures"),
        (("-c", "star", "--out", "/proc/nowhere"), "/proc/nowhere"),
    ],
)
def test_bad_input_ends_with_code_2(call, arguments, message):
    code, _, err, _ = call(*arguments)
    assert code == 2 and message in " ".join(err.replace("│", " ").split())
