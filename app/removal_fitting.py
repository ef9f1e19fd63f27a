"""The edits that `bench removal` compares: settings chosen on validation, or taken over from an earlier bench."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from app.choosing import Candidate, Choice, Choosing, choose_method, method_of
from app.doors import choose_doors
from app.opening import PLUS
from concept_forget.concepts import Concept, ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.distil import Distil, distilled
from concept_forget.doors import doors
from concept_forget.edits import Edit
from concept_forget.evaluation import AnswerBook
from concept_forget.methods import ResidualClamp
from concept_forget.model import HookedModel

SAUCE_FAINT, AFFINE = "sauce_faint", "affine"
REMOVAL = (
    "none",
    "sauce",
    SAUCE_FAINT,
    "clamp",
    "gated_clamp",
    "patch_clamp",
    "residual_clamp",
    "replace",
    "doors",
    "lora",
    "leace",
    AFFINE,
    PLUS,
)
"""Methods of `bench removal`: `sauce_faint` is SAUCE mode chosen as `patch_clamp` is, `lora` the gated clamp distilled
into the weights, `affine` the difference of means without a gate, which the projector's weights can hold, `doors` the
same at the main door and a difference of means with or without a gate at every other."""
OF = {SAUCE_FAINT: "sauce", AFFINE: "diff_means"}
"""The method behind a name that is none."""
FAINT = (SAUCE_FAINT, "patch_clamp", AFFINE, PLUS)
"""Chosen on faint copies of the validation pictures too; the others, as in the paper, on pictures as they are."""
Prior = Mapping[tuple[str, str], Mapping[str, Any]]
"""Settings by concept and method."""
FEW = Choosing(first=6, second=20, keep=3)


class Fitted(NamedTuple):
    """An edit with the settings that made it."""

    edit: Edit
    settings: dict[str, Any]


class NotThatBench(ValueError):
    """The file is no result of a benchmark."""


def read_prior(path: Path | None) -> dict[tuple[str, str], dict[str, Any]]:
    """The settings that an earlier `bench` chose on validation, by concept and method. Raises NotThatBench."""
    if path is None:
        return {}
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
        return {(cell["concept"], cell["method"]): dict(cell["settings"]) for cell in cells}
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise NotThatBench(f"{path} is no bench.json with cells and settings: {error!r}. Give one, or none.") from error


def check_method(name: str) -> None:
    """Raises LookupError for a name that is none of `REMOVAL`."""
    if name not in REMOVAL:
        raise LookupError(f"bench removal has no method {name!r}; it has {', '.join(REMOVAL)}.")


class Fitter:
    """Fits the methods of one concept; what several of them need is made once."""

    def __init__(
        self,
        model: HookedModel,
        concept: Concept,
        ranked: Callable[[str], FeatureSet],
        prior: Prior,
        book: AnswerBook,
        seed: int = 0,
        choosing: Choosing = FEW,
    ) -> None:
        self.model, self.concept, self.ranked, self.prior = model, concept, ranked, prior
        self.book, self.seed, self.choosing = book, seed, choosing
        self.request = ForgetRequest(concept, seed)
        self.fitted: dict[str, Choice] = {}

    def __call__(self, name: str) -> Fitted:
        """The edit of a method. Raises LookupError for a name that is none of `REMOVAL`."""
        check_method(name)
        choice = self.choice(name)
        settings = choice.method.settings()
        return Fitted(choice.edit, settings | {"ranking": choice.ranking, "method": name, "of": settings["method"]})

    def choice(self, name: str) -> Choice:
        """The settings of a method, chosen once."""
        if name not in self.fitted:
            own = {"doors": self._doors, "lora": self._lora}.get(name)
            self.fitted[name] = own() if own else self._single(name)
        return self.fitted[name]

    def _single(self, name: str) -> Choice:
        known = self.prior.get((self.concept.name, name))
        if name == ResidualClamp.name:
            return self._chosen(name, self._beside())
        if known is None:
            return self._chosen(name)
        ranking = known.get("ranking", "contrast")
        settings = {k: v for k, v in known.items() if k not in ("ranking", "of")}
        method = method_of({**settings, "method": known.get("of", OF.get(name, name))})
        edit = method.fit(self.model, self.request, self.ranked(ranking))
        return Choice(method, edit, ranking, [{**method.settings(), "ranking": ranking, "chosen": True}])

    def _chosen(self, name: str, among: Iterable[Candidate] | None = None) -> Choice:
        method = OF.get(name, name)
        score = "sauce" if method == "sauce" else "contrast"
        return choose_method(
            self.model,
            self.concept,
            method,
            {score: self.ranked(score)},
            seed=self.seed,
            choosing=self.choosing if name in FAINT else replace(self.choosing, faint=0),
            ungated=name == AFFINE,
            book=self.book,
            among=among,
        )

    def _beside(self) -> Iterator[Candidate]:
        """The clamp that was chosen with a gate, with either eraser beside it."""
        gated = self.choice("gated_clamp")
        shared = {field.name for field in fields(ResidualClamp)}
        base = ResidualClamp(**{k: v for k, v in asdict(gated.method).items() if k in shared})
        where = self.ranked(gated.ranking)
        for method, edit in base.fitted(self.model, self.request, where, tuple(_erasers(base))):
            yield gated.ranking, method, edit

    def _lora(self) -> Choice:
        """The gated clamp as `export` bakes it."""
        gated = self.choice("gated_clamp")
        edit = distilled(self.model, [gated.edit], self.concept, Distil(seed=self.seed))
        return gated._replace(edit=edit)

    def _doors(self) -> Choice:
        return choose_doors(
            self.model,
            self.concept,
            doors(self.model),
            lambda: self.choice(AFFINE),
            seed=self.seed,
            choosing=self.choosing,
            book=self.book,
        )


def _erasers(base: ResidualClamp) -> Iterator[ResidualClamp]:
    for eraser in ("leace", "diff_means"):
        for strength in (1.0, 2.0):
            yield replace(base, eraser=eraser, strength=strength)
