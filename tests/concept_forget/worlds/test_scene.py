import colorsys

import numpy as np
import pytest

from concept_forget.worlds import SUBJECT_FAMILIES, VOCABULARY, Scene, SceneSpec, members, pixels, render, sample
from concept_forget.worlds.drawings import COLOURS, SUBJECTS, TEXTURES

SUBJECT_NAMES = [name for family in SUBJECT_FAMILIES for name in members(family)]


def some_scenes_of(subject: str) -> list[Scene]:
    return sample("train", 24, seed=3, having=subject)


def test_every_concept_has_a_drawing():
    assert set(SUBJECTS) | set(COLOURS) | set(TEXTURES) == set(VOCABULARY)


def test_a_spec_determines_every_pixel():
    spec = SceneSpec("cup", "red", "wood", 123)
    assert np.array_equal(render(spec), render(SceneSpec("cup", "red", "wood", 123)))
    assert not np.array_equal(render(spec), render(SceneSpec("cup", "red", "wood", 124)))


def test_the_batch_equals_the_scenes_one_by_one():
    scenes = sample("test", 20, seed=0)
    assert np.array_equal(pixels([s.spec for s in scenes]), np.stack([np.asarray(s.image) for s in scenes]))


def test_a_scene_tells_what_it_shows():
    scene = Scene(SceneSpec("cup", "red", "wood", 123))
    assert scene.labels == {"object": "cup", "colour": "red", "material": "wood"}
    assert scene.id == "cup-red-wood-000123"
    assert scene.image.size == (96, 96)
    assert scene.image.mode == "RGB"


def test_equal_seeds_pose_alike_so_that_pictures_differ_by_one_concept_only():
    red, blue = (Scene(SceneSpec("cup", colour, "wood", 5)) for colour in ("red", "blue"))
    changed = (np.asarray(red.image) != np.asarray(blue.image)).any(-1)
    assert changed[red.masks["red"]].all()
    assert not changed[red.masks["wood"] & ~_grown(red.masks["red"])].any()


@pytest.mark.parametrize("subject", SUBJECT_NAMES)
def test_colour_and_material_are_large_enough_in_every_pose(subject):
    for scene in some_scenes_of(subject):
        assert scene.masks[scene.spec.colour].mean() >= 0.12
        assert scene.masks[scene.spec.material].mean() >= 0.35
        assert scene.masks[subject].mean() >= 0.12


@pytest.mark.parametrize("subject", SUBJECT_NAMES)
def test_masks_split_the_picture(subject):
    for scene in some_scenes_of(subject):
        own, colour, material = (scene.masks[name] for name in scene.labels.values())
        assert all(mask.dtype == bool and mask.shape == (96, 96) for mask in (own, colour, material))
        assert not (own & material).any()
        assert not (colour & material).any()
        assert (own | colour | material).all()
        on_subject = (own & colour).any()
        assert on_subject == (VOCABULARY[subject].family != "emotion")


@pytest.mark.parametrize("colour", members("colour"))
def test_the_colour_mask_really_has_the_colour(colour):
    for scene in sample("train", 36, seed=1, having=colour):
        shown = np.median(np.asarray(scene.image)[scene.masks[colour]], axis=0)
        assert min(COLOURS, key=lambda name: _difference(shown, COLOURS[name])) == colour


def _difference(a, b) -> float:
    def cone(rgb):
        h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
        return np.array([s * v * np.cos(2 * np.pi * h), s * v * np.sin(2 * np.pi * h), v])

    return float(np.linalg.norm(cone(a) - cone(b)))


def _grown(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    size = mask.shape[0]
    return np.any([padded[i : i + size, j : j + size] for i in range(3) for j in range(3)], axis=0)
