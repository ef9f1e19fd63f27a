"""Settings are chosen on validation; with faint copies, by what holds on these too."""

from dataclasses import replace

import pytest

from app import choosing
from app.choosing import Choosing, choose_method
from app.world_concepts import Sizes, world_concept
from concept_forget.edits import NoEdit
from concept_forget.methods import Clamp


@pytest.mark.parametrize(("faint", "chosen"), [(False, "fragile"), (True, "robust")])
def test_an_edit_that_holds_on_plain_pictures_only_wins_only_where_nobody_looks_at_faint_ones(
    faint, chosen, tiny_llava, monkeypatch
):
    concept = world_concept("red", Sizes(2, 4, 2))
    fragile, robust = NoEdit(), NoEdit()

    def judged(_model, asked, edit, *_):
        shares = [example.group.endswith("faint") for example in asked.validation.forget]
        assert replace(asked, validation=concept.validation) == concept
        held = 0.9 if edit is robust else 1 - sum(shares) / len(shares)
        return held, {}

    monkeypatch.setattr(choosing, "on_validation", judged)
    among = [("contrast", Clamp(k=1), fragile), ("contrast", Clamp(k=2), robust)]
    choice = choose_method(tiny_llava, concept, "clamp", {}, choosing=Choosing(1, 2, 2, faint), among=among)
    assert choice.edit is {"fragile": fragile, "robust": robust}[chosen]
    assert len(choice.tried) == 2
