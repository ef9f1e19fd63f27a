"""`audit`: what it writes, how it goes on after a stop, and what it refuses."""

import io
import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from app import auditing
from app.audit_table import audit_tables
from app.auditing import AuditRequest, audit, control_for
from app.exporting import export
from app.world_concepts import Sizes
from concept_forget import zoo
from concept_forget.edits import PromptEdit, SubspaceErase
from concept_forget.model import HookedModel
from concept_forget.recipe import Recipe
from concept_forget.sites import Site

ONLY = ("direct", "crop")


@pytest.fixture
def request_(tmp_path, monkeypatch, tiny_llava, brief) -> AuditRequest:  # noqa: ARG001
    """A recipe for the random LLaVA, and few pictures."""
    monkeypatch.setattr(auditing, "open_model", lambda *_, **__: tiny_llava)
    monkeypatch.setattr(auditing, "Sizes", lambda: Sizes(4, 4, 12))
    Recipe.of(tiny_llava, "star", [PromptEdit("star")]).save(tmp_path / "recipe")
    return AuditRequest("tiny", (str(tmp_path / "recipe"),), attacks=ONLY)


def test_it_writes_the_result_every_try_and_a_figure(request_, tmp_path):
    import pyarrow.parquet as parquet

    found = audit(request_, tmp_path / "out")
    body = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert (
        body["schema"] == "concept-forget/audit/1" and body["concept"] == "star" and set(body["attacks"]) == set(ONLY)
    )
    assert body["budget"]["attacks"]["crop"]["keep"] == [0.85] and "leave it out" in body["notes"][0]
    rows = parquet.read_table(tmp_path / "out" / "tries.parquet").to_pylist()
    assert len(rows) == sum(len(result.outcomes) for result in found.results.values()) > 0
    assert {"target", "attack", "variant", "prompt", "said", "elsewhere", "status", "back"} <= set(rows[0])
    assert (tmp_path / "out" / "figures" / "audit.html").is_file()
    assert not (tmp_path / "out" / ".steps").exists()


def test_an_audit_that_was_stopped_goes_on_attack_by_attack(request_, tmp_path, monkeypatch):
    from analysis.audit.crop import Crop

    run, out = Crop.run, tmp_path / "out"

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Crop, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        audit(request_, out)
    monkeypatch.setattr(Crop, "run", run)
    again = audit(request_, out, resume=True)
    log = (out / "log.txt").read_text()
    assert "edited direct: taken over" in log and "edited crop: done" in log
    assert again.finished and set(again.attacks) == set(ONLY)


def test_a_baked_checkpoint_says_without_hooks_what_the_edited_model_said_with_them(
    request_, tmp_path, monkeypatch, tiny_llava
):
    direction = torch.randn(1, 24, generator=torch.Generator().manual_seed(0))
    edit = replace(SubspaceErase.of(Site.parse("projector.in"), direction, torch.zeros(24)), strength=8.0)
    recipe = Recipe.of(tiny_llava, "star", [edit])
    recipe.save(tmp_path / "erase")
    folder = export(tiny_llava, recipe, tmp_path / "baked").folder
    kind = type(tiny_llava.model)
    baked = HookedModel(kind.from_pretrained(folder), tiny_llava.processor, str(folder))
    monkeypatch.setattr(auditing, "open_model", lambda name, *_: baked if name == str(folder) else tiny_llava)
    hooked = audit(replace(request_, recipes=(str(tmp_path / "erase"),)), tmp_path / "on")
    asked = AuditRequest(str(folder), concept="star", untouched="tiny", attacks=ONLY)
    alone = audit(asked, tmp_path / "off")

    def said(found, target):
        return [one.said for attack in ONLY for one in found.results[target, attack].outcomes]

    assert said(alone, "edited") == said(hooked, "edited") != said(hooked, "untouched")
    assert said(alone, "untouched") == said(hooked, "untouched")
    # what is in the weights is not left out by whoever has them
    assert hooked.hooks and not alone.hooks


def test_the_tables_show_every_attack(request_, tmp_path):
    audit(request_, tmp_path / "out")
    console = Console(width=160, file=io.StringIO())
    console.print(*audit_tables(json.loads((tmp_path / "out" / "audit.json").read_text())))
    said = console.file.getvalue()
    assert [word for word in ("direct", "crop", "any: black box", "never knew") if word not in said] == []


def test_bad_input_is_refused_before_anything_is_written(request_, tmp_path):
    for wrong in (AuditRequest("tiny"), AuditRequest("tiny", request_.recipes, attacks=("hypnosis",))):
        with pytest.raises((ValueError, LookupError)):
            audit(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_control_is_the_twin_that_never_met_this_very_concept(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    assert control_for("tiny-llava", "star") == ""  # not trained
    (tmp_path / "tiny-llava-never-knew").mkdir()
    (tmp_path / "tiny-llava-never-knew" / "model.safetensors").touch()
    assert control_for("tiny-llava", "star") == "tiny-llava-never-knew"
    assert control_for("tiny-llava", "cup") == "" and control_for("tiny-mllama", "star") == ""
