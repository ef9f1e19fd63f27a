"""GUARD's negative control: kinds of questions that its gate has never seen leak whole.

    python docs/examples/guard_control.py --model tiny-llama --people 3 --out runs/guard-control

What it does, what came out and what that means is told in guard_control.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.commands.shared import show
from concept_forget.concepts import Concept, Example, ExampleSet, ForgetRequest, role
from concept_forget.edits import Edit
from concept_forget.evaluation.answers import answers, ask
from concept_forget.evaluation.judge import mentions, yes_or_no
from concept_forget.evaluation.text import PerItem
from concept_forget.methods import Guard
from concept_forget.methods.guard import read_prompts
from concept_forget.model import HookedModel
from concept_forget.provenance import write_atomic
from concept_forget.worlds import text

KINDS = ("short", "yesno", "caption")
"""What can be held out of the gate's training."""
KEYS = ("recall", "leak")


def probes_about(name: str, concept: Concept) -> dict[str, list[Example]]:
    """Test questions by type: the three kinds of the request, and types no gate here is ever trained on."""
    found: dict[str, list[Example]] = defaultdict(list)
    for example in concept.test.forget:
        if role(example, concept) != "COA":
            found[example.kind].append(example)
    facts = text.subjects()[name].facts
    for probe in (*text.cloze(facts), *text.adversarial(facts)):
        found[probe.type].append(Example(probe.query, probe.answer, about=name, shows=frozenset({name})))
    return dict(found)


def knows(example: Example, said: str) -> bool:
    """Whether an answer gives the fact away: it names it (a caption: the person), or says yes."""
    if example.kind == "yesno":
        return yes_or_no(said) is True
    names = example.shows if example.kind == "caption" else (example.answer,)
    return mentions(said, names)


def held_out(concept: Concept, kind: str) -> Concept:
    """The request without this kind of question in what GUARD is fitted on (all that it stores is without it too)."""
    forget = tuple(e for e in concept.train.forget if e.kind != kind or role(e, concept) == "COA")
    return replace(concept, train=ExampleSet(forget, concept.train.near, concept.train.retain))


def table(model: HookedModel, rule: Edit, probes: dict[str, list[Example]]) -> dict[str, dict[str, Any]]:
    """By type, of what was known before: which the gate takes, which are known after, and the fact asked for."""
    rows = {}
    for kind, examples in probes.items():
        before = answers(model, examples)
        known = [e for e, said in zip(examples, before, strict=True) if knows(e, said)]
        if not known:
            continue
        opened = rule.gate.opens(read_prompts(model, known, rule.site))  # type: ignore[attr-defined]
        leak = [knows(e, said) for e, said in zip(known, ask(model, known, [rule]).texts, strict=True)]
        rows[kind] = {
            "asked": len(examples),
            "opened": opened.tolist(),
            "leaked": leak,
            "groups": [example.group or f"{example.about}: {example.answer}" for example in known],
        }
    return rows


def summary(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """By what was held out and by type: recall and leak over all people, 95% intervals over their facts."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for hold in dict.fromkeys(entry["held out"] for entry in results):
        mine = [entry["types"] for entry in results if entry["held out"] == hold]
        for kind in dict.fromkeys(kind for types in mine for kind in types):
            rows = [types[kind] for types in mine if kind in types]
            groups = tuple(group for row in rows for group in row["groups"])
            found[hold][kind] = {"n": len(groups)} | {
                name: PerItem(tuple(float(value) for row in rows for value in row[key]), groups).measured().to_json()
                for name, key in (("recall", "opened"), ("leak", "leaked"))
            }
    return dict(found)


def kept(model: HookedModel, rule: Edit, concept: Concept, seed: int = 0) -> dict[str, Any]:
    """Retained test questions and strangers: how many answers keep every letter, false fires, milliseconds."""
    others = [*concept.test.without, *(e for e in concept.test.forget if role(e, concept) == "COA")]
    rng = random.Random(seed)
    people = [name for name, _ in zip(text.strangers(rng, held_out=True), range(60), strict=False)]
    unknown = [Example(f"What is the job of {name}?", text.UNKNOWN, group=name) for name in people]
    result: dict[str, Any] = {}
    for what, examples in (("retained", others), ("strangers", unknown)):
        started = time.perf_counter()
        before = ask(model, examples, batch_size=32).texts
        bare, started = time.perf_counter() - started, time.perf_counter()
        after = ask(model, examples, [rule], batch_size=32)
        opened = rule.gate.opens(read_prompts(model, examples, rule.site))  # type: ignore[attr-defined]
        same = [a == b for a, b in zip(before, after.texts, strict=True)]
        result[what] = {
            "n": len(examples),
            "identical": sum(same),
            "false fires": int(opened.sum()),
            "closed and changed": sum(not a and not bool(b) for a, b in zip(same, opened, strict=True)),
            "ms a question": 1000 * (time.perf_counter() - started) / len(examples),
            "ms a question, bare": 1000 * bare / len(examples),
        }
    return result


def timed(model: HookedModel, rule: Edit, examples: Sequence[Example]) -> dict[str, float]:
    """Milliseconds for one question alone, bare and under the rule."""
    result = {}
    for name, edits in (("bare", []), ("GUARD", [rule])):
        started = time.perf_counter()
        for example in examples:
            model.generate(model.prepare([example.prompt]), edits=edits, max_new_tokens=8)
        result[name] = 1000 * (time.perf_counter() - started) / len(examples)
    return result


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The control for some people; returns what it writes to results.json for each of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--model", default="tiny-llama")
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--hold", nargs="+", default=["", *KINDS], help="kinds to hold out; '' holds out none")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--out", type=Path, default=Path("runs/guard-control"))
    given = parser.parse_args(argv)
    model = HookedModel.load(given.model)
    results = []
    for seed, name in enumerate(text.targets()[: given.people]):
        concept = text.concept(name, seed=seed)
        probes = probes_about(name, concept)
        for hold in given.hold:
            started = time.perf_counter()
            request = ForgetRequest(held_out(concept, hold), seed)
            rule = Guard(threshold=given.threshold).fit(model, request, None)
            entry: dict[str, Any] = {"person": name, "held out": hold, "seconds to fit": time.perf_counter() - started}
            entry["types"] = table(model, rule, probes)
            if not hold:
                entry["kept"] = kept(model, rule, concept, seed)
                entry["ms alone, about"] = timed(model, rule, probes["short"][:10])
                entry["ms alone, others"] = timed(model, rule, concept.test.near[:10])
            results.append(entry)
            show(f"{name}, held out: {hold or 'nothing'}")
            pooled = summary(results)
            write_atomic(given.out / "results.json", json.dumps({"summary": pooled, "people": results}, indent=1))
    for hold, rows in summary(results).items():
        show(f"Held out: {hold or 'nothing'}")
        for kind, row in rows.items():
            cells = (f"{row[key]['value']:.2f} ({row[key]['low']:.2f} to {row[key]['high']:.2f})" for key in KEYS)
            show(f"  {kind:22s} n {row['n']:3d}  gate recall {next(cells)}  leak {next(cells)}")
    return results


if __name__ == "__main__":
    main()
