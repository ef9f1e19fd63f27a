"""Faint copies: as large as the original, different from it, the same for the same seed; only forgetting is asked."""

import random

import numpy as np

from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.evaluation.faint import asked_faintly, faint, faint_copies, with_faint_copies


def test_copies_are_as_large_and_others_and_the_same_for_the_same_seed(picture):
    example = Example("?", "a", picture(0), group="g")
    made = faint_copies(example, 3)
    assert made[0] is example.image
    assert {image.size for image in made} == {example.image.size}
    assert len({image.tobytes() for image in made}) == 4
    assert [image.tobytes() for image in made] == [image.tobytes() for image in faint_copies(example, 3)]
    assert made[1].tobytes() != faint_copies(example, 3, seed=1)[1].tobytes()


def test_copies_stay_pictures_of_the_same_thing(picture):
    image = picture(3, 48, 32)
    for seed in range(20):
        made = faint(image, random.Random(seed))
        assert made.size == image.size
        assert np.asarray(made).std() > 5


def test_only_what_is_to_be_forgotten_is_asked_each_question_with_its_copies_as_one(picture):
    shows = frozenset({"cup", "red"})
    forget = (
        Example("Is there a cup?", "yes", picture(0), "yesno", "cup", "object", shows, group="g"),
        Example("Is it a cup?", "yes", picture(0), "yesno", "cup", "object", shows, group="g"),
        Example("Describe it.", "a red cup", picture(0), "caption", shows=shows, group="g"),
        Example("Which colour?", "red", picture(0), "short", "red", "colour", shows, group="g"),
        Example("Is there a cup?", "yes", None, "yesno", "cup", "object", shows, group="t"),
    )
    parts = ExampleSet(forget, (), ())
    asked = asked_faintly(Concept("cup", "object", parts, parts, parts), limit=5, copies=2)
    questions = ("Is there a cup?", "Is it a cup?", "Describe it.")
    copies = [(question, f"g: {question}") for question in questions for _ in range(3)]
    assert sorted((e.prompt, e.group) for e in asked) == sorted([*copies, ("Is there a cup?", "t: Is there a cup?")])
    few = asked_faintly(Concept("cup", "object", ExampleSet((), (), ()), parts, parts), limit=1, copies=1)
    assert [e.kind for e in few if e.image is not None].count("caption") == 2
    assert len({e.group for e in few}) == 2


def test_every_picture_once_has_its_copies_as_groups_of_their_own_and_a_text_has_none(picture):
    one = [Example(prompt, "a", picture(0), group="g") for prompt in ("?", "what?")]
    text = Example("say", "a", group="t")
    whole = with_faint_copies([*one, text], 2)
    assert whole[:3] == (*one, text)
    assert len({example.group for example in whole}) == 4
    assert [example.image.tobytes() for example in whole[3:]] == [
        image.tobytes() for image in faint_copies(one[0], 2)[1:]
    ]
    assert with_faint_copies(one, 0) == tuple(one)
