import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from concept_forget.concepts import Example
from concept_forget.directions import FeatureRows
from concept_forget.edits.shift import Shift
from concept_forget.sites import Site
from saes.card_page import fragment, page
from saes.cards import STEP, read_cards
from saes.dictionary import SaeDictionary
from saes.overlay import seen, shade

SITE = Site("vision", 1, "resid")


def pictures(count=24):
    """Dark noise; every third picture is bright in its upper left quarter, and shows "light"."""
    made = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 60, (32, 32, 3), dtype=np.uint8)
        shows = {"noise"} if number % 2 else {"dots"}
        if number % 3 == 0:
            pixels[:16, :16] = 255 - pixels[:16, :16]
            shows.add("light")
        image = Image.fromarray(pixels)
        shows = frozenset(shows)
        made.append(Example("what is shown here ?", "yes", image, "short", "light", "f", shows, (), f"p{number:02d}"))
    return made


def planted(model, site, examples):
    """Feature 0 points from dark to bright patches, feature 1 nearly so; the others are random."""
    batch = model.prepare([e.prompt for e in examples], [e.image for e in examples])
    x = model.run(batch, read=[site], logits=None).activations[site][:, batch.tokens.patches(site)]
    bright = torch.tensor(["light" in e.shows for e in examples])
    corner = torch.zeros(4, 4, dtype=torch.bool)
    corner[:2, :2] = True
    inside, outside = x[bright][:, corner.flatten()].flatten(0, 1), x[~bright].flatten(0, 1)
    direction = torch.nn.functional.normalize(inside.mean(0) - outside.mean(0), dim=0)
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(8, len(direction), generator=generator), dim=1)
    rows[0], rows[1] = direction, torch.nn.functional.normalize(direction + 0.2 * rows[1], dim=0)
    bias = torch.zeros(8)
    bias[:2] = -float((outside @ direction).max()) - 0.01
    bias[7] = -1e4  # never fires
    return SaeDictionary.from_rows(
        FeatureRows(rows, bias, torch.zeros(8), rows.clone()), torch.zeros(len(direction)), site
    )


@pytest.fixture(scope="module")
def cards(tiny_llava):
    examples = pictures()
    return read_cards(tiny_llava, planted(tiny_llava, SITE, examples), examples, batch_size=8)


def test_a_planted_feature_shows_its_pictures_its_patches_and_its_concept(cards):
    card = cards.card(0, top=4)
    assert all("light" in shown.shows for shown in card.images) and len(card.images) == 4
    peaks = [shown.peak for shown in card.images]
    assert peaks == sorted(peaks, reverse=True) and peaks[0] == pytest.approx(card.peak, rel=1e-4)
    heat = card.images[0].heat
    assert heat.shape == (4, 4) and heat[:2, :2].sum() > 0.85 * heat.sum()
    assert card.concepts[0][:2] == ("light", 1.0) and card.concepts[0].groups == 8
    assert card.title == "light"
    assert card.neighbours[0].feature == 1 and card.neighbours[0].concept == "light"


def test_density_histogram_and_spread_count_every_firing_token(cards):
    card = cards.card(3)
    x = torch.cat([shard.x for shard in cards.store.shards()])
    z = cards.dictionary.encode(x)[:, 3]
    assert card.tokens == len(x) == 24 * 16
    assert card.density == pytest.approx(float((z > 0).float().mean()))
    assert sum(card.counts) == int((z > 0).sum()) and card.edges[-1] == pytest.approx(float(z.max()))
    assert card.spread == pytest.approx(float((z.view(24, 16) > 0).any(1).float().mean()))


def test_promoted_logits_are_the_slope_along_the_decoder_row(cards, tiny_llava):
    card = cards.card(0)
    z = torch.cat([cards.dictionary.encode(shard.x)[:, 0] for shard in cards.store.shards()])
    silent = [cards.examples[cards.store.groups[int(i)]][0] for i in cards.moments.max[:, 0].argsort(stable=True)[:4]]
    batch = tiny_llava.prepare([e.prompt for e in silent], [e.image for e in silent])
    row = cards.dictionary.decoder[0] * z[z > 0].mean()
    shifted = tiny_llava.run(batch, edits=[Shift(SITE, STEP * row)]).logits
    slope = ((shifted - tiny_llava.run(batch).logits) / STEP).mean(0)
    slope = slope - slope.mean()
    assert card.promotes[0].change == pytest.approx(float(slope.max()), rel=1e-3, abs=1e-5)
    assert card.suppresses[0].change == pytest.approx(float(slope.min()), rel=1e-3, abs=1e-5)
    assert card.promotes[0].token == tiny_llava.tokenizer.decode([int(slope.argmax())])


def test_a_silent_feature_and_a_feature_there_is_not_say_so(cards):
    card = cards.card(7)
    assert card.note == "It never fires here." and card.images == () and sum(card.counts) == 0
    assert "never fires" in card._repr_html_()
    with pytest.raises(LookupError, match="features 0..7"):
        cards.card(8)


def test_a_site_that_cannot_reach_the_answer_has_a_card_without_logits(tiny_llava):
    dead, examples = Site("vision", 3, "resid"), pictures(6)
    card = read_cards(tiny_llava, planted(tiny_llava, dead, examples), examples).card(0)
    assert card.promotes == () and "not measured" in card.note and card.images


def test_texts_are_shown_token_by_token(tiny_llama, identity):
    site = Site("text", 1, "resid")
    words = ["a red cup on wood .", "yes", "is there a star ?", "which colour is the cup ?"]
    examples = [Example(text, "no", group=text) for text in words]
    dictionary = identity(32, site)
    card = read_cards(tiny_llama, dictionary, examples).card(5)
    for said in card.texts:
        assert "".join(said.tokens).strip().replace(" ", "").find(said.group.replace(" ", "")) >= 0
        batch = tiny_llama.prepare([said.group])
        x = tiny_llama.run(batch, read=[site]).activations[site][0]
        expected = dictionary.encode(x)[:, 5][batch.tokens.text_mask[0]]
        torch.testing.assert_close(torch.tensor(said.values), expected, atol=1e-4, rtol=1e-4)
    peaks = [max(said.values) for said in card.texts]
    assert peaks == sorted(peaks, reverse=True) and peaks[0] == pytest.approx(card.peak, rel=1e-3)
    html = fragment([card])
    assert "rgba(var(--mark)" in html and "<img" not in html


def test_a_page_loads_nothing_escapes_what_it_shows_and_reads_in_the_dark(cards):
    card = replace(cards.card(0, top=2), model="<script>alert(1)</script>")
    text = page([card])
    assert "<script" not in text
    assert all(uri.startswith("data:image/png;base64,") for uri in re.findall(r'(?:src|href)="([^"]+)"', text))
    assert "prefers-color-scheme: dark" in text and text.count('class="over"') == 2
    piece = card._repr_html_()
    assert "<html" not in piece and "body {" not in piece, "a fragment must leave the notebook's own style alone"


def test_a_card_as_json_has_no_pixels_and_no_nan(cards):
    plain = json.loads(json.dumps(cards.card(0, top=2).to_json(), allow_nan=False))
    assert plain["site"] == "vision.1.resid" and plain["feature"] == 0 and plain["title"] == "light"
    assert np.array(plain["images"][0]["heat"]).shape == (4, 4)
    assert len(plain["histogram"]["edges"]) == len(plain["histogram"]["counts"]) + 1


def test_the_picture_is_shown_as_the_tower_gets_it(tiny_llava, picture):
    wide = picture(0, 64, 32)
    batch = tiny_llava.prepare(["what is shown here ?"], [wide])
    values = torch.arange(17.0)
    view = seen(tiny_llava, batch, wide, SITE, values)
    assert view.image.size == (32, 32), "cropped"
    assert np.abs(np.asarray(view.image, int) - np.asarray(wide.crop((16, 0, 48, 32)), int)).max() <= 2
    assert view.heat.flatten().tolist() == list(range(1, 17)), "without CLS, row by row"


def test_tiles_are_put_together_again(tiny_mllama, picture):
    wide = picture(0, 64, 32)
    batch = tiny_mllama.prepare(["what is shown here ?"], [wide])
    places = batch.tokens.patches(SITE)
    values = torch.zeros(int(places.max()) + 9)
    values[places[16:]] = 1.0
    view = seen(tiny_mllama, batch, wide, SITE, values)
    assert view.image.size == (64, 32)
    assert np.abs(np.asarray(view.image, int) - np.asarray(wide, int)).mean() < 2
    assert view.heat.shape == (4, 8) and view.heat[:, :4].sum() == 0 and view.heat[:, 4:].min() == 1
    inside = seen(tiny_mllama, batch, wide, Site("text", 1, "resid"), torch.zeros(batch.inputs["input_ids"].shape[1]))
    assert inside.heat is None


def test_shade_is_opaque_where_nothing_fires():
    import base64
    import io

    uri = shade(torch.tensor([[0.0, 4.0]]), 4.0)
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))[..., 3]
    assert alpha[0].tolist() == [208, 0]
