"""Every metric tells the model that knows from its twin that never did: the shipped models, some of the people."""

import pytest

from analysis.self_test import self_test
from concept_forget import zoo
from concept_forget.model import HookedModel
from concept_forget.worlds import text as world

CERTAIN = {
    "probability", "exact memorisation", "extraction strength", "truth ratio, max(0, 1 - R)", "ROUGE-L recall",
    "RWKU recall", "1 - UDS", "1 - UDS, retain-free",
}  # fmt: skip
"""Metrics that have to be right about everybody. Those of membership rest on eight passages each, and are not."""


@pytest.fixture(scope="module")
def models():
    return tuple(HookedModel.load(str(zoo.folder(name))) for name in ("tiny-llama", "tiny-llama-never-knew"))


def test_every_metric_separates_knowing_from_never_having_known(models):
    people = world.targets()[::4]
    told = self_test(*models, people)
    found = told.separations(200)
    assert set(found) >= CERTAIN
    for name in CERTAIN:
        assert found[name].auc.value > 0.95, (name, found[name])
    for name in ("MIA loss", "MIA min-k"):
        assert found[name].auc.value > 0.6, (name, found[name])
    assert set(told.to_json()) == set(found)


def test_a_model_does_not_separate_from_itself(models):
    told = self_test(models[1], models[1], world.targets()[:2])
    for name in ("probability", "ROUGE-L recall", "MIA loss"):
        assert told.separations(50)[name].auc.value == 0.5
