"""The current recipe as files and as code."""

from __future__ import annotations

import json
import shlex
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from app.dictionaries import ranking_to_json
from app.exporting import Export, export
from app.readings import exhibits
from app.report_page import render
from app.ui import judging
from app.ui.answering import prepared, probes
from app.ui.desk import SIZES, Desk, stoppable
from app.ui.edits import GATED, chosen, method_of
from app.ui.jobs import Reporter
from app.ui.sessions import Session, Settings
from concept_forget.edits import Edit
from concept_forget.evaluation import Change
from concept_forget.provenance import sha256
from concept_forget.recipe import TENSORS, YAML, Recipe, RecipeError, config_hash
from concept_forget.report import Report

LARGEST = 200_000_000
"""Bytes of an uploaded recipe, unpacked, and of a checkpoint to download."""
SHOWN = 30
"""Test questions per metric of a report made here."""


def recipe_file(desk: Desk, session: Session, report: Reporter) -> Path:
    """The recipe as one zip with its YAML and its tensors."""
    recipe, name = _recipe(desk, session, report), _slug(session)
    folder = Path(tempfile.mkdtemp(prefix="concept-forget-"))
    recipe.save(folder / "recipe")
    with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for part in (YAML, TENSORS):
            archive.write(folder / "recipe" / part, part)
    return folder / f"{name}.zip"


def load_recipe(desk: Desk, session: Session, path: str, report: Reporter) -> str:
    """Take an uploaded recipe over after every check; returns the key of it. Raises RecipeError with the reason."""
    report.progress("checking the recipe", 0, 1)
    folder = Path(tempfile.mkdtemp(prefix="concept-forget-"))
    _unpacked(Path(path), folder)
    recipe = Recipe.load(folder)
    model = desk.model(session.settings.model)
    if recipe.config != config_hash(model) and recipe.model in desk.names():
        model = desk.model(recipe.model)
    recipe.check(model)
    key = sha256((folder / YAML).read_bytes())[:20]
    session.recipes = {**dict(list(session.recipes.items())[-7:]), key: recipe}
    known = recipe.settings.get("desk")
    known = known if isinstance(known, dict) else {}
    allowed = {name: known[name] for name in ("score", "k", "method", "action", "strength", "gated") if name in known}
    features = tuple(int(one) for one in known.get("features", ()))
    site = next((str(edit.site) for edit in recipe.edits if hasattr(edit, "site")), "")  # type: ignore[attr-defined]
    site = "" if site == str(model.reading_site) else site
    start = replace(session.settings, model=model.name, concept=recipe.concept, site=site, loaded=key)
    session.use(replace(start, **allowed, features=features) if allowed else start)
    return key


def export_folder(desk: Desk, session: Session, report: Reporter) -> tuple[Export, Path | None]:
    """A checkpoint that stock code loads, with its badge, and a zip of it where that is small enough to download."""
    recipe = _recipe(desk, session, report)
    model, out = desk.model(session.settings.model), Path(tempfile.mkdtemp(prefix="concept-forget-")) / _slug(session)
    with stoppable(model, report):
        made = export(model, recipe, out, report.progress, concept=desk.concept(session))
    files = [path for path in sorted(made.folder.rglob("*")) if path.is_file()]
    if sum(path.stat().st_size for path in files) > LARGEST:
        return made, None
    report.progress("packing", 0, 1)
    packed = out.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            archive.write(path, path.relative_to(made.folder))
    return made, packed


def report_file(desk: Desk, session: Session, report: Reporter) -> Path:
    """The self-contained report page of the current recipe; measures first what was not measured yet."""
    settings = session.settings
    if session.judged.get("settings") != settings or "blind" not in session.judged:
        session.judged = {**judging.measure(desk, session, SHOWN, report), "settings": settings}
    judged = session.judged
    layers = probes(desk, session, report)
    model = desk.model(settings.model)
    with stoppable(model, report):
        report.progress("choosing pictures to show", 0, 1)
        _, finding, edits = prepared(desk, session, report)
        concept = desk.concept(session)
        shown = exhibits(model, concept, edits, desk.book(settings.model))
    made = Report(
        model=settings.model,
        concept=concept.name,
        method=settings.method,
        seed=0,
        metrics={name: Change.from_json(change) for name, change in judged["metrics"].items()},
        unanswered=judged["unanswered"],
        controls={n: {k: Change.from_json(c) for k, c in m.items()} for n, m in judged["controls"].items()},
        probes=tuple(layers),
        hook=tuple(judged["hook"]),
        settings=_plain(settings),
        provenance={**judged["provenance"], "site": settings.site or str(model.reading_site), "command": cli(settings)},
    )
    features = ranking_to_json(finding.ranked(settings.score)) if finding else []
    page = Path(tempfile.mkdtemp(prefix="concept-forget-")) / f"{_slug(session)}.html"
    page.write_text(render(made.to_json(), shown, features), encoding="utf-8")
    return page


def badge(settings: Settings, edits: Sequence[Edit] = ()) -> tuple[str, str, bool]:
    """How the recipe can leave this app: a word, why, and whether it is exact in the weights. `edits` if uploaded."""
    method = {"erase": "diff_means", "shift": "diff_means", "none": "none", "prompt": "prompt", "leace": "leace"}
    method |= {"weights": "npo", "decoding": "guard"}
    kinds = {method.get(getattr(edit, "kind", ""), "clamp") for edit in edits} or {settings.method}
    gated = settings.gated and settings.method in GATED
    if edits:
        gated = any(getattr(edit, "gate", None) is not None for edit in edits)
    if kinds == {"none"}:
        return "nothing to export", "Without an edit the model is the one you have.", True
    if kinds == {"prompt"}:
        return "prompt only", "It only puts words before the question; the weights stay.", False
    if kinds == {"npo"}:
        return "exact in the weights", "It is a change of weights: the export writes them, and checks them.", True
    if kinds == {"guard"}:
        return "runs as a hook", "It acts while words are chosen, outside the weights. The recipe carries it.", False
    linear = kinds <= {"diff_means", "leace"}
    if linear and not gated and not settings.site.startswith("text"):
        return (
            "exact in the weights",
            "Linear and without a gate: Edit.bake folds it into the projector and checks it.",
            True,
        )
    place = "nothing linear reads this place alone" if linear else "the edit is not linear"
    why = "its gate decides case by case" if gated else place
    return (
        "runs as a hook",
        f"No exact form in stock weights: {why}. The recipe applies it while the model runs.",
        False,
    )


def python(settings: Settings) -> str:
    """What does the same in a notebook."""
    if settings.loaded:
        return (
            "from concept_forget.model import HookedModel\nfrom concept_forget.recipe import Recipe\n\n"
            f"model = HookedModel.load({settings.model!r})\n"
            'recipe = Recipe.load("recipe", model)\nwith recipe.applied(model):\n'
            '    model.generate(model.prepare(["Describe the picture."], [image]))\n'
        )
    method, name = method_of(settings), settings.concept
    select = ""
    if settings.features:
        select = (
            f"order = [ranked.indices.tolist().index(f) for f in {list(settings.features)}]\n"
            "ranked = ranked.select(torch.tensor(order))\n"
        )
    imports = "import torch\n\n" if settings.features else ""
    site = f", {settings.site!r}" if settings.site else ""
    concept = f"world_concept({name!r}, Sizes({SIZES.train}, {SIZES.validation}, {SIZES.test}))"
    if name.startswith("own:"):
        concept = f'find_concept(model, {name[4:]!r}, OwnData(Path("with"), Path("without")))'
    own = name.startswith("own:")
    extra = "from pathlib import Path\n\n" if own else ""
    names = (
        "OwnData, dictionary_for, find_concept, find_site, open_model, rank_features"
        if own
        else ("Sizes, dictionary_for, find_site, open_model, rank_features, world_concept")
    )
    return (
        f"{imports}{extra}from app.workbench import {names}\nfrom concept_forget.concepts import ForgetRequest\n"
        f"from concept_forget.methods import {type(method).__name__}\n\n"
        f"model = open_model({settings.model!r})\nconcept = {concept}\n"
        f"dictionary = dictionary_for(model, find_site(model{site}))\n"
        f"ranked = rank_features(model, concept, dictionary, ({settings.score!r},))[0][{settings.score!r}]\n{select}"
        f"method = {method!r}\nedit = method.fit(model, ForgetRequest(concept), ranked)\n\n"
        "example = concept.test.forget[0]\n"
        "with edit.applied(model) as hooks:\n"
        "    batch = model.prepare([example.prompt], [example.image])\n"
        "    print(model.generate(batch).texts, hooks)\n"
    )


def cli(settings: Settings) -> str:
    """What removes the same concept by the same method from the command line, settings chosen on validation."""
    parts = ["concept-forget", "run", "--model", settings.model]
    name = settings.concept
    parts += ["--concept", name.removeprefix("own:")]
    if name.startswith("own:"):
        parts += ["--forget", "with/", "--retain", "without/"]
    method = "gated_clamp" if settings.method == "clamp" and settings.gated else settings.method
    parts += ["--method", method, *(["--site", settings.site] if settings.site else [])]
    return shlex.join([*parts, "--out", f"runs/{name.removeprefix('own:')}"])


def _recipe(desk: Desk, session: Session, report: Reporter) -> Recipe:
    settings = session.settings
    if settings.loaded:
        return session.recipes[settings.loaded]
    with stoppable(desk.model(settings.model), report):
        model, finding, edits = prepared(desk, session, report)
        features = chosen(finding, settings).indices.tolist() if finding else []
    extra = {"desk": {**_plain(settings), "features": features}}
    return Recipe.of(model, settings.concept.removeprefix("own:"), edits, method_of(settings), **extra)


def _plain(settings: Settings) -> dict[str, Any]:
    return json.loads(
        json.dumps({k: v for k, v in asdict(settings).items() if k not in ("loaded", "concept", "model")})
    )


def _unpacked(source: Path, folder: Path) -> None:
    """The two files of a recipe from a zip, and nothing else from it."""
    try:
        with zipfile.ZipFile(source) as archive:
            for name in (YAML, TENSORS):
                if archive.getinfo(name).file_size > LARGEST:
                    raise RecipeError(
                        f"{name} in this recipe is larger than {LARGEST // 1_000_000} MB. Load it with the CLI."
                    )
                (folder / name).write_bytes(archive.read(name))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise RecipeError(
            f"This is not a recipe of this app: a zip with {YAML} and {TENSORS}, as the download gives it."
        ) from error


def _slug(session: Session) -> str:
    name = session.settings.concept.removeprefix("own:")
    return "".join(c if c.isalnum() else "-" for c in f"{name}-{session.settings.method}") or "recipe"
