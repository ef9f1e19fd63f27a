"""What all sessions share: models, concepts, and what was found out about a concept at a place of a model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.dictionaries import rankings, stage
from app.ui.jobs import Reporter
from app.ui.lru import Lru
from app.ui.sessions import Session, Settings
from app.workbench import Sizes, dictionary_for, find_site, open_model, world_concept
from app.world_concepts import find, text_concept
from concept_forget import zoo
from concept_forget.concepts import Concept
from concept_forget.directions import FeatureSet
from concept_forget.evaluation import AnswerBook
from concept_forget.model import HookedModel
from concept_forget.sites import Site
from concept_forget.worlds import VOCABULARY, text
from saes import SaeDictionary, moments
from saes.attribution import Moments, Split
from saes.harvest import harvest

SIZES = Sizes(train=48, validation=32, test=60)
"""Smaller than a batch run's, so that a concept is ready in seconds."""
FIRST = "red"
"""The concept to begin with, where there is a choice."""
MODELS, CONCEPTS, FINDINGS = 2, 6, 6
"""Kept in memory at once."""


@dataclass(eq=False)
class Finding:
    """What is known about a concept at a site of a model. Sessions share it; none of it depends on their settings."""

    model: HookedModel
    concept: Concept
    dictionary: SaeDictionary
    of: Moments
    split: Split
    stable: float
    rankings: dict[str, FeatureSet]
    fitted: Lru[Any] = field(default_factory=lambda: Lru(24))
    """Gates and edits fitted once, by what they depend on."""

    @property
    def site(self) -> Site:
        return self.dictionary.site

    def ranked(self, score: str, report: Reporter | None = None) -> FeatureSet:
        """The ranking by one score, made when first asked for."""
        if score not in self.rankings:
            progress = report.progress if report else None
            found, _ = rankings(self.model, self.concept, self.of, self.split, (score,), progress)
            self.rankings |= found
        return self.rankings[score]


class Desk:
    """Models, concepts and findings, each made once and shared. Everything that computes is called from a job."""

    def __init__(self, model: str, open_to_all: bool = False, device: str = "") -> None:
        """`open_to_all`: people elsewhere can reach the app, so only the zoo and `model` may be loaded."""
        self.first, self.open_to_all, self.device = model, open_to_all, device
        self._models: Lru[HookedModel] = Lru(MODELS)
        self._concepts: Lru[Concept] = Lru(CONCEPTS)
        self._findings: Lru[Finding] = Lru(FINDINGS)
        self._books: Lru[AnswerBook] = Lru(MODELS)
        self.bare: Lru[str] = Lru(256)
        """Answers of the untouched model by model, picture and question."""
        self._loading = threading.Lock()

    def names(self) -> list[str]:
        """Models to offer: the given one, then those of the zoo that are here."""
        here = [name for name in zoo.NAMES if (zoo.WEIGHTS / name / "model.safetensors").is_file()]
        return list(dict.fromkeys([self.first, *here]))

    def model(self, name: str) -> HookedModel:
        """A model by zoo name, folder or hub id. Raises LookupError; PermissionError where only the listed are open."""
        if self.open_to_all and name not in self.names():
            raise PermissionError(
                f"This app is open to others, so it loads only {', '.join(self.names())}. Start it on your own machine "
                f"to load {name!r}."
            )
        with self._loading:
            model = self._models.get(name, lambda: open_model(name, self.device))
        assert model is not None
        return model

    def reads(self, name: str) -> bool:
        """Whether a model reads text only: known of the zoo, else it is loaded to see."""
        if name in zoo.NAMES:
            return name in zoo.READING
        return not self.model(name).has_vision

    def concepts(self, name: str) -> list[tuple[str, str]]:
        """What a model can be asked about, as (words to search in, name): pictures, or people of the text world."""
        if self.reads(name):
            return [(target, target) for target in text.targets()]
        return [(f"{w.name}  ·  {w.family}  ({', '.join(w.aliases)})", w.name) for w in VOCABULARY.values()]

    def called(self, name: str = "", model: str = "") -> str:
        """The concept that a name or alias stands for; without one, where to begin. Raises LookupError."""
        model = model or self.first
        known = [concept for _, concept in self.concepts(model)]
        if not name:
            return FIRST if FIRST in known else known[0]
        if name in known:
            return name
        return text_concept(name).name if self.reads(model) else find(name)

    def first_method(self, name: str) -> str:
        """Where to begin: a dictionary of texts has features of words, and clamping these hardly hides a person."""
        return "blur" if self.reads(name) else "clamp"

    def loaded(self, name: str) -> bool:
        """Whether a model is in memory."""
        return name in self._models

    def book(self, name: str) -> AnswerBook:
        """What the untouched model answers, each question asked once."""
        model = self.model(name)
        book = self._books.get(name, lambda: AnswerBook(model))
        assert book is not None
        if book.model is not model or len(book) > 20_000:
            self._books.drop(name)
            return self.book(name)
        return book

    def concept(self, session: Session, settings: Settings | None = None) -> Concept:
        """The concept of these settings. Raises LookupError for a name the world lacks."""
        name = (settings or session.settings).concept
        if name.startswith("own:"):
            if name not in session.own:
                raise LookupError(f"{name[4:]!r} was given by examples that are no longer here. Give them again.")
            return session.own[name]
        reads = self.reads((settings or session.settings).model)
        found = self._concepts.get((reads, name), lambda: text_concept(name) if reads else world_concept(name, SIZES))
        assert found is not None
        return found

    def site(self, settings: Settings) -> Site:
        """The door of these settings, proved live."""
        return find_site(self.model(settings.model), settings.site)

    def finding(self, session: Session, report: Reporter, settings: Settings | None = None) -> Finding:
        """The ranked features of these settings, found now unless somebody asked before."""
        settings = settings or session.settings
        report.progress(f"loading {settings.model}", 0, 1)
        model = self.model(settings.model)
        key = self._key(session, settings)
        known = self._findings.get(key)
        if known is None:
            found = self._find(session, model, settings, report)
            known = self._findings.get(key, lambda: found)
        assert known is not None
        known.ranked(settings.score, report)
        return known

    def known(self, session: Session, settings: Settings | None = None) -> Finding | None:
        """The finding of these settings if it is there already."""
        settings = settings or session.settings
        return self._findings.get(self._key(session, settings))

    def _find(self, session: Session, model: HookedModel, settings: Settings, report: Reporter) -> Finding:
        report.progress(f"drawing examples of {settings.concept.removeprefix('own:')}", 0, 1)
        concept = self.concept(session, settings)
        site = find_site(model, settings.site)
        own = [example for part in concept.train for example in part] if settings.concept.startswith("own:") else []
        dictionary = dictionary_for(model, site, own, progress=report.progress)
        examples = [*concept.train.forget, *concept.train.without]
        store = harvest(model, examples, site, progress=stage(report.progress, "reading the examples"))
        report.progress("encoding them in features", 0, 1)
        of = moments(dictionary, store)
        split = of.split(concept.train)
        found, stable = rankings(model, concept, of, split, ("contrast",), report.progress)
        return Finding(model, concept, dictionary, of, split, stable, found)

    def _key(self, session: Session, settings: Settings) -> tuple[str, ...]:
        # Two people may call two concepts of their own alike.
        owner = session.id if settings.concept.startswith("own:") else ""
        return settings.model, settings.concept, settings.site, owner


@contextmanager
def stoppable(model: HookedModel, report: Reporter) -> Iterator[None]:
    """Under it, work on the model ends in front of its next forward pass once it was told to stop."""
    handle = model.model.register_forward_pre_hook(report.check)
    try:
        yield
    finally:
        handle.remove()
