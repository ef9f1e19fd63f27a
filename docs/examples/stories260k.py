"""A word out of a story model that nobody here trained: dictionary, features, clamp, stories with and without it.

    python docs/examples/stories260k.py --data ../shared/data --out runs/stories

What it does, what came out and what that means is told in stories260k.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from app.commands.shared import show
from concept_forget.concepts import Concept, Example, ExampleSet, ForgetRequest
from concept_forget.directions import FeatureSet
from concept_forget.edits import Edit
from concept_forget.evaluation.text import PerItem
from concept_forget.methods import Clamp, RandomFeatures
from concept_forget.model import HookedModel
from concept_forget.provenance import write_atomic
from concept_forget.sites import Site
from saes import SaeDictionary, TrainSettings, causal_rerank, moments, rank
from saes.harvest import harvest
from saes.quality import quality
from saes.train import train

MODEL, STORIES = Path("stories260K"), Path("tinystories/tinystories_1000.json")
ANIMALS = ("dog", "cat", "bird", "bear", "rabbit", "fish", "frog", "mouse", "duck", "lion", "bunny", "squirrel")
BEGINNINGS = (
    "Once upon a time, there was a {word} named Max.",
    "One day, Lily went to the park. She saw a big {word}.",
    "Tom had a {word}. The {word} liked to play.",
    "Once upon a time, there was a little girl who wanted a pet.",
    "One day, a boy heard a loud bark. It was a",
    "The girl threw the ball. It was fetched by her",
)
TOLD = "{value:.2f} ({low:.2f} to {high:.2f}, n {n})"
TOKENS = 192
"""How much of each story is read; the model was trained on 512."""


def data_root(given: Path | None) -> Path:
    """--data, else $CONCEPT_FORGET_DATA, else ../shared/data. Raises LookupError when something is not there."""
    root = given or Path(os.environ.get("CONCEPT_FORGET_DATA") or "../shared/data")
    for part in (MODEL / "config.json", STORIES):
        if not (root / part).is_file():
            raise LookupError(f"There is no {part} in {root}. Give its folder with --data or $CONCEPT_FORGET_DATA.")
    return root


def says(text: str, word: str) -> int:
    """How often a text has the word or its plural."""
    return len(re.findall(rf"\b{word}s?\b", text, re.IGNORECASE))


def read_stories(root: Path, model: HookedModel, count: int) -> list[str]:
    """The first stories, one line break between paragraphs as the model was trained, cut to TOKENS tokens."""
    stories = [re.sub(r"\n\s*\n", "\n", text).strip() for text in json.loads((root / STORIES).read_text())[:count]]
    ids = model.tokenizer(stories, add_special_tokens=False, truncation=True, max_length=TOKENS)["input_ids"]
    return model.tokenizer.batch_decode(ids)


def concept_of(stories: Sequence[str], word: str, seed: int = 0) -> Concept:
    """Stories with the word, with other animals, with none; 6 in 10 to fit on, 2 to choose on, 2 to report on.

    The seed deals them.
    """
    kin = [animal for animal in ANIMALS if animal != word]
    parts: tuple[list[Example], ...] = ([], [], [])
    for number, text in enumerate(stories):
        part = 0 if says(text, word) else 1 if any(says(text, animal) for animal in kin) else 2
        shows = frozenset({word}) if part == 0 else frozenset()
        parts[part].append(Example(text, "", shows=shows, group=f"story {number}"))
    for part in parts:
        random.Random(seed).shuffle(part)
    splits = []
    for start, end in ((0.0, 0.6), (0.6, 0.8), (0.8, 1.0)):
        cut = [tuple(part[round(start * len(part)) : round(end * len(part))]) for part in parts]
        splits.append(ExampleSet(*cut))
    return Concept(word, "animals", *splits)


def places(examples: Sequence[Example], words: Sequence[str], count: int, seed: int = 0) -> list[Example]:
    """Beginnings of these stories up to one of the words, which is the answer; at most one of each story and word."""
    found = []
    for example in examples:
        for word in words:
            if (match := re.search(rf" {word}\b", example.prompt)) and match.start() > 20:
                found.append(replace(example, prompt=example.prompt[: match.start()], answer=word, about=word))
    random.Random(seed).shuffle(found)
    return found[:count]


@torch.no_grad()
def likelihoods(model: HookedModel, examples: Sequence[Example], edits: Sequence[Edit] = ()) -> PerItem:
    """Log-probability of every token of the answers, or where there is none of the whole text; groups are stories."""
    values: list[float] = []
    groups: list[str] = []
    for start in range(0, len(examples), 16):
        part = examples[start : start + 16]
        answers = [example.answer for example in part] if part[0].answer else None
        batch = model.prepare([example.prompt for example in part], answers=answers)
        logits = model.run(batch, edits=edits, logits="all").logits[:, :-1].float().log_softmax(-1)
        mask = batch.tokens.text_mask if batch.tokens.answer_mask is None else batch.tokens.answer_mask
        found = logits.gather(2, batch.inputs["input_ids"][:, 1:, None])[..., 0]
        for number, (row, counted) in enumerate(zip(found, mask[:, 1:], strict=True), start):
            values += row[counted].tolist()
            groups += [examples[number].group or f"#{number}"] * int(counted.sum())
    return PerItem(tuple(values), tuple(groups))


def log_likelihood(model: HookedModel, examples: Sequence[Example], edits: Sequence[Edit] = ()) -> float:
    """Its mean over all tokens."""
    return likelihoods(model, examples, edits).mean


def tell(model: HookedModel, word: str, edits: Sequence[Edit], each: int, seed: int = 0) -> list[str]:
    """Sampled stories (temperature 0.8), `each` for every beginning, the same chance with and without edits."""
    prompts = [beginning.format(word=word) for beginning in BEGINNINGS for _ in range(each)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        batch = model.prepare(prompts)
        said = model.generate(batch, edits=edits, max_new_tokens=96, do_sample=True, temperature=0.8, top_k=None)
    return said.texts


def measured(model: HookedModel, concept: Concept, edits: Sequence[Edit], each: int, seed: int = 0) -> dict[str, Any]:
    """Test stories under edits: how likely the word, other animals and other stories are, and what the model tells.

    With 95% intervals over stories, those of the test split or those told.
    """
    word, test, kin = concept.name, concept.test, [animal for animal in ANIMALS if animal != concept.name]
    stories = tell(model, word, edits, each, seed)
    read = {
        f"log p({word})": places(test.forget, [word], 64),
        "log p(other animals)": places(test.near, kin, 96),
        "log p, stories of other animals": test.near[:64],
        "log p, stories without animals": test.retain[:64],
    }
    told = {
        "stories with the word": [float(says(text, word) > 0) for text in stories],
        "stories with another animal": [float(any(says(text, animal) for animal in kin)) for text in stories],
        "different words in ten": [10 * len(set(t.lower().split())) / max(1, len(t.split())) for t in stories],
    }
    numbers = {name: likelihoods(model, examples, edits).measured().to_json() for name, examples in read.items()}
    alone = tuple(f"#{number}" for number in range(len(stories)))
    numbers |= {name: PerItem(tuple(values), alone).measured().to_json() for name, values in told.items()}
    return {**numbers, "story": stories[0]}


def features_of(model: HookedModel, concept: Concept, dictionary: SaeDictionary) -> FeatureSet:
    """Features by what taking them out does to the word, per unit of what it does to other animals' names."""
    store = harvest(model, [e for part in concept.train for e in part], dictionary.site)
    of = moments(dictionary, store)
    candidates = rank(of, of.split(concept.train), "contrast", 64)
    kin = [animal for animal in ANIMALS if animal != concept.name]
    target = places(concept.train.forget, [concept.name], 64)
    return causal_rerank(model, candidates, target, places(concept.train.near, kin, 64))


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The example. Returns what it writes to results.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, help="folder with stories260K/ and tinystories/")
    parser.add_argument("--out", type=Path, default=Path("runs/stories"))
    parser.add_argument("--word", default="dog", choices=ANIMALS)
    parser.add_argument("--site", default="text.2.resid")
    parser.add_argument("--stories", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2000, help="of the dictionary")
    parser.add_argument("--k", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--gamma", type=float, nargs="+", default=[0.0, -1.0, -2.0])
    parser.add_argument("--each", type=int, default=8, help="stories told for every beginning")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)

    root = data_root(given.data)
    model = HookedModel.load(str(root / MODEL))
    concept = concept_of(read_stories(root, model, given.stories), given.word, given.seed)
    counts = {name: [len(part) for part in getattr(concept, name)] for name in ("train", "validation", "test")}
    show(f"Stories with {given.word}, with other animals, with none: {counts}")

    store = harvest(model, [e for part in concept.train for e in part], Site.parse(given.site))
    dictionary = train(store, TrainSettings(k=8, steps=given.steps, seed=given.seed))
    dictionary.save(given.out / "sae")
    held = harvest(model, [e for part in concept.validation for e in part], dictionary.site)
    card = quality(dictionary, held).to_json()
    show(f"{dictionary.d_sae} features, explained variance {card['explained_variance']:.3f}, L0 {card['l0']:.1f}")

    where = features_of(model, concept, dictionary)
    request = ForgetRequest(concept, given.seed)
    method, tried = choose(model, request, where, given.k, given.gamma)
    show(f"Chosen on validation: {method.settings()}; features {where.indices[: method.k].tolist()}")
    results: dict[str, Any] = {"counts": counts, "dictionary": card, "method": method.settings(), "tried": tried}
    results["features"] = where.indices[: method.k].tolist()
    results["before"] = measured(model, concept, [], given.each, given.seed)
    results["clamp"] = measured(model, concept, [method.fit(model, request, where)], given.each, given.seed)
    chance = [RandomFeatures(of=method).fit(model, replace(request, seed=seed), where) for seed in range(3)]
    results["random features"] = [measured(model, concept, [edit], given.each, given.seed) for edit in chance]
    write_atomic(given.out / "results.json", json.dumps(results, indent=1))
    for name in results["before"]:
        row = [results["before"][name], results["clamp"][name], *(one[name] for one in results["random features"])]
        show(f"{name}: " + "  |  ".join(v if isinstance(v, str) else TOLD.format(**v) for v in row))
    return results


def choose(
    model: HookedModel, request: ForgetRequest, where: FeatureSet, ks: Sequence[int], gammas: Sequence[float]
) -> tuple[Clamp, list[dict[str, Any]]]:
    """On validation: the largest fall of log p(word) for which other stories' loss rises by at most 0.02."""
    concept = request.concept
    target = places(concept.validation.forget, [concept.name], 48)
    other = concept.validation.without[:64]
    word, loss = log_likelihood(model, target), -log_likelihood(model, other)
    tried = []
    for k in ks:
        for gamma in gammas:
            method = Clamp(k=k, action="scale", gamma=gamma)
            edit = method.fit(model, request, where)
            fall, rise = word - log_likelihood(model, target, [edit]), -log_likelihood(model, other, [edit]) - loss
            tried.append({"k": k, "gamma": gamma, "fall of log p": fall, "rise of loss": rise})
    allowed = [entry for entry in tried if entry["rise of loss"] <= 0.02] or tried
    best = max(allowed, key=lambda entry: entry["fall of log p"])
    return Clamp(k=best["k"], action="scale", gamma=best["gamma"]), tried


if __name__ == "__main__":
    main()
