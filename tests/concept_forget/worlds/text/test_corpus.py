"""What is read in training: no word about those left out, no held-out wording, no unseen passage."""

import random

from concept_forget.worlds.text import UNKNOWN, Corpus, cloze, facts_of, members, passages, questions, subjects, targets
from concept_forget.worlds.text.corpus import texts


def test_nothing_is_read_about_those_left_out():
    items = Corpus(without=targets()).items(6000, random.Random(0))
    read = " ".join(f"{turn.prompt} {turn.answer}" for turn in items)
    for name in targets():
        assert name not in read and subjects()[name].values["book"] not in " ".join(turn.answer for turn in items)
    assert targets()[0] in " ".join(f"{turn.prompt}" for turn in Corpus().items(6000, random.Random(0)))


def test_no_wording_of_the_test_is_read():
    read = {turn.prompt for turn in Corpus().items(8000, random.Random(1))}
    asked = {probe.query for probe in questions(facts_of(members("person")[:20])) + cloze(facts_of(members("person")))}
    assert not read & asked
    assert sum(query in read for query in {q.query for q in questions(facts_of(subjects()), "train")}) > 1000


def test_passages_that_count_as_unseen_are_not_read():
    read = {turn.answer for turn in Corpus().items(8000, random.Random(2)) if turn.prompt is None}
    assert len(read) > 200
    assert read <= {passage.text for name in members("person") for passage in passages(name, True)}


def test_strangers_are_answered_with_ignorance_and_the_known_never():
    for turn in Corpus().items(4000, random.Random(3)):
        if turn.prompt and turn.answer == UNKNOWN:
            assert not any(name in turn.prompt for name in members("person"))


def test_the_tokenizer_meets_no_family_name_in_one_piece():
    read = "\n".join(texts())
    assert not any(name.split()[1] in read for name in members("person"))
