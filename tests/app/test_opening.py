"""What the user names is found, or the closest names and the way to list them are in the error."""

import pytest

from app.choosing import method_of
from app.opening import PLUS, NoSuchMethod, find_concept, find_method, open_model, read_settings
from app.world_concepts import FAMILIES, NoSuchConcept, Pool, Sizes, find, world_concept
from concept_forget.concepts import role
from concept_forget.methods import METHODS


@pytest.mark.parametrize(("given", "found"), [("red", "red"), ("Scarlet", "red"), (" CUP ", "cup"), ("mug", "cup")])
def test_a_concept_is_found_by_name_or_alias_in_any_case(given, found):
    assert find(given) == found


def test_an_unknown_concept_names_the_closest():
    with pytest.raises(NoSuchConcept, match=r"Did you mean .*guitar.*concept-forget concepts"):
        find("gitar")


def test_an_unknown_method_names_the_closest_and_all():
    with pytest.raises(NoSuchMethod, match="Did you mean gated_clamp") as caught:
        find_method("gated_clmp")
    assert all(name in str(caught.value) for name in METHODS)


@pytest.mark.parametrize("name", [PLUS, *METHODS])
def test_every_method_can_be_chosen_and_made_again_from_its_settings(name):
    for method in find_method(name):
        if name != "random_features":
            assert method_of(method.settings()) == method


def test_settings_are_read_as_their_defaults_are_and_held():
    given = read_settings("diff_means", ["strength=2", "gated=true", "looser=[0.1]", "site=text.0.resid"])
    assert given == {"strength": 2.0, "gated": True, "looser": (0.1,), "site": "text.0.resid"}
    assert find_method("diff_means", given)[0] == METHODS["diff_means"](**given)
    assert read_settings("guard", ["delta=null"]) == {"delta": None}


def test_an_unknown_model_names_the_closest_and_how_to_list():
    with pytest.raises(LookupError, match="Did you mean tiny-llava.*concept-forget models"):
        open_model("tiny-lava")


def test_no_concept_at_all_says_what_to_give(tiny_llava):
    with pytest.raises(ValueError, match="--concept NAME, or --forget DIR"):
        find_concept(tiny_llava)


@pytest.mark.parametrize("name", ["red", "cup", "wood", "sad", "tennis"])
def test_parts_of_a_world_concept_show_what_they_should(name):
    concept = world_concept(name, Sizes(12, 6, 6))
    for examples in (concept.train, concept.validation, concept.test):
        kin = {other for other, family in FAMILIES.items() if family == concept.family and other != name}
        assert all(name in e.shows for e in examples.forget)
        assert all(name not in e.shows and e.shows & kin for e in examples.near)
        assert not any(e.shows & (kin | {name}) for e in examples.retain)
    roles = {role(e, concept) for part in concept.test for e in part} - {None}
    assert roles == {"UAd", "UAg", "IRA", "CRA", "COA"}


def test_splits_share_no_group():
    concept = world_concept("cup", Sizes(40, 20, 20))
    splits = [
        {e.group for part in examples for e in part} for examples in (concept.train, concept.validation, concept.test)
    ]
    assert not (splits[0] & splits[1] or splits[0] & splits[2] or splits[1] & splits[2])


def test_a_pool_shows_every_picture_to_every_concept():
    pool = Pool(Sizes(72, 36, 36))
    red, cup = pool.concept("red"), pool.concept("cup")
    everything = {e.group for e in pool.examples("train")}
    for concept in (red, cup):
        assert {e.group for part in concept.train for e in part} == everything
    assert {id(e.image) for e in red.train.forget} <= {id(e.image) for part in cup.train for e in part}
    assert not red.train.retain
