"""A person as a request: splits share no group, parts show what they should, every metric has questions."""

from collections import Counter

import pytest

from concept_forget.concepts import role
from concept_forget.evaluation.judge import yes_or_no
from concept_forget.worlds.text import concept, subjects, targets

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module", params=[targets()[0], "Ambry"])
def asked(request):
    return concept(request.param)


def test_every_metric_has_questions_in_the_test_split(asked):
    counts = Counter(role(example, asked) for part in asked.test for example in part)
    wanted = ("UAd", "UAg", "IRA", "CRA", "COA") if asked.family == "person" else ("UAd", "IRA", "CRA", "COA")
    assert min(counts[name] for name in wanted) >= 2, counts
    assert min(counts[name] for name in ("UAd", "IRA", "CRA", "COA")) >= 10, counts


def test_what_leads_to_the_name_is_enough_to_measure_and_in_no_training():
    person = concept(targets()[0])
    led = {split: [e for e in getattr(person, split).forget if e.kind == "caption"] for split in SPLITS}
    assert len(led["validation"]) >= 8 and len(led["test"]) >= 20
    assert len({e.group for e in led["test"]}) >= 10, "an interval needs more than one group"
    assert all("describe" in e.group or "description" in e.group for e in led["train"])
    assert all(person.name in e.answer and person.name not in e.prompt for part in led.values() for e in part)


def test_parts_show_what_they_should(asked):
    for split in SPLITS:
        forget, near, retain = getattr(asked, split)
        assert all(asked.name in example.shows and asked.name in example.prompt + example.answer for example in forget
                   if example.kind != "caption")  # fmt: skip
        assert all(asked.name not in example.shows for example in near + retain)
        assert {example.family for example in near if example.family} == {asked.family}
        assert asked.family not in {example.family for example in retain}
        assert all(asked.name not in example.prompt for example in near)


def test_neither_splits_nor_parts_share_a_group_or_a_prompt(asked):
    parts = [(split, part) for split in SPLITS for part in range(3)]
    groups = [{example.group for example in getattr(asked, split)[part]} for split, part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))
    prompts = [{e.prompt for part in getattr(asked, split) for e in part} for split in SPLITS]
    assert not prompts[0] & prompts[1] and not prompts[0] & prompts[2] and not prompts[1] & prompts[2]


def test_a_yes_about_the_concept_is_always_the_true_answer(asked):
    mine = [e for e in asked.test.forget if e.kind == "yesno" and e.about == asked.name]
    assert mine and all(yes_or_no(example.answer) is True for example in mine)
    others = [yes_or_no(e.answer) for e in asked.test.near if e.kind == "yesno"]
    assert others.count(True) == others.count(False) > 0


def test_the_answers_are_the_facts(asked):
    for example in asked.test.near:
        if example.kind == "short":
            assert example.answer in subjects()[example.about].values.values()
