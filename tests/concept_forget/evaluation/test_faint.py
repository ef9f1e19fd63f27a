"""Faint copies: as large as the original, different from it, the same for the same seed; only forgetting is asked."""

import random

import numpy as np

from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.evaluation.faint import asked_faintly, faint, faint_copies


def test_every_picture_has_one_copy_that_is_its_own_group(picture):
    image = picture(0)
    examples = [Example("?", "a", image, group="g"), Example("!", "b", image, group="g"), Example("?", "c", group="t")]
    made = faint_copies(examples)
    assert [(e.prompt, e.group) for e in made] == [("?", "g faint"), ("!", "g faint")]
    assert made[0].image is made[1].image
    assert made[0].image.size == image.size
    assert made[0].image.tobytes() != image.tobytes()
    assert made[0].image.tobytes() == faint_copies(examples)[0].image.tobytes()
    assert made[0].image.tobytes() != faint_copies(examples, seed=1)[0].image.tobytes()


def test_pictures_without_a_group_have_copies_of_their_own(picture):
    made = faint_copies([Example("?", "a", picture(0)), Example("?", "a", picture(1))])
    assert made[0].group != made[1].group
    assert made[0].image is not made[1].image


def test_copies_stay_pictures_of_the_same_thing(picture):
    image = picture(3, 48, 32)
    for seed in range(20):
        made = faint(image, random.Random(seed))
        assert made.size == image.size
        assert np.asarray(made).std() > 5


def test_only_what_is_to_be_forgotten_is_asked_again_and_only_on_validation(picture):
    shows = frozenset({"cup", "red"})
    forget = (
        Example("Is there a cup?", "yes", picture(0), "yesno", "cup", "object", shows, group="g"),
        Example("Describe it.", "a red cup", picture(0), "caption", shows=shows, group="g"),
        Example("Which colour?", "red", picture(0), "short", "red", "colour", shows, group="g"),
        Example("Is there a cup?", "yes", None, "yesno", "cup", "object", shows, group="t"),
    )
    parts = ExampleSet(forget, (), ())
    concept = Concept("cup", "object", parts, parts, parts)
    asked = asked_faintly(concept)
    assert asked.validation.forget[: len(forget)] == forget
    assert [e.prompt for e in asked.validation.forget[len(forget) :]] == ["Is there a cup?", "Describe it."]
    assert (asked.train, asked.test) == (concept.train, concept.test)
