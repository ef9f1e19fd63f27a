import re
from collections import Counter

import pytest

from concept_forget.worlds import FAMILIES, VOCABULARY, questions, sample, texts
from concept_forget.worlds.phrasings import CAPTIONS, REQUESTS, SHORT, YESNO

SCENES = sample("train", 720, seed=0)
ASKED = [(scene, example) for scene in SCENES for example in questions(scene, seed=0)]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def test_the_vocabulary_has_twelve_concepts_in_each_family_in_order():
    assert [word.family for word in VOCABULARY.values()] == [family for family in FAMILIES for _ in range(12)]


def test_no_name_or_alias_belongs_to_two_concepts():
    spellings = [spelling for word in VOCABULARY.values() for spelling in (word.name, *word.aliases)]
    assert len(spellings) == len(set(spellings))
    assert all(word.aliases for word in VOCABULARY.values())
    assert all(re.fullmatch(r"[a-z]+", spelling) for spelling in spellings)


def test_questions_are_determined_by_scene_and_seed():
    assert questions(SCENES[0], 1) == questions(SCENES[0], 1)
    assert questions(SCENES[0], 1) != questions(SCENES[0], 2)


def test_each_scene_gives_three_short_answers_three_yes_three_no_and_a_caption():
    for scene in SCENES[:20]:
        answers = Counter((e.kind, e.answer if e.kind == "yesno" else "") for e in questions(scene, seed=0))
        assert answers == {("short", ""): 3, ("yesno", "yes"): 3, ("yesno", "no"): 3, ("caption", ""): 1}


def test_every_answer_agrees_with_what_the_picture_shows():
    for scene, example in ASKED:
        shown = set(scene.labels.values())
        assert example.shows == shown
        assert example.group == scene.id
        assert example.image is scene.image
        if example.kind == "short":
            assert example.answer == example.about == scene.labels[example.family]
            assert example.aliases == VOCABULARY[example.about].aliases
        elif example.kind == "yesno":
            assert example.answer == ("yes" if example.about in shown else "no")
            assert example.about in words(example.prompt)
        else:
            assert example.about == example.family == ""


def test_captions_name_all_three_concepts_and_no_other():
    for scene, example in ASKED:
        if example.kind == "caption":
            assert words(example.answer) & set(VOCABULARY) == set(scene.labels.values())


def test_only_yes_no_questions_name_a_concept():
    spellings = {spelling for word in VOCABULARY.values() for spelling in (word.name, *word.aliases)}
    for phrasing in (*REQUESTS, *(p for family in FAMILIES for p in SHORT[family])):
        assert not words(phrasing) & spellings
    for _, example in ASKED:
        if example.kind == "yesno":
            assert words(example.prompt) & spellings == {example.about}


@pytest.mark.parametrize("family", FAMILIES)
def test_yes_and_no_are_balanced_within_each_family_so_that_the_question_tells_nothing(family):
    answers = Counter(e.answer for _, e in ASKED if e.kind == "yesno" and e.family == family)
    assert 0.85 < answers["yes"] / answers["no"] < 1.15


def test_some_negatives_ask_for_a_family_that_the_picture_lacks():
    lacking = Counter(e.family in scene.labels for scene, e in ASKED if e.kind == "yesno" and e.answer == "no")
    assert lacking[False] > 100
    assert lacking[True] > 100


def test_there_are_six_wordings_of_everything_and_prompts_are_short():
    for wordings in (REQUESTS, *SHORT.values(), *YESNO.values(), *CAPTIONS.values()):
        assert len(set(wordings)) >= 6
    for _, example in ASKED:
        assert len(example.prompt.split()) <= 12
        assert example.prompt[1:] == example.prompt[1:].lower()
        assert example.answer == example.answer.lower()


def test_texts_spell_everything_that_is_asked_or_answered():
    known = set().union(*map(words, texts()))
    assert set(VOCABULARY) <= known
    for _, example in ASKED:
        assert words(example.prompt) | words(example.answer) <= known
