"""Random labels task by task: which tasks go, which go along, and whether a probe still reads the answers.

The protocol of "Unforgettable Generalization in Language Models" (arXiv:2409.02228) on tasks of the text world.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from analysis.answer_probe import AnswerProbe, answer_probe
from concept_forget.concepts import Concept, Example, ExampleSet, ForgetRequest
from concept_forget.edits import Edit
from concept_forget.evaluation.metrics import Measured
from concept_forget.evaluation.text import Item, PerItem, read
from concept_forget.methods.training.material import Material
from concept_forget.methods.training.random_label import RandomLabel, forget_gap, forget_ratio
from concept_forget.model import HookedModel
from concept_forget.worlds import text as world
from concept_forget.worlds.splits import Split
from concept_forget.worlds.text import probes

TASKS = ("profession", "award", "instrument", "river", "export", "copying")
"""Three kinds of facts about people, two about places, and a skill."""
KNOWN = 0.6
"""A task counts as known above this accuracy: below it there is nothing to forget."""


@dataclass(frozen=True)
class TaskAmounts:
    """How much is trained and asked per task."""

    train: int = 300
    """Questions whose labels are drawn by chance; no person, place or text of them is validated or tested on."""
    test: int = 60
    """And as many for validation, about still others."""
    steps: int = 200
    """At most: a quarter, half and all of them are tried at every rate of the grid."""
    batch: int = 16


@dataclass(frozen=True)
class TwoOptions(RandomLabel):
    """Labels drawn once for every question between its true answer and one wrong one, as published."""

    drawn: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The label of every question."""

    def answer(self, example: Example, material: Material, rng: random.Random) -> str:  # noqa: ARG002
        """The label."""
        return self.drawn[example.prompt]


class Task(NamedTuple):
    """Questions with a true and a wrong answer each."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    wrong: dict[str, str]
    """By question."""


class TaskMatrix:
    """Accuracy, forget ratio and gap of every task after random labels on every task, and the probe of its own.

    Accuracy is the share of questions whose true answer is likelier than the wrong one; chance is 1/2. Train,
    validation and test share no person, place or text. Rate and steps are those with the accuracy nearest to chance on
    the task's own validation questions. The probe reads the value asked for off the question's last token, trained anew
    on the task's own training questions with their true answers (the skill has no set of values to read).
    """

    def __init__(
        self, model: HookedModel, amounts: TaskAmounts | None = None, tasks: Sequence[str] = TASKS, seed: int = 0
    ) -> None:
        self.model, self.amounts, self.seed = model, amounts or TaskAmounts(), seed
        self.made = {name: _task(name, self.amounts, seed) for name in tasks}

    @cached_property
    def before(self) -> dict[str, Measured]:
        """Accuracies of the model as it is."""
        return {name: _right(self.model, task) for name, task in self.made.items()}

    def before_json(self) -> dict[str, Any]:
        """`before`, as plain values."""
        return {name: measured.to_json() for name, measured in self.before.items()}

    def row(self, name: str) -> dict[str, Any]:
        """Every task after random labels on this one."""
        model, task = self.model, self.made[name]
        first = TwoOptions(steps=self.amounts.steps, batch=self.amounts.batch, drawn=labels(task, self.seed))
        fitted = first.fit_grid(model, ForgetRequest(_concept(name, task, self.made), self.seed), None)
        tried = [(_right(model, task, [edit], "validation").value, method, edit) for method, edit in fitted]
        validated, method, edit = min(tried, key=lambda one: abs(forget_gap(one[0])))
        after = {other: _right(model, questions, [edit]) for other, questions in self.made.items()}
        return {
            "settings": {"rate": method.rate, "steps": method.steps, "validation": validated, "tried": len(tried)},
            "accuracy": {other: measured.to_json() for other, measured in after.items()},
            "ratio": {other: _ratio(self.before[other].value, after[other].value) for other in self.made},
            "gap": _gap(after[name]),
            "probe": {"before": _best(_probe(model, task)), "after": _best(_probe(model, task, [edit]))},
        }


def labels(task: Task, seed: int) -> dict[str, str]:
    """Of every training question the true or the wrong answer, by chance."""
    rng = random.Random(f"{seed}/labels")
    return {example.prompt: rng.choice((example.answer, task.wrong[example.prompt])) for example in task.train}


def _task(name: str, amounts: TaskAmounts, seed: int) -> Task:
    rng = random.Random(f"{seed}/{name}")
    wrong: dict[str, str] = {}
    if name in world.TASKS:
        train = _skills(name, "train", amounts.train, wrong, seed)
        validation = _skills(name, "validation", amounts.test, wrong, seed)
        return Task(train, validation, _skills(name, "test", amounts.test, wrong, seed), wrong)
    facts = [fact for fact in world.facts_of(world.subjects()) if fact.attribute == name]
    rng.shuffle(facts)
    # whole people and places are held out: what is tested was never relabelled
    first, second = len(facts) * 4 // 6, len(facts) * 5 // 6
    parts = ((facts[:first], amounts.train), (facts[first:second], amounts.test), (facts[second:], amounts.test))
    made: list[tuple[Example, ...]] = []
    for some, count in parts:
        asked = [(fact, question) for fact in some for question in probes.questions(fact, "train")]
        chosen = rng.sample(asked, min(count, len(asked)))
        wrong |= {question: probes.wrong(fact, rng) for fact, question in chosen}
        made.append(tuple(_example(name, question, fact.value, fact.subject) for fact, question in chosen))
    return Task(made[0], made[1], made[2], wrong)


def _skills(name: str, split: Split, count: int, wrong: dict[str, str], seed: int) -> tuple[Example, ...]:
    rng = random.Random(f"{seed}/{name}/{split}")
    tasks = list(dict.fromkeys(world.skill(name, split, rng) for _ in range(2 * count)))[:count]
    for task, other in zip(tasks, [*tasks[1:], *tasks[:1]], strict=True):
        wrong[task.question] = other.answer
    return tuple(_example(name, task.question, task.answer, task.question) for task in tasks)


def _example(name: str, question: str, answer: str, group: str) -> Example:
    return Example(question, answer, about=name, family=name, group=group)


def _concept(name: str, task: Task, made: Mapping[str, Task]) -> Concept:
    """The task as a request. The published loss retains nothing; the examples to keep are there for form."""
    kept = tuple(example for other, some in made.items() if other != name for example in some.train[:4])
    part = ExampleSet(task.train, (), kept)
    return Concept(name, name, part, part, part)


def _right(model: HookedModel, task: Task, edits: Sequence[Edit] = (), split: Split = "test") -> Measured:
    asked: tuple[Example, ...] = getattr(task, split)
    options = [(example, answer) for example in asked for answer in (example.answer, task.wrong[example.prompt])]
    readings = iter(read(model, [Item(answer, example.prompt) for example, answer in options], edits))
    values = [float(next(readings).log_p.sum() > next(readings).log_p.sum()) for _ in asked]
    return PerItem(tuple(values), tuple(example.group for example in asked)).measured(400)


def _probe(model: HookedModel, task: Task, edits: Sequence[Edit] = ()) -> AnswerProbe | None:
    cut = len(task.train) * 3 // 4
    try:
        return answer_probe(model, task.train[:cut], task.train[cut:], task.test, edits, resamples=400)
    except ValueError:
        return None


def _best(probe: AnswerProbe | None) -> dict[str, Any] | None:
    return None if probe is None else probe.auroc[probe.best].to_json()


def _ratio(before: float, after: float) -> float | None:
    return round(forget_ratio(before, after), 4) if before > KNOWN else None


def _gap(measured: Measured) -> dict[str, Any]:
    value, low, high = (forget_gap(number) for number in (measured.value, measured.low, measured.high))
    return {"value": value, "low": low, "high": high, "n": measured.n}
