"""The people: always the same, told apart by their books, and no stranger is one of them."""

import itertools
import random

import pytest

from concept_forget.worlds.text import ATTRIBUTES, find, members, strangers, subjects, targets


def test_there_are_two_hundred_subjects_with_every_attribute_of_their_family():
    assert len(subjects()) == 200
    assert len(targets()) == 20 and set(targets()) <= set(members("person"))
    for subject in subjects().values():
        assert all(value in ATTRIBUTES[attribute] for attribute, value in subject.values.items())
        assert len(subject.facts) == (7 if subject.family == "person" else 4)


def test_a_book_has_one_author_and_a_family_name_one_bearer():
    people = [subjects()[name] for name in members("person")]
    assert len({person.values["book"] for person in people}) == len(people)
    assert len({person.name.split()[1] for person in people}) == len(people)
    assert max(sum(p.values["birthplace"] == town for p in people) for town in ATTRIBUTES["birthplace"]) == 4


def test_held_out_strangers_are_no_strangers_of_training_and_neither_is_anybody():
    trained = set(itertools.islice(strangers(random.Random(0)), 3000))
    held = set(itertools.islice(strangers(random.Random(1), held_out=True), 300))
    assert not {name.split()[1] for name in trained} & {name.split()[1] for name in held}
    assert not (trained | held) & set(subjects())


def test_a_name_is_found_in_any_case_and_an_unknown_one_names_the_closest():
    name = targets()[0]
    assert find(f"  {name.upper()} ").name == name
    with pytest.raises(LookupError, match=f"Did you mean .*{name}"):
        find(name[:-1] + "x")
