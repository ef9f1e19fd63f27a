"""Published files are read as they are; what is wrong with one is said by file, row and key."""

import json
from pathlib import Path

import pytest

from concept_forget.worlds.loaders import (
    BadDataError,
    data_folder,
    load_counterfact,
    load_known,
    load_lume,
    load_mmlu,
    load_muse,
    load_rwku,
    load_tofu,
    rwku_targets,
    tofu_splits,
)
from concept_forget.worlds.text import rwku, targets

REAL = Path(__file__).parents[5] / "shared" / "data" / "text"
PROBE = {"query": "Who?", "answer": "Ann", "level": "1", "type": "cloze", "subject": "Ann"}
CASE = {
    "case_id": 0,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Danielle Darrieux, a native"],
    "neighborhood_prompts": ["The native language of Montesquieu is"],
}
KNOWN = {"known_id": 0, "subject": "Vinson", "attribute": "Antarctica", "prompt": "Vinson is in", "relation_id": "P30"}


def _write(path: Path, rows: list, lines: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))


def test_the_text_worlds_own_sets_are_read_as_rwku(tmp_path: Path):
    place = tmp_path / "Target" / "1_Somebody_New"
    sets = rwku(targets()[0])
    for name, rows in sets.items():
        _write(place / f"{name}.json", rows)
    read = load_rwku(tmp_path, "somebody new")
    assert set(read) == set(sets) - {"utility", "forget_unseen", "retain_unseen"}
    assert all(read[name] == sets[name] for name in read)
    assert rwku_targets(tmp_path) == ("Somebody New",)


def test_a_row_that_lacks_a_key_is_named(tmp_path: Path):
    for level in (1, 2, 3):
        _write(tmp_path / f"forget_level{level}.json", [PROBE, {k: v for k, v in PROBE.items() if k != "answer"}])
    with pytest.raises(BadDataError, match=r"forget_level1.json, row 2 has no 'answer'; it has query, level"):
        load_rwku(tmp_path)


def test_an_unknown_target_and_a_missing_file_are_refused_with_what_there_is(tmp_path: Path):
    (tmp_path / "Target" / "2_Ann_Lee").mkdir(parents=True)
    with pytest.raises(BadDataError, match="no target 'Bob'. There are Ann Lee"):
        load_rwku(tmp_path, "Bob")
    with pytest.raises(BadDataError, match=r"has no forget_level1.json .* it has nothing"):
        load_rwku(tmp_path, "Ann Lee")
    with pytest.raises(BadDataError, match="is not a folder"):
        load_tofu(tmp_path / "absent", "full")


def test_tofu_is_one_object_per_line_in_a_json_file_or_a_list(tmp_path: Path):
    rows = [{"question": "Who?", "answer": "Ann."}, {"question": "Where?", "answer": "Here.\u2028There."}]
    for lines in (True, False):
        _write(tmp_path / "forget01.json", rows, lines)
        assert load_tofu(tmp_path, "forget01") == rows
    with pytest.raises(LookupError, match="no split 'forget02'. It has full, forget01"):
        load_tofu(tmp_path, "forget02")
    assert tofu_splits(tmp_path) == ("forget01",)
    with pytest.raises(BadDataError, match="has no full.json"):
        tofu_splits(tmp_path / "..")
    _write(tmp_path / "retain_perturbed.json", [rows[0] | {"perturbed_answer": "Bob"}])
    with pytest.raises(BadDataError, match="'perturbed_answer' is 'Bob'; it must be a list of texts"):
        load_tofu(tmp_path, "retain_perturbed")


def test_mmlu_is_read_as_published_and_with_a_header(tmp_path: Path):
    (tmp_path / "law_dev.csv").write_text('"What, then?",one,two,three,four,C\n')
    (tmp_path / "art_dev.csv").write_text("question,choice0,choice1,choice2,choice3,answer\nWho?,a,b,c,d,0\n")
    assert load_mmlu(tmp_path, "dev") == [
        {"question": "Who?", "choices": ["a", "b", "c", "d"], "answer": 0, "task": "art"},
        {"question": "What, then?", "choices": ["one", "two", "three", "four"], "answer": 2, "task": "law"},
    ]
    for wrong in ("Who?,a,b,c,d,E\n", "Who?,a,b,c,1\n"):
        (tmp_path / "law_dev.csv").write_text(wrong)
        with pytest.raises(BadDataError, match="law_dev.csv, row 1: .* the right one as A to D"):
            load_mmlu(tmp_path, "dev")
    with pytest.raises(BadDataError, match="has no SUBJECT_test.csv"):
        load_mmlu(tmp_path)


def test_a_data_set_is_a_folder_or_comes_from_the_hub(tmp_path: Path, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: asked.update(how, name=name) or "/there"
    )
    assert data_folder(tmp_path) == tmp_path and data_folder("no such folder") == Path("no such folder")
    assert data_folder("locuslab/TOFU") == Path("/there")
    assert (asked["name"], asked["repo_type"]) == ("locuslab/TOFU", "dataset")

    def cut(*_, **__):
        raise OSError("no way out")

    monkeypatch.setattr("huggingface_hub.snapshot_download", cut)
    with pytest.raises(BadDataError, match="locuslab/TOFU is no folder here.*no way out"):
        data_folder("locuslab/TOFU")


def test_a_file_cut_off_in_the_middle_is_refused(tmp_path: Path):
    (tmp_path / "forget01.json").write_text('{"question": "Who?", "answer": "Ann."}\n{"question": "Wh')
    with pytest.raises(BadDataError, match="line 2 is not JSON"):
        load_tofu(tmp_path, "forget01")
    (tmp_path / "known_1000.json").write_text(json.dumps([KNOWN])[:-4])
    with pytest.raises(BadDataError, match="cut off"):
        load_known(tmp_path)


def test_muse_in_the_published_layout(tmp_path: Path):
    question = [{"question": "Who?", "answer": "Ann"}]
    _write(tmp_path / "verbmem" / "forget.json", [{"prompt": "Once", "gt": "upon a time"}])
    for name in ("forget_qa", "retain2_qa"):
        _write(tmp_path / "knowmem" / f"{name}.json", question)
    for name in ("forget", "holdout", "retain2"):
        _write(tmp_path / "privleak" / f"{name}.json", [f"a text of {name}"])
    muse = load_muse(tmp_path)
    assert muse.holdout == ["a text of holdout"] and muse.retain == ["a text of retain2"]
    assert muse.knowledge_retain == question
    _write(tmp_path / "privleak" / "forget.json", ["fine", ""])
    with pytest.raises(BadDataError, match="row 2 is ''; it must be a text"):
        load_muse(tmp_path)


def test_lume_tells_completions_from_questions_and_refuses_an_overlap(tmp_path: Path):
    items = [
        {"id": '"8f24"sc1', "input": "Once", "output": "upon", "task": "Task1"},
        {"id": '"8f24"qa0', "input": "Who?", "output": "Ann", "task": "Task1"},
    ]
    _write(tmp_path / "forget.jsonl", items, lines=True)
    _write(tmp_path / "retain.jsonl", [items[0] | {"id": "77sc1"}], lines=True)
    found = load_lume(tmp_path)["forget"]
    assert [item.kind for item in found] == ["completion", "question"]
    assert {item.document for item in found} == {"8f24"}
    _write(tmp_path / "retain.jsonl", items[:1], lines=True)
    with pytest.raises(BadDataError, match="1 documents are in forget and in retain, such as '8f24'"):
        load_lume(tmp_path)


def test_a_counterfact_has_its_subject_filled_in(tmp_path: Path):
    _write(tmp_path / "counterfact.json", [CASE])
    (fact,) = load_counterfact(tmp_path)
    assert fact.prompt == "The mother tongue of Danielle Darrieux is"
    assert (fact.answer, fact.new, fact.relation) == ("French", "English", "P103")
    bad = CASE | {"requested_rewrite": CASE["requested_rewrite"] | {"prompt": "no place"}}
    _write(tmp_path / "counterfact.json", [CASE, bad])
    with pytest.raises(BadDataError, match=r"row 2: the prompt 'no place' must hold \{\} once"):
        load_counterfact(tmp_path)


def test_a_known_fact_whose_subject_is_not_in_its_prompt_is_refused(tmp_path: Path):
    _write(tmp_path / "known_1000.json", [KNOWN])
    assert load_known(tmp_path)[0].answer == "Antarctica"
    _write(tmp_path / "known_1000.json", [KNOWN | {"subject": "Everest"}])
    with pytest.raises(BadDataError, match="'Everest' is not in the prompt"):
        load_known(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the published files are not here")
def test_the_published_files_are_read_whole():
    assert len(load_known(REAL / "facts")) == 1209
    lume = load_lume(REAL / "lume")
    assert (len(lume["forget"]), len(lume["retain"])) == (2732, 2734)
    for split in ("forget01", "forget01_perturbed", "retain_perturbed"):
        assert len(load_tofu(REAL / "tofu", split)) == 400
    assert len(load_tofu(REAL / "tofu", "world_facts_perturbed")[0]["perturbed_answer"]) == 3
