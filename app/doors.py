"""One concept taken out at several doors: each knows the concept as it is, and meets what the others leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from app.choosing import Candidate, Choice, Choosing, choose_method
from app.dictionaries import Progress
from concept_forget.concepts import Concept, ForgetRequest
from concept_forget.doors import DOORS, Door, door, doors, open_paths
from concept_forget.edits import Edit, Together
from concept_forget.evaluation import AnswerBook
from concept_forget.methods import DiffMeans
from concept_forget.model import HookedModel

ALL = "all"


def find_doors(model: HookedModel, name: str) -> tuple[Door, ...]:
    """The doors written so: one of them, several with a plus between, or all. Raises NoSuchDoor."""
    if name == ALL:
        return doors(model)
    found = [door(model, part.strip()) for part in name.split("+")]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: DOORS.index(one.name)))


def main_door(model: HookedModel, chosen: Sequence[Door]) -> Door | None:
    """The door at which the method itself works, with a dictionary: the default one, else the first plain one."""
    plain = [one for one in chosen if one.tokens == "all"]
    return next((one for one in plain if one.site == model.reading_site), plain[0] if plain else None)


def choose_doors(
    model: HookedModel,
    concept: Concept,
    chosen: Sequence[Door],
    first: Callable[[], Choice],
    *,
    seed: int = 0,
    choosing: Choosing | None = None,
    book: AnswerBook | None = None,
    only_known: bool = False,
    ungated: bool = False,
    progress: Progress | None = None,
) -> Choice:
    """The edits of these doors as one (`Together`), settings chosen on validation.

    `first` chooses the edit of the main door. Every other door gets a difference of means, without a gate or (unless
    `ungated`) behind one, fitted on the bare model and judged while the edits before it are applied. (Fitted behind the
    other edits, a gate learns what little they leave, and opens for nothing else.)
    """
    book, main = book or AnswerBook(model), main_door(model, chosen)
    choices: list[Choice] = []
    order = sorted(chosen, key=lambda one: one != main)
    with ExitStack() as stack:
        # the main door first: the others are chosen to close what it leaves open
        for one in order:
            if one == main:
                choice = first()
            else:
                with model.bare():
                    among = list(at_door(model, concept, one, seed))
                choice = choose_method(
                    model,
                    concept,
                    DiffMeans.name,
                    {},
                    seed=seed,
                    choosing=choosing,
                    book=book,
                    only_known=only_known,
                    ungated=ungated,
                    progress=progress,
                    among=among,
                )
            choices.append(choice)
            stack.enter_context(choice.edit.applied(model))
    tried = [{**entry, "door": one.name} for one, choice in zip(order, choices, strict=True) for entry in choice.tried]
    edit = Together.of(*(choice.edit for choice in choices))
    return Choice(choices[0].method, edit, choices[0].ranking, tried)


def at_door(model: HookedModel, concept: Concept, one: Door, seed: int) -> Iterator[Candidate]:
    """Differences of means at a door, the plain projection first, then further along and behind gates."""
    method = DiffMeans(site=str(one.site), tokens=one.tokens, looser=(0.05,))
    for fitted, edit in method.fit_grid(model, ForgetRequest(concept, seed), None):
        yield "", fitted, edit


def door_notes(model: HookedModel, edits: Sequence[Edit], concept: Concept, limit: int = 16) -> dict[str, Any]:
    """Which paths edits leave open, each alone and all together, measured on validation examples."""
    examples = [example for part in concept.validation for example in part]
    parts = [one for edit in edits for one in edit.each()]
    whole = open_paths(model, parts, examples, limit).to_json()
    alone = [open_paths(model, [part], examples, limit).to_json() for part in parts] if len(parts) > 1 else []
    return {**whole, "alone": alone}
