"""GUARD: keep the answers, and do not say them where a gate on the prompt says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from concept_forget.concepts import Concept, Example, ForgetRequest, role
from concept_forget.directions import FeatureSet
from concept_forget.edits.gate import calibrate
from concept_forget.edits.guard import GuardRule, PromptGate, pooled
from concept_forget.evaluation.judge import mentions
from concept_forget.methods.base import Method
from concept_forget.model import HookedModel
from concept_forget.sites import Site


class Readings(NamedTuple):
    """What the gate is trained on, and what it looks answers up with."""

    site: Site
    z: Float[Tensor, "n d"]
    labels: Bool[Tensor, " n"]
    """Which prompts ask for the concept."""
    asked: tuple[Example, ...]
    """The examples behind them."""


@dataclass(frozen=True)
class Guard(Method):
    """GUARD (arXiv 2505.13312): prompt gate, retrieval, forbidden words, penalised beam search.

    The gate is an MLP d -> hidden -> hidden -> 2 on the mean hidden state of the prompt (Eq. 3; layer and sizes are
    those of an independent re-implementation), trained with cross-entropy weighted by inverse frequency: "forget" are
    the training questions about the concept, "retain" everything else, questions about others beside the concept among
    it. Prompts that the gate does not take are answered as before, bit for bit. What it does not take leaks whole: ask
    for its recall on kinds of questions it never saw. Needs the forget answers at inference.
    """

    retrieve: Literal["all", "question", "answer"] = "all"
    """What is forbidden: all that is stored, which is right for one concept; for thousands of answers those of the
    stored questions nearest to the prompt, or (the paper) the answers nearest to it."""
    retrieved: int = 2
    """How many different answers are forbidden together."""
    beams: int = 7
    beta: float = 1.0
    """Share of a forbidden sequence that may not be said."""
    delta: float | None = 0.5
    """Similarity from which a word is blocked; None: no soft match."""
    sbert: str = ""
    """Sentence-transformers model for the soft match (the paper: all-MiniLM-L6-v2); empty: the model's embeddings."""
    threshold: float | None = None
    """Share of "forget" from which the gate opens (the paper: 0.5); None: calibrated on validation."""
    hidden: int = 256
    epochs: int = 50
    layer: int = -2
    """Whose output the gate reads, counted as in a list."""

    name: ClassVar[str] = "guard"
    needs = "nothing"

    def fit(self, model: HookedModel, request: ForgetRequest, where: FeatureSet | None) -> GuardRule:  # noqa: ARG002
        """The rule. Raises ValueError when there is nothing to forget or nothing to retain."""
        read = self._readings(model, request)
        gate = self._gate(read, request.seed)
        threshold = calibrated(gate, model, request.concept, read.site) if self.threshold is None else self.threshold
        return self._rule(model, request.concept, read, replace(gate, threshold=threshold))

    def grid(self) -> tuple[Guard, ...]:
        """The gate calibrated, and at even odds; all stored answers forbidden, and those of the nearest questions."""
        others = [replace(self, threshold=t, retrieve=r) for t in (None, 0.5) for r in ("all", "question")]
        return (self, *(other for other in others if other != self))

    def fit_grid(
        self,
        model: HookedModel,
        request: ForgetRequest,
        where: FeatureSet | None,  # noqa: ARG002
    ) -> Iterator[tuple[Guard, GuardRule]]:
        """Every member of the grid with its edit; the gate, which is the work, is fitted once."""
        read = self._readings(model, request)
        gate = self._gate(read, request.seed)
        found = calibrated(gate, model, request.concept, read.site)
        for method in self.grid():
            threshold = found if method.threshold is None else method.threshold
            yield method, method._rule(model, request.concept, read, replace(gate, threshold=threshold))

    def _readings(self, model: HookedModel, request: ForgetRequest) -> Readings:
        concept, train = request.concept, request.concept.train
        kept = [example for example in train.forget if role(example, concept) == "COA"]
        forget = [example for example in train.forget if role(example, concept) != "COA" and example.answer]
        if not forget or not (kept or train.without):
            raise ValueError(
                f"GUARD needs training questions about {concept.name!r} with their answers, and others to keep; there "
                f"are {len(forget)} and {len(kept) + len(train.without)}."
            )
        blocks = [site for site in model.sites() if site.tower == "text" and site.stream == "resid"]
        if not -len(blocks) <= self.layer < len(blocks):
            raise ValueError(f"layer={self.layer}: {model.name} has {len(blocks)} text layers.")
        site = blocks[self.layer]
        wanted = {(e.prompt, id(e.image)) for e in forget}
        asked = {(e.prompt, e.answer, id(e.image)): e for e in (*forget, *kept, *train.without)}
        labels = torch.tensor([(prompt, image) in wanted for prompt, _, image in asked])
        return Readings(site, read_prompts(model, list(asked.values()), site), labels, tuple(asked.values()))

    def _gate(self, read: Readings, seed: int) -> PromptGate:
        """Adam, lr 1e-3, batches of 32, dropout 0.1. Both classes weigh the same, and so do the kinds in "forget"."""
        mean, std = read.z.mean(0), read.z.std(0).clamp_min(1e-6)
        x, y = (read.z - mean) / std, read.labels.long()
        sorts = [example.kind if label else "" for example, label in zip(read.asked, read.labels.tolist(), strict=True)]
        counts = Counter(sorts)
        share = {sort: 1.0 if not sort else 1 / (len(counts) - 1) for sort in counts}
        weight = torch.tensor([share[sort] * len(sorts) / (2 * counts[sort]) for sort in sorts])
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            mlp = nn.Sequential(
                *(nn.Linear(x.shape[1], self.hidden), nn.ReLU(), nn.Dropout(0.1)),
                *(nn.Linear(self.hidden, self.hidden), nn.ReLU(), nn.Dropout(0.1)),
                nn.Linear(self.hidden, 2),
            )
            optimizer = torch.optim.Adam(mlp.parameters(), lr=1e-3)
            for _ in range(self.epochs):
                for rows in torch.randperm(len(y)).split(32):
                    losses = nn.functional.cross_entropy(mlp(x[rows]), y[rows], reduction="none")
                    loss = (losses * weight[rows]).sum() / weight[rows].sum()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        linear = [part for part in mlp if isinstance(part, nn.Linear)]
        layers = tuple((part.weight.detach().clone(), part.bias.detach().clone()) for part in linear)
        return PromptGate(mean, std, layers)

    def _rule(self, model: HookedModel, concept: Concept, read: Readings, gate: PromptGate) -> GuardRule:
        stored = [example for example, label in zip(read.asked, read.labels.tolist(), strict=True) if label]
        said = [given_away(example, concept, stored) for example in stored]
        answers = tuple(dict.fromkeys(said))
        if self.retrieve == "answer":
            texts = [Example(some[0], "") for some in answers]
            z, of = read_prompts(model, texts, read.site), tuple(range(len(answers)))
        else:
            z, of = read.z[read.labels], tuple(answers.index(some) for some in said)
        keys = nn.functional.normalize(gate.standard(z), dim=-1)
        how = (self.retrieve, self.retrieved, self.beams, self.beta, self.delta, self.sbert)
        return GuardRule(read.site, gate, answers, keys, of, *how)


def calibrated(gate: PromptGate, model: HookedModel, concept: Concept, site: Site) -> float:
    """The share from which a gate opens, by what validation prompts score (`calibrate`); ValueError without some."""
    held = concept.validation
    about = [example for example in held.forget if role(example, concept) != "COA"]
    others = [*(example for example in held.forget if role(example, concept) == "COA"), *held.without]
    if not about or not others:
        raise ValueError(
            f"GUARD's gate is calibrated on validation questions about {concept.name!r} and others; there are "
            f"{len(about)} and {len(others)}. Give some of both, or a threshold."
        )
    yes, no = (gate.log_odds(read_prompts(model, part, site)) for part in (about, others))
    return float(torch.tensor(calibrate(yes, no), dtype=torch.float64).sigmoid())


def given_away(example: Example, concept: Concept, stored: Sequence[Example]) -> tuple[str, ...]:
    """What an answer must not say: itself and its other spellings; of a caption, the concept's names and the stored
    short answers in it (everything else in a picture may be told)."""
    if example.kind != "caption":
        return tuple(dict.fromkeys((example.answer, *example.aliases)))
    short = [other.answer for other in stored if other.kind == "short" and mentions(example.answer, [other.answer])]
    return tuple(dict.fromkeys((*concept.words, *short)))


def read_prompts(
    model: HookedModel, examples: Sequence[Example], site: Site, batch_size: int = 64
) -> Float[Tensor, "n d"]:
    """z of every prompt (with its picture), in the order of the examples, on the CPU."""
    order = sorted(range(len(examples)), key=lambda i: (examples[i].image is None, len(examples[i].prompt)))
    found: list[tuple[list[int], Tensor]] = []
    start = 0
    for end in range(1, len(order) + 1):
        here = examples[order[start]].image is None
        if end < len(order) and end - start < batch_size and (examples[order[end]].image is None) == here:
            continue
        rows = order[start:end]
        images = None if here else [examples[i].image for i in rows]
        with model.bare():
            found.append((rows, pooled(model, model.prepare([examples[i].prompt for i in rows], images), site).cpu()))
        start = end
    z = torch.cat([part for _, part in found])
    return z[torch.tensor([i for rows, _ in found for i in rows]).argsort()]
