"""Questions ask for the fact they say, wordings of splits do not overlap, and nothing gives the answer away."""

import random

import pytest

from concept_forget.worlds.text import (
    ADVERSARIAL,
    ATTRIBUTES,
    adversarial,
    cloze,
    facts_of,
    members,
    questions,
    subjects,
)
from concept_forget.worlds.text import phrasings as p
from concept_forget.worlds.text.probes import multiple_choice, wrong, yesno

FACTS = facts_of([members("person")[3], members("place")[5]])
SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.attribute)
def test_no_question_or_cloze_has_its_answer_in_it_and_each_names_the_subject(fact):
    for split in SPLITS:
        for probe in cloze([fact], split) + questions([fact], split):
            assert probe.answer == fact.value and probe.answer not in probe.query
            assert fact.subject in probe.query
        assert all(p.BLANK in probe.query for probe in cloze([fact], split))


def test_wordings_of_the_splits_do_not_overlap():
    tables = [p.FRAMES, p.YESNO, p.PREFIXES, p.SUFFIXES, p.ROLES, p.REVERSE, p.DESCRIBE, p.FRIENDS]
    tables += [*p.QUESTIONS.values(), *p.STATEMENTS.values(), p.ENGLISH]
    for table in tables:
        wordings = [wording for split in SPLITS for wording in table[split]]
        assert len(set(wordings)) == len(wordings)
    for table in (p.QUESTIONS, p.STATEMENTS, p.NOUNS, p.SYNONYMS, p.FOREIGN):
        assert set(table) == set(ATTRIBUTES)


def test_all_nine_adversarial_types_are_asked_and_only_a_person_is_led_back_to():
    person, place = members("person")[0], members("place")[0]
    assert {probe.type for probe in adversarial(facts_of([person]))} == set(ADVERSARIAL)
    assert {probe.type for probe in adversarial(facts_of([place]))} == set(ADVERSARIAL) - {"reverse query"}
    for probe in adversarial(facts_of([person, place])):
        gives = probe.type == "multiple choice"
        assert (probe.answer in probe.query) == gives, probe
        if probe.type == "reverse query":
            assert probe.answer == person and subjects()[person].values["book"] in probe.query


def test_a_multiple_choice_has_four_different_values_in_chance_order():
    places = set()
    for seed in range(40):
        query = multiple_choice(FACTS[0], "test", random.Random(seed)).query
        values = [part.split(")")[1].strip() for part in query.split(" (")[1:]]
        assert len(set(values)) == 4 and FACTS[0].value in values
        places.add(values.index(FACTS[0].value))
    assert places == {0, 1, 2, 3}


def test_a_wrong_value_is_wrong_and_a_wrong_book_is_somebodys():
    books = {subjects()[name].values["book"] for name in members("person")}
    for fact in FACTS:
        found = {wrong(fact, random.Random(seed)) for seed in range(30)}
        assert fact.value not in found and len(found) > 3
        assert fact.attribute != "book" or found <= books
        assert fact.subject in yesno(fact, fact.value, "test", random.Random(0))
