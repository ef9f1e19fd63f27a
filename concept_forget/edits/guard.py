"""GUARD: answers that a prompt gate takes for forbidden are decoded without what they must not say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import LogitsProcessorList

from concept_forget.edits.decoding import DecodingRule, RuleStat
from concept_forget.edits.forbidden import Forbidden, WithoutForbidden, lm_words, sbert_words
from concept_forget.edits.parts import Parts
from concept_forget.sites import Site

if TYPE_CHECKING:
    from concept_forget.model import HookedModel
    from concept_forget.tokens import Batch

Retrieve = Literal["question", "answer", "all"]


def pooled(model: HookedModel, batch: Batch, site: Site) -> Float[Tensor, "b d"]:
    """z = mean of the hidden states at a site over all tokens but padding (GUARD, Eq. 3)."""
    read = model.run(batch, read=[site], logits=None)
    x, mask = read.activations[site].detach().float(), read.tokens.mask[..., None]
    mask = mask.to(x.device)
    return torch.where(mask, x, 0.0).sum(1) / mask.sum(1).clamp_min(1)


@dataclass(frozen=True, eq=False)
class PromptGate:
    """An MLP on the standardised z: the share it gives to "forget" against a threshold."""

    mean: Float[Tensor, " d"]
    std: Float[Tensor, " d"]
    layers: tuple[tuple[Tensor, Tensor], ...]
    """Weight [out, in] and bias [out] of each layer, ReLU between them; the last has two outputs."""
    threshold: float = 0.5

    def standard(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return (z - self.mean.to(z)) / self.std.to(z)

    def log_odds(self, z: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """log p / (1 - p), p the softmax share of "forget"."""
        x = self.standard(z)
        for number, (weight, bias) in enumerate(self.layers):
            x = torch.nn.functional.linear(x.relu() if number else x, weight.to(x), bias.to(x))
        return x[:, 1] - x[:, 0]

    def opens(self, z: Float[Tensor, "b d"]) -> Bool[Tensor, " b"]:
        """Which prompts it takes for the concept's."""
        # in doubles a share may be as close to 1 as log odds of 36
        return self.log_odds(z).double().sigmoid() > self.threshold


@dataclass(frozen=True, eq=False)
class GuardRule(DecodingRule):
    """Penalised beam search on prompts that the gate takes, away from the stored answers nearest to the prompt.

    GUARD (arXiv 2505.13312). The forget set is kept and needed at inference, and so is what it says: a recipe of this
    edit gives away its answers to whoever reads it. Hashes of token sequences would not keep them: one token at a time
    they are guessed from a vocabulary, and the soft match needs vectors, whose nearest embeddings are the words.
    """

    site: Site
    gate: PromptGate
    answers: tuple[tuple[str, ...], ...]
    """Stored answers; each entry may have several spellings."""
    keys: Float[Tensor, "n d"]
    """What a prompt is compared with: the standardised z of each stored question (or answer), norm 1."""
    of: tuple[int, ...]
    """Which of `answers` each key leads to."""
    retrieve: Retrieve = "question"
    retrieved: int = 1
    """How many different answers are forbidden together."""
    beams: int = 7
    beta: float = 1.0
    delta: float | None = 0.5
    """Similarity from which a word is blocked; None: no soft match."""
    sbert: str = ""
    """Sentence-transformers model for the soft match; empty: the model's own input embeddings."""
    _known: dict[tuple[int, ...], Forbidden] = field(default_factory=dict, repr=False)
    _embed: list[Any] = field(default_factory=list, repr=False)

    kind: ClassVar[str] = "guard"
    gives_away: ClassVar[str] = "the answers that it keeps from being said"
    """What whoever reads a recipe of this edit learns."""

    def opens(self, model: HookedModel, batch: Batch) -> Bool[Tensor, " b"]:
        """Which prompts are decoded under the rule."""
        return self.gate.opens(pooled(model, batch, self.site))

    def settings_for(self, model: HookedModel, batch: Batch, stat: RuleStat) -> dict[str, Any]:
        """Beams and the penalties of each row's own answers."""
        if self.retrieve == "all":
            chosen = [tuple(range(len(self.answers)))] * batch.size
        else:
            with model.bare():
                chosen = self.nearest(pooled(model, batch, self.site))
        forbidden = [self._forbidden(model, some) for some in chosen]
        if not self._embed:
            self._embed.append(sbert_words(self.sbert) if self.sbert else lm_words(model))
        processor = WithoutForbidden(model, forbidden, self.beams, self.delta, self._embed[0], stat)
        return {
            "num_beams": self.beams,
            "num_return_sequences": 1,
            "logits_processor": LogitsProcessorList([processor]),
        }

    def nearest(self, z: Float[Tensor, "b d"]) -> list[tuple[int, ...]]:
        """The `retrieved` different answers whose keys have the largest cosine with each prompt."""
        query = torch.nn.functional.normalize(self.gate.standard(z), dim=-1)
        order = (query @ self.keys.to(query).T).argsort(dim=-1, descending=True)
        ranked = [dict.fromkeys(self.of[key] for key in row) for row in order.tolist()]
        return [tuple(sorted(list(some)[: self.retrieved])) for some in ranked]

    def _forbidden(self, model: HookedModel, chosen: tuple[int, ...]) -> Forbidden:
        if chosen not in self._known:
            texts = [text for number in chosen for text in self.answers[number]]
            self._known[chosen] = Forbidden.of(model, texts, self.beta)
        return self._known[chosen]

    def to_parts(self) -> Parts:
        """Settings and tensors, for a recipe: with the stored answers."""
        names = ("retrieve", "retrieved", "beams", "beta", "delta", "sbert")
        settings: dict[str, Any] = {name: getattr(self, name) for name in names}
        settings |= {"threshold": self.gate.threshold, "answers": [list(some) for some in self.answers]}
        tensors = {"keys": self.keys, "of": torch.tensor(self.of), "mean": self.gate.mean, "std": self.gate.std}
        for number, (weight, bias) in enumerate(self.gate.layers):
            tensors |= {f"layer.{number}.weight": weight, f"layer.{number}.bias": bias}
        return Parts(settings, tensors, self.site)

    @classmethod
    def from_parts(cls, parts: Parts) -> GuardRule:
        """The edit that `to_parts` wrote."""
        assert parts.site is not None
        s, t = dict(parts.settings), parts.tensors
        count = sum(name.endswith(".weight") for name in t)
        layers = tuple((t[f"layer.{number}.weight"], t[f"layer.{number}.bias"]) for number in range(count))
        gate = PromptGate(t["mean"], t["std"], layers, s.pop("threshold"))
        answers = tuple(map(tuple, s.pop("answers")))
        return cls(parts.site, gate, answers, t["keys"], tuple(t["of"].tolist()), **s)
