"""Sets in RWKU's shape, neighbours by what they share, passages of one kind, skills that come out right."""

import pytest

from concept_forget.worlds.text import members, neighbours, passages, rwku, skill, subjects, targets, utility

KEYS = {"query", "answer", "level", "type", "subject"}


def test_the_sets_of_a_target_have_rwkus_files_and_keys():
    sets = rwku(targets()[2])
    for level in "123":
        rows = sets[f"forget_level{level}"]
        assert all(set(row) == KEYS and row["level"] == level for row in rows)
        assert {row["subject"] for row in rows} == {targets()[2]}
    assert all(set(row) == KEYS | {"neighbor", "distance"} for row in sets["neighbor_level1"] + sets["neighbor_level2"])
    assert {row["distance"] for row in sets["neighbor_level1"]} == {"shares", "town", "far"}
    for name in ("forget_mia", "retain_mia", "forget_unseen", "retain_unseen"):
        assert all(set(row) == {"text", "subject"} for row in sets[name])
    assert {row["task"] for row in sets["utility"]} == {"counting", "copying", "comparing"}
    assert rwku(targets()[2]) == sets


@pytest.mark.parametrize("name", targets()[:6])
def test_a_neighbour_shares_what_its_distance_says(name):
    me, found = subjects()[name], neighbours(name)
    assert all(found.values())
    assert all(me.shared(subjects()[other]) >= 2 for other in found["shares"])
    assert all(subjects()[other].values["birthplace"] == me.values["birthplace"] for other in found["town"])
    assert all(me.shared(subjects()[other]) == 0 for other in found["far"])
    assert name not in {other for names in found.values() for other in names}


def test_seen_and_unseen_passages_are_different_texts_about_the_same_person():
    for name in members("person")[:30]:
        seen, unseen = passages(name, True), passages(name, False)
        assert len(seen) == len(unseen) == 4
        assert not {p.text for p in seen} & {p.text for p in unseen}
        assert all(p.text.count(name) == 4 and p.subject == name for p in seen + unseen)


def test_skills_come_out_right_and_test_tasks_are_no_training_tasks():
    for task in utility("test", 12):
        numbers = [int(word.strip(",.?")) for word in task.question.split() if word.strip(",.?").isdigit()]
        if task.task == "counting":
            assert task.answer == " ".join(map(str, range(numbers[0], numbers[1] + 1)))
        elif task.task == "comparing":
            assert task.answer == str((max if "larger" in task.question else min)(numbers))
        else:
            assert task.question.endswith(task.answer)
    assert not set(utility("test", 12)) & set(utility("train", 40))
    with pytest.raises(ValueError, match="not 1000 different tasks of counting"):
        utility("test", 1000)
    with pytest.raises(LookupError, match="the skills are counting"):
        skill("singing", "test", None)  # type: ignore[arg-type]
