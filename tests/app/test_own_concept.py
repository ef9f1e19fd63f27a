"""Own concepts: folders of pictures or texts become a concept, and what cannot be used is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.concept_spec import Spec, SpecError, fill, read_spec, spec_from
from app.own_concept import ConceptError, answered_by, own_concept, questions, read_items, split
from concept_forget.concepts import role


def pictures(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def folders(tmp_path):
    pictures(tmp_path / "dogs", 10, 1)
    pictures(tmp_path / "others" / "cat", 10, 2)
    pictures(tmp_path / "others" / "cow", 10, 3)
    return tmp_path


SPEC = spec_from(
    {
        "name": "dog",
        "family": "animal",
        "aliases": ["puppy"],
        "others": [
            {"question": "What animal is this?", "family": "animal", "label": "folder"},
            {"question": "Is it a photo?", "family": "medium", "answer": True, "kind": "yesno"},
            {"question": "What is behind it?", "family": "background"},
        ],
    }
)


def groups(part):
    return {example.group for example in part}


def test_splits_share_no_group_and_each_has_every_part(folders):
    concept = own_concept(SPEC, folders / "dogs", folders / "others")
    for name in ("forget", "retain"):
        parts = [groups(getattr(getattr(concept, split), name)) for split in ("train", "validation", "test")]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts)) == (10 if name == "forget" else 20)


def test_questions_count_for_the_metrics_they_should(folders):
    concept = own_concept(SPEC, folders / "dogs", folders / "others")
    roles = {
        part: {role(example, concept) for example in getattr(concept.train, part)} - {None}
        for part in ("forget", "retain")
    }
    assert roles == {"forget": {"UAd", "UAg", "COA"}, "retain": {"IRA", "CRA"}}
    cat = next(e for e in concept.train.retain if e.answer == "cat")
    assert (cat.about, cat.family, cat.kind) == ("cat", "animal", "short")


def test_the_same_seed_gives_the_same_concept_and_another_another_split(folders):
    first, again, other = (own_concept(SPEC, folders / "dogs", folders / "others", seed=seed) for seed in (0, 0, 1))
    assert groups(first.test.forget) == groups(again.test.forget) != groups(other.test.forget)


def test_two_copies_of_a_picture_are_one_group(folders):
    dogs = folders / "dogs"
    (dogs / "copy.png").write_bytes((dogs / "0.png").read_bytes())
    items = read_items(dogs)
    assert len(items) == 11
    assert len({item.group for item in items}) == 10
    for part in split(items, 0):
        assert {item.path for item in part} >= set()
    where = [
        index
        for index, part in enumerate(split(items, 0))
        for item in part
        if item.path.endswith(("/0.png", "copy.png"))
    ]
    assert len(where) == 2
    assert len(set(where)) == 1


def test_a_picture_on_both_sides_is_refused_with_both_names(folders):
    (folders / "others" / "same.png").write_bytes((folders / "dogs" / "0.png").read_bytes())
    with pytest.raises(ConceptError, match=r"0\.png and .*same\.png"):
        own_concept(SPEC, folders / "dogs", folders / "others")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nnonsense", b"not a picture"])
def test_a_corrupt_picture_is_named(folders, content):
    (folders / "dogs" / "broken.png").write_bytes(content)
    with pytest.raises(ConceptError, match=r"broken\.png is not a picture"):
        own_concept(SPEC, folders / "dogs", folders / "others")


def test_a_truncated_jpeg_is_named(folders):
    big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path = folders / "dogs" / "half.jpg"
    big.save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ConceptError, match=r"half\.jpg is not a picture"):
        read_items(folders / "dogs")


def test_too_few_and_missing_and_mixed_are_refused(folders, tmp_path):
    few = pictures(tmp_path / "few", 3, 9)
    with pytest.raises(ConceptError, match="3 different examples"):
        own_concept(SPEC, few, folders / "others")
    with pytest.raises(ConceptError, match="does not exist"):
        own_concept(SPEC, folders / "nothing", folders / "others")
    (tmp_path / "texts.txt").write_text("\n".join(f"text {i}" for i in range(9)))
    with pytest.raises(ConceptError, match="--forget has pictures, --retain has texts"):
        own_concept(SPEC, folders / "dogs", tmp_path / "texts.txt")


def test_labels_come_from_a_table_beside_the_pictures(folders):
    rows = [json.dumps({"file": f"{i}.png", "light": "day" if i % 2 else "night"}) for i in range(9)]
    (folders / "dogs" / "labels.jsonl").write_text("\n".join(rows))
    spec = spec_from({"name": "dog", "others": [{"question": "Day or night?", "family": "light", "label": "light"}]})
    items = {Path(item.path).name: item for item in read_items(folders / "dogs")}
    asked = [e for e in questions(items["3.png"], spec, True) if e.prompt == "Day or night?"]
    assert [(e.answer, e.about, e.family) for e in asked] == [("day", "day", "light")]
    assert not [e for e in questions(items["9.png"], spec, True) if e.prompt == "Day or night?"]  # has no label


def test_answers_nobody_gave_are_what_the_model_says_and_silence_is_left_out(folders):
    concept = own_concept(SPEC, folders / "dogs", folders / "others")
    said = iter(["grass", ""] * 1000)
    filled = answered_by(concept, lambda examples: [next(said) for _ in examples])
    behind = [e for e in filled.train.forget if e.prompt == "What is behind it?"]
    before = [e for e in concept.train.forget if e.prompt == "What is behind it?"]
    assert {e.answer for e in behind} == {"grass"}
    assert 0 < len(behind) < len(before)
    assert [e for e in filled.train.forget if e.kind == "caption"] == [
        e for e in concept.train.forget if e.kind == "caption"
    ]


def test_texts_make_a_concept_too(tmp_path):
    (tmp_path / "paris.txt").write_text("\n".join(f"Paris has street number {i}." for i in range(8)))
    rows = [{"question": f"What is {i} plus one?", "answer": str(i + 1), "family": "sums"} for i in range(8)]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, rows)))
    concept = own_concept(Spec("Paris", "place"), tmp_path / "paris.txt", tmp_path / "other.jsonl")
    assert {role(e, concept) for e in concept.test.forget} == {"UAd", "UAg"}
    sums = [e for e in concept.train.retain if e.family == "sums"]
    assert sums
    assert all(role(e, concept) == "CRA" and int(e.answer) == int(e.prompt.split()[2]) + 1 for e in sums)
    assert all("Paris has street" in e.prompt for e in concept.train.forget)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: dog\naliases: {a: 1}", "aliases must be a text or a list"),
        ("name: dog\nquestion: x", "unknown key 'question'. Did you mean 'questions'"),
        ("name: dog\nothers: [{family: x}]", r"others\[0\] has no `question`"),
        ("name: dog\nothers: [{question: x, answer: a, label: b}]", "both `answer` and `label`"),
        ("name: dog\nothers: [{question: x, kind: caption}]", "short or yesno"),
        ("family: animal", "needs a name"),
        ("- dog", "not keys and values"),
        ("name: [unclosed", "not readable YAML"),
    ],
)
def test_a_wrong_concept_file_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "dog.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_spec(path)


def test_yaml_yes_and_numbers_are_answers():
    spec = spec_from({"name": "d", "others": [{"question": "a", "answer": False}, {"question": "b", "answer": 1}]})
    assert [other.answer for other in spec.others] == ["no", "1"]


def test_only_known_placeholders_are_filled():
    assert fill("Is {a} {name} in {this}?", name="dog", a="a") == "Is a dog in {this}?"
    assert Spec("owl").ask("yesno")[0] == "Is there an owl in the picture?"
