"""`run`: from a request to a run directory, step by step, resumable."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from analysis.probing import probe
from app.choosing import NONE, Choice, Choosing, choose_method, control_methods, method_of, rankings_of
from app.dictionaries import Progress, dictionary_for, rank_features, ranking_from_json, ranking_to_json
from app.doors import choose_doors, door_notes, find_doors, main_door
from app.opening import PLUS, OwnData, find_concept, find_method, find_site, open_model, read_settings
from app.readings import exhibits, gate_on_test, probe_sites
from app.report_files import write_report
from app.run_folder import RunFolder
from app.tracing_places import traced_mlps
from app.world_concepts import Sizes
from concept_forget.concepts import Concept, ForgetRequest, one_per_group
from concept_forget.doors import Door
from concept_forget.edits import Edit, WeightDelta
from concept_forget.evaluation import AnswerBook, Change, evaluate, save_samples
from concept_forget.methods.training import watched
from concept_forget.model import HookedModel
from concept_forget.provenance import versions
from concept_forget.recipe import Recipe
from concept_forget.report import Report
from concept_forget.sites import Site
from saes import SaeDictionary, TrainSettings


@dataclass(frozen=True)
class RunRequest:
    """What to remove from what, and how. Equal requests give equal numbers."""

    model: str
    concept: str = ""
    own: OwnData | None = None
    """The concept's own folders; None: a concept of the world."""
    method: str = PLUS
    site: str = ""
    """Empty: the model's default door."""
    door: str = ""
    """vision, projector, language, several with a plus between, or all; empty: `site` alone."""
    dictionary: str = ""
    """Folder or SAELens release (RELEASE:ID); empty: shipped, cached or trained."""
    seed: int = 0
    sizes: Sizes = field(default_factory=Sizes)
    questions: int = 200
    """Test questions per metric."""
    settings: tuple[str, ...] = ()
    """Settings of the method to hold, as NAME=VALUE; the others are chosen."""
    only_known: bool = False
    """Report only on what the untouched model answers correctly."""
    ungated: bool = False
    """Only settings without a gate: those can have an exact form in the weights."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; what a resumed run must have in common with the one before."""
        own = None if self.own is None else {k: None if v is None else str(v) for k, v in vars(self.own).items()}
        return {**asdict(self), "own": own}


def run(
    request: RunRequest,
    out: Path,
    *,
    resume: bool = False,
    device: str = "",
    choosing: Choosing | None = None,
    train: TrainSettings | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Report:
    """Take a concept out, measure before and after with controls and probes, and write the run directory `out`.

    Finished steps are kept while the run goes on; `resume` takes them over. Raises ValueError / LookupError for bad
    input before anything is written.
    """
    find_method(request.method, read_settings(request.method, request.settings))
    folder = RunFolder(out, {**request.to_json(), "choosing": asdict(choosing or Choosing())}, resume)
    started = time.perf_counter()
    if progress:
        progress(f"loading {request.model}", 0, 1)
    model = open_model(request.model, device)
    concept = find_concept(model, request.concept, request.own, request.sizes, request.seed)
    if request.door and request.site:
        raise ValueError("Give --door or --site: a door says where, and so does a site.")
    doors = find_doors(model, request.door) if request.door else ()
    main = main_door(model, doors) if doors else None
    site = main.site if main else find_site(model, request.site)
    for one in doors:
        model.require_live(one.site)
    folder.timing["load"] = round(time.perf_counter() - started, 3)
    try:
        job = _Job(request, folder, model, concept, site, choosing or Choosing(), train, progress, doors)
        return job.work(command)
    except BaseException as error:
        if isinstance(error, ValueError | LookupError) and not isinstance(error, KeyError | IndexError):
            folder.take_back()
        folder.log_error(error)
        raise


@dataclass
class _Job:
    """One run under way."""

    request: RunRequest
    folder: RunFolder
    model: HookedModel
    concept: Concept
    site: Site
    choosing: Choosing
    train: TrainSettings | None
    progress: Progress | None
    doors: tuple[Door, ...] = ()

    def __post_init__(self) -> None:
        self.book = AnswerBook(self.model)
        self._features: dict[str, Any] | None = None
        self.needs = {method.needs for method in find_method(self.request.method)}

    def work(self, command: str) -> Report:
        features = self.folder.step("features", self.features)
        choice = self.folder.step("choice", self.choice)
        recipe = Recipe.load(self.folder.steps / "recipe", self.model)
        after = self.folder.step("after", lambda: self.measured(recipe.edits, samples=True))
        controls = {}
        for name in self.control_names(recipe.edits):
            controls[name] = self.folder.step(
                f"control-{name}", lambda name=name: self.control(name, choice, recipe.edits)
            )
        probes = self.folder.step("probes", lambda: self.probes(recipe.edits))
        doors = self.folder.step("doors", lambda: door_notes(self.model, recipe.edits, self.concept))
        gate = self.folder.step("gate", lambda: gate_on_test(self.model, recipe.edits, self.concept) or {})
        shown = exhibits(self.model, self.concept, recipe.edits, self.book, self.request.seed)
        report = Report(
            model=self.model.name,
            concept=self.concept.name,
            method=self.request.method,
            seed=self.request.seed,
            metrics={name: Change.from_json(change) for name, change in after["metrics"].items()},
            unanswered=after["unanswered"],
            controls={
                name: {key: Change.from_json(change) for key, change in control["metrics"].items()}
                for name, control in controls.items()
            },
            probes=tuple(probes),
            hook=tuple(after["hook"]),
            gate=gate or None,
            settings={**recipe.settings, "ranking": choice["ranking"]},
            provenance={
                **({"doors": doors} if doors else {}),
                "site": str(self.site),
                "of": self.concept.of,
                "revision": self.model.revision,
                "config": recipe.config,
                "dictionary": features["dictionary"],
                "stability": features["stability"],
                "sizes": asdict(self.request.sizes) if self.request.own is None else self.counts(),
                "candidates": len(choice["tried"]),
                "command": command,
            },
            timing=self.folder.timing,
            versions=versions(),
        )
        write_report(self.folder, report, shown, features["ranking"].get(choice["ranking"], ()), choice["tried"])
        self.folder.finish()
        return report

    def features(self) -> dict[str, Any]:
        """The rankings as plain values, and where their dictionary is; nothing for a method that needs no features."""
        if "features" not in self.needs:
            return {"dictionary": None, "stability": None, "ranking": {}}
        by = tuple(
            dict.fromkeys(name for method in find_method(self.request.method) for name in rankings_of(method.name))
        )
        dictionary = self.dictionary()
        found, stable = rank_features(self.model, self.concept, dictionary, by, self.progress)
        self._features = found
        return {
            "dictionary": {"site": str(dictionary.site), "features": dictionary.d_sae, "name": dictionary.name},
            "stability": stable,
            "ranking": {name: ranking_to_json(features) for name, features in found.items()},
        }

    def dictionary(self) -> SaeDictionary:
        examples = [] if self.request.own is None else [e for part in self.concept.train for e in part]
        return dictionary_for(self.model, self.site, examples, self.request.dictionary, self.train, self.progress)

    def ranked(self) -> dict[str, Any]:
        """The rankings with their rows, from memory or from the finished step; where to change weights instead."""
        if self._features is None and "features" not in self.needs:
            traced = "trace" in self.needs
            where = traced_mlps(self.model, self.concept, self.request.seed, self.progress) if traced else None
            self._features = {NONE: where}
        if self._features is None:
            dictionary = self.dictionary()
            stored = self.folder.done("features")["ranking"]
            self._features = {name: ranking_from_json(rows, name, dictionary) for name, rows in stored.items()}
        return self._features

    def choice(self) -> dict[str, Any]:
        """The settings chosen on validation; the edit goes into a recipe beside the steps."""
        how: dict[str, Any] = {
            "seed": self.request.seed,
            "choosing": self.choosing,
            "book": self.book,
            "only_known": self.request.only_known,
            "ungated": self.request.ungated,
            "progress": self.progress,
        }

        def first() -> Choice:
            with watched(self.progress):
                asked = self.request
                held = read_settings(asked.method, asked.settings)
                return choose_method(self.model, self.concept, asked.method, self.ranked(), settings=held, **how)

        chosen = choose_doors(self.model, self.concept, self.doors, first, **how) if self.doors else first()
        more = {"doors": [one.name for one in self.doors]} if self.doors else {}
        edits = chosen.edit.each()
        recipe = Recipe.of(self.model, self.concept.name, edits, chosen.method, seed=self.request.seed, **more)
        recipe.save(self.folder.steps / "recipe")
        ranking = chosen.ranking or next(iter(self.ranked()))
        return {"ranking": ranking, "settings": chosen.method.settings(), "tried": chosen.tried}

    def measured(self, edits: Sequence[Edit], samples: bool = False, name: str = "after") -> dict[str, Any]:
        """Test metrics under edits, as plain values."""

        def answering(done: int, total: int) -> None:
            if self.progress:
                self.progress(f"asking the test questions ({name})", done, total)

        scores = evaluate(
            self.model,
            self.concept,
            edits,
            before=self.book,
            limit=self.request.questions,
            only_known=self.request.only_known,
            seed=self.request.seed,
            progress=answering,
        )
        if samples:
            save_samples(self.folder.steps / "samples.parquet", scores.samples)
        return {**scores.to_json(), "hook": [stat.to_json() for stat in scores.hooks]}

    def control_names(self, edits: Sequence[Edit]) -> list[str]:
        """Asking, and the same edit by chance where it has features or changes weights."""
        if "features" in self.needs:
            return ["prompt", "random_features"]
        return ["prompt", *(["random_weights"] if any(isinstance(edit, WeightDelta) for edit in edits) else [])]

    def control(self, name: str, choice: dict[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
        """Test metrics of a control: asking, or the same edit on random features or with a random change of weights."""
        if name == "random_weights":
            chance = [edit.random(self.request.seed) for edit in edits if isinstance(edit, WeightDelta)]
            return self.measured(chance, name="random weights")
        where = self.ranked()[choice["ranking"]]
        method = control_methods(method_of(choice["settings"]))[name]
        edit = method.fit(self.model, ForgetRequest(self.concept, self.request.seed), where)
        return self.measured([edit], name=name.replace("_", " "))

    def probes(self, edits: Sequence[Edit]) -> list[dict[str, Any]]:
        """Probes per layer, as plain values."""
        if self.progress:
            self.progress("training probes", 0, 1)
        sites = probe_sites(self.model, self.site)
        return [found.to_json() for found in probe(self.model, self.concept, sites, edits, seed=self.request.seed)]

    def counts(self) -> dict[str, list[int]]:
        """Groups of each part (forget, near, retain) of each split."""
        splits = {name: getattr(self.concept, name) for name in ("train", "validation", "test")}
        return {name: [len(one_per_group(part)) for part in split] for name, split in splits.items()}
