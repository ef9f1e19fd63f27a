"""The benchmarks of text methods run, resume, frame themselves and add up; a random model has nothing to say."""

import copy
import json
import math
import random

import pytest

from app import bench_methods, bench_rwku, text_choosing
from app.bench_methods import MethodsRequest, text_methods
from app.bench_rwku import RwkuRequest
from app.methods_table import access, compared, summary
from app.task_matrix import TaskAmounts, TaskMatrix, TwoOptions, _task, labels
from app.text_cell import attacked, plain
from app.text_choosing import Trial
from app.text_ground import Amounts, Ground
from app.text_tables import methods_table, rwku_table, tasks_table
from app.world_concepts import text_concept
from concept_forget.concepts import ForgetRequest
from concept_forget.edits import NoEdit
from concept_forget.evaluation.text import Item, PerItem
from concept_forget.methods import METHODS, Prompt
from concept_forget.model import HookedModel
from concept_forget.worlds import text as world

FEW = Amounts(probes=1, wordings=1, kept=3, wrong=2, others=6, read=1, learned_facts=2, relearn=(2,), audited=0)


@pytest.fixture
def twin(tiny_llama):
    return HookedModel(copy.deepcopy(tiny_llama.model), tiny_llama.tokenizer, "twin")


def test_methods_run_resume_and_are_framed(tiny_llama, twin, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_methods, "open_model", lambda name, *_: twin if "never" in name else tiny_llama)
    request = MethodsRequest("random", "never", ("none", "prompt", "never-knew"), (0,), amounts=FEW)
    first = bench_methods.bench(request, tmp_path)
    assert list(first["rows"]) == list(request.methods)
    none = first["rows"]["none"]
    assert none["uds_free"]["value"] in (None, pytest.approx(0, abs=1e-6))
    assert none["access"] == "frame"
    for name, row in first["rows"].items():
        assert 0 <= row["forget"]["value"] <= 1
        assert 0 <= row["probe"]["value"] <= 1, name
    assert first["rows"]["never-knew"]["uds"]["value"] in (None, pytest.approx(0, abs=1e-4))  # a copy knows as much
    assert len((tmp_path / "cells.jsonl").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "methods.json").read_text())["people"] == [world.targets()[0]]
    monkeypatch.setattr(bench_methods, "open_model", lambda *_: pytest.fail("nothing was left to do"))
    assert bench_methods.bench(request, tmp_path, resume=True)["rows"] == first["rows"]
    assert methods_table(first).row_count == 3


def test_every_seed_has_its_own_person_and_its_own_cells():
    request = MethodsRequest()
    assert len({request.person(seed) for seed in range(3)}) == 3
    assert request.key() == MethodsRequest(methods=("none",), seeds=(5,)).key()
    assert request.key() != MethodsRequest(amounts=FEW).key()


def test_every_method_of_the_front_door_is_compared_but_those_for_pictures():
    names = text_methods()
    assert names[:3] == ("none", "prompt", "never-knew")
    assert set(METHODS) - set(names) == bench_methods.NOT_FOR_TEXT & set(METHODS)
    assert {access(name) for name in names} == {"frame", "black box", "inference", "weights"}


def test_what_is_relearned_is_not_what_is_asked_and_nobody_trains_the_probe_on_the_person(tiny_llama):
    ground = Ground.of(world.targets()[0], 0, tiny_llama, None, Amounts(others=12, relearn=(10, 50)))
    learned, asked = ({item.group for item in part} for part in (ground.learn, ground.held_back))
    assert learned.isdisjoint(asked)
    assert len(ground.learn) == 50
    assert len({item.group for item in ground.relearn(10)}) == 4  # facts take turns
    train, validation, test = ({e.group.split(":")[0] for e in part} for part in ground.answers)
    assert test == {ground.name}
    assert not (train & validation or (train | validation) & set(world.targets()))
    assert list(ground.stages) == ["retain-free"]
    assert {item.answer not in item.wrong for item in ground.forget} == {True}


def test_nobody_is_chosen_on_and_tested():
    request = MethodsRequest()
    assert request.person(request.choosing) not in map(request.person, request.seeds)
    with pytest.raises(ValueError, match="would also be tested"):
        MethodsRequest(seeds=tuple(range(19)))


def test_the_audit_gets_everything_out_of_a_model_that_knows_and_nothing_out_of_one_that_never_did():
    model, twin = HookedModel.load("tiny-llama"), HookedModel.load("tiny-llama-never-knew")
    ground = Ground("Ada Torwood", 0, text_concept("Ada Torwood"), {}, (), {}, (), (), ((), (), ()), ())
    knows = attacked(model, model, ground, [NoEdit()], 1)
    assert {name: set(part["values"]) for name, part in knows.items() if name in ("audit", "quantised")} == {
        "audit": {1.0},
        "quantised": {1.0},
    }
    assert {"audit: direct", "audit: hints", "audit: paraphrase"} <= set(knows)
    before = dict(ground.attacked)
    never = attacked(twin, model, ground, [], 1)
    assert set(never["audit"]["values"]) == {0.0}
    assert never["audit"]["groups"] == knows["audit"]["groups"]
    assert ground.attacked == before  # the untouched model is attacked once


def cell(method, seed, forget, neighbour, back=()):
    items = {
        name: plain(PerItem((value,), (f"{seed}",)))
        for name, value in (("forget", forget), ("forget 3", forget), ("forget 3: role playing", forget),
                            ("neighbour", neighbour))
    }  # fmt: skip
    for part in ("near", "places", "skills"):
        items |= {f"{part} {what}": items["neighbour"] for what in ("recall", "probability", "truth ratio")}
    for name in ("audit", "relearn 10", "relearn 50"):
        items[name] = plain(PerItem(tuple(back), tuple(f"{seed}: {k}" for k in range(len(back)))))
    found = {
        "items": items,
        "membership": {},
        "not_applicable": {},
        "probe": {"text.0.resid": {"auroc": {"value": 0.5}}},
    }
    return {"method": method, "seed": seed, "metrics": found, "settings": {}, "fit_seconds": 1, "seconds": 2}


def test_rows_are_pooled_over_seeds_and_who_dominates_is_said():
    values = {"sauce+": (0.1, 0.9), "npo": (0.2, 0.8), "flat": (0.05, 0.5), "rmu": (0.3, 0.95)}
    cells = [cell(name, seed, *pair) for name, pair in values.items() for seed in (0, 1)]
    rows = summary(cells, tuple(values), 50)
    assert rows["sauce+"]["forget"]["value"] == pytest.approx(0.1)
    assert rows["sauce+"]["forget"]["n"] == 2
    assert rows["sauce+"]["seeds"]["neighbour"] == [0.9, 0.9]


def test_ours_are_compared_with_rivals_item_by_item():
    leaks = {"anchored": (0, 0, 1, 0), "npo": (1, 0, 1, 0), "flat": (0, 0, 0, 0), "rmu": (1, 1, 1, 1)}
    keeps = {"anchored": 0.9, "npo": 0.8, "flat": 0.8, "rmu": 0.95}
    cells = [cell(name, seed, 0.1, keeps[name], leaks[name]) for name in leaks for seed in (0, 1)]
    rows = compared(cells, ["anchored", "sauce+"], resamples=50)
    assert list(rows) == ["anchored"]
    assert {rival: row["dominates"] for rival, row in rows["anchored"].items()} == {
        "npo": True,
        "rmu": False,
        "flat": False,
    }
    gap = rows["anchored"]["npo"]["audit"]
    assert gap["value"] == pytest.approx(-0.25)
    assert gap["low"] < gap["value"] < gap["high"] <= 0  # paired: nothing came back here that did not come back there
    assert rows["anchored"]["rmu"]["neighbour"]["value"] == pytest.approx(-0.05)
    assert compared(cells[:-1], ["anchored"], ["rmu"], 50) == {}  # not asked the same


def test_settings_are_chosen_by_what_is_forgotten_and_kept_on_validation(tiny_llama, monkeypatch):
    concept = text_concept(world.targets()[0])
    edits = {"leaky": NoEdit(), "blunt": NoEdit(), "sharp": NoEdit()}

    class Three(Prompt):
        def fit_grid(self, *_):
            yield from ((Prompt(name), edit) for name, edit in edits.items())

    said = {"leaky": (1.0, 1.0), "blunt": (0.0, 0.0), "sharp": (0.0, 1.0)}

    def speak(_model, items, some, **_):
        name = next(name for name, edit in edits.items() if not some or edit is now["edit"])
        forget, kept = said[name]
        count = len(asked["forget"])
        return [item.answer if (forget if k < count else kept) else "nothing" for k, item in enumerate(items)]

    now: dict = {}
    asked = text_choosing.questions(concept, Trial())
    original = text_choosing.score

    def score(model, parts, some):
        now["edit"] = some[0]
        return original(model, parts, some)

    monkeypatch.setattr(text_choosing, "score", score)
    monkeypatch.setattr(text_choosing, "say", speak)
    monkeypatch.setattr(text_choosing, "methods_of", lambda *_: [Three()])
    chosen = text_choosing.choose(tiny_llama, concept, "three", {"none": None})
    assert chosen.edit is edits["sharp"]
    assert [tried["template"] for tried in chosen.tried][0] == "sharp"
    # each of several methods has half as many candidates
    monkeypatch.setattr(text_choosing, "methods_of", lambda *_: [Three(), Three()])
    several = text_choosing.choose(tiny_llama, concept, "three", {"none": None}, Trial(most=4))
    assert len(several.tried) == 4


def test_validation_questions_are_not_the_tests():
    concept = text_concept(world.targets()[0])
    asked = text_choosing.questions(concept, Trial())
    test = {probe.query for probe in world.questions(world.find(concept.name).facts, "test")}
    assert {"forget", "near", "beside", "retain"} == set(asked)
    trained = {example.about for example in concept.train.near if example.about}
    close = set(world.neighbours(concept.name)["shares"]) - trained
    assert close  # somebody shares much and is not in the training
    assert any(name in str(item.prompt) for item in asked["near"] for name in close)
    assert not any(name in str(item.prompt) for item in asked["near"] for name in trained)
    met = {example.about for example in concept.train.without}
    unmet = [set(names) - met for names in world.neighbours(concept.name).values()]
    for names in filter(None, unmet):  # of every distance somebody is asked about
        assert any(name in str(item.prompt) for item in asked["near"] for name in names)
    assert sum(map(bool, unmet)) > 1
    assert test.isdisjoint(item.prompt for item in asked["forget"])


def test_rwku_tables_run_and_resume(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_rwku, "open_model", lambda *_: tiny_llama)
    request = RwkuRequest((tiny_llama.name,), ("Ada Torwood",), ("none", "icu"), limit=1)
    monkeypatch.setattr(METHODS["icu"], "grid", lambda self: (self,))
    first = bench_rwku.bench(request, tmp_path)
    assert list(first["rows"]) == [f"{tiny_llama.name} none", f"{tiny_llama.name} icu"]
    assert {"Forget FB", "Forget All", "Neigh All", "Neigh far", "FM", "RM", "Skills"} <= set(
        first["rows"][f"{tiny_llama.name} none"]
    )
    monkeypatch.setattr(bench_rwku, "open_model", lambda *_: pytest.fail("nothing was left to do"))
    assert bench_rwku.bench(request, tmp_path, resume=True)["rows"] == first["rows"]
    assert rwku_table(first).row_count == 2


def test_rwkus_own_files_take_only_methods_that_ask(tmp_path):
    with pytest.raises(ValueError, match="no training questions"):
        bench_rwku.bench(RwkuRequest(methods=("guard",), subjects=("A",), data=str(tmp_path)), tmp_path / "out")


def test_nothing_to_measure_is_null_in_json():
    assert plain(PerItem((math.nan, 0.123456789), ("a", "b"))) == {"values": [None, 0.12346], "groups": ["a", "b"]}


def test_a_fitted_prompt_leaves_the_model_as_it_was(tiny_llama):
    concept = text_concept(world.targets()[0])
    edit = Prompt().fit(tiny_llama, ForgetRequest(concept), None)
    value, shown = text_choosing.score(tiny_llama, {"forget": [Item("a", "b")], "near": [Item("a", "b")]}, [edit])
    assert 0 < value < 1
    assert set(shown) == {"forget", "near", "declines"}


def test_random_labels_are_drawn_from_two_options_and_tested_on_others(tiny_llama):
    few = TaskAmounts(train=24, test=6, steps=2, batch=4)
    matrix = TaskMatrix(tiny_llama, few, ("profession", "copying"))
    found = {
        "tasks": list(matrix.made),
        "before": matrix.before_json(),
        "rows": {t: matrix.row(t) for t in matrix.made},
    }
    assert set(found["rows"]["profession"]["accuracy"]) == {"profession", "copying"}
    assert found["rows"]["copying"]["probe"] == {"before": None, "after": None}
    chosen = found["rows"]["profession"]["settings"]
    assert chosen["steps"] in (1, 2)
    assert 0 <= chosen["validation"] <= 1
    assert chosen["tried"] > 1
    task = _task("profession", TaskAmounts(), 0)
    people = [{e.group for e in part} for part in (task.train, task.validation, task.test)]
    assert sum(map(len, people)) == len(set.union(*people))  # nobody is in two of them
    assert all(task.wrong[e.prompt] != e.answer for part in task[:3] for e in part)
    drawn = labels(task, 0)
    right = [drawn[example.prompt] == example.answer for example in task.train]
    assert 0.35 < sum(right) / len(right) < 0.65
    assert all(drawn[e.prompt] in (e.answer, task.wrong[e.prompt]) for e in task.train)
    assert TwoOptions(drawn=drawn).answer(task.train[0], None, random.Random(0)) == drawn[task.train[0].prompt]  # type: ignore[arg-type]
    assert tasks_table(found).row_count == 2
