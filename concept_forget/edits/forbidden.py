"""Words that an answer may not contain: forbidden token sequences, words that mean the same, and beams without them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from concept_forget.edits.decoding import RuleStat

if TYPE_CHECKING:
    from concept_forget.model import HookedModel

VERDICTS = frozenset({"yes", "no", "true", "false"})
"""Forbidden as they are and never by likeness: next to "yes" embeddings have "no", and then nothing is left to say."""
Embed = Callable[[list[str]], Float[Tensor, "n d"]]
"""Vectors of norm 1 of some words."""


class Trie:
    """Forbidden token sequences, found as they are about to be completed.

    With `beta` < 1 a sequence counts as completed once beta of its length is matched: m >= beta, where m is the longest
    prefix of a forbidden sequence that ends what was generated, *over the length of that sequence*. (Over its own
    length, as in a public re-implementation, every match is whole and any first token of any phrase is blocked.)
    """

    def __init__(self, sequences: Iterable[Sequence[int]], beta: float = 1.0) -> None:
        if not 0 < beta <= 1:
            raise ValueError(f"beta={beta}: give the share of a forbidden sequence that may not be said, in (0, 1].")
        self.ends: dict[tuple[int, ...], set[int]] = {}
        """Last tokens by all that comes before them."""
        for sequence in sequences:
            # whoever says more than a share of a sequence has first said just that share
            said = sequence[: math.ceil(beta * len(sequence) - 1e-9)]
            if said:
                self.ends.setdefault(tuple(said[:-1]), set()).add(said[-1])
        self.depth = max(map(len, self.ends), default=0)

    def completing(self, ids: Sequence[int]) -> list[int]:
        """The tokens that would complete a forbidden sequence after these."""
        found: set[int] = set()
        for length in range(min(self.depth, len(ids)) + 1):
            found |= self.ends.get(tuple(ids[len(ids) - length :]), set())
        return sorted(found)


@dataclass(eq=False)
class Forbidden:
    """What one answer gives away: token sequences, and the content words behind them."""

    trie: Trie
    words: tuple[str, ...]
    """In lower case, without punctuation."""
    known: dict[str, float] = field(default_factory=dict)
    """Similarity of words looked at so far."""
    vectors: Float[Tensor, "n d"] | None = None
    """Of `words`, once they were needed."""

    @classmethod
    def of(cls, model: HookedModel, answers: Sequence[str], beta: float = 1.0) -> Forbidden:
        """Every content word of the answers and every whole answer, in each way the tokenizer writes them.

        Stop words are forbidden only as part of a whole answer: without them there is no fluent sentence.
        """
        found = [word for answer in answers for word in content_words(answer)]
        words = tuple(dict.fromkeys(word.casefold() for word in found if word.casefold() not in VERDICTS))
        phrases = dict.fromkeys([*answers, *found])
        spelled = [form for phrase in phrases for form in _forms(phrase)]
        ids = model.tokenizer(spelled, add_special_tokens=False)["input_ids"] if spelled else []
        return cls(Trie([sequence for sequence in ids if sequence], beta), words)

    def similarity(self, words: Sequence[str], embed: Embed) -> list[float]:
        """Of each word, the largest cosine with a forbidden one; 1 for a forbidden word, however it is spelled."""
        new = [word for word in dict.fromkeys(words) if word not in self.known]
        for word in new:
            bare = " ".join(re.findall(r"\w+", word.casefold()))
            self.known[word] = 1.0 if bare in self.words else 0.0
        unlike = [word for word in new if self.known[word] == 0.0 and re.search(r"\w", word)]
        if unlike and self.words:
            self.vectors = embed(list(self.words)) if self.vectors is None else self.vectors
            cosine = (embed(unlike) @ self.vectors.T).amax(1).clamp_min(0)
            self.known.update(zip(unlike, cosine.tolist(), strict=True))
        return [self.known[word] for word in words]


def content_words(text: str) -> list[str]:
    """The words of a text that are no stop words (scikit-learn's list)."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return [word for word in re.findall(r"\w+", text) if word.casefold() not in ENGLISH_STOP_WORDS]


def _forms(phrase: str) -> list[str]:
    cases = dict.fromkeys([phrase, phrase.lower(), phrase[:1].upper() + phrase[1:]])
    return [f"{space}{case}" for case in cases for space in (" ", "")]


def lm_words(model: HookedModel) -> Embed:
    """Words as the mean of the model's own input embeddings of their tokens, around the mean of the vocabulary."""
    table = model.model.get_input_embeddings().weight.detach()
    centre = table.float().mean(0)

    def embed(words: list[str]) -> Tensor:
        ids = model.tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
        rows = [table[torch.tensor(some or [0], device=table.device)].float().mean(0) - centre for some in ids]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)

    return embed


def sbert_words(name: str) -> Embed:
    """Words as a sentence-transformers model has them (the paper: all-MiniLM-L6-v2). Raises ValueError without it."""
    try:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"sbert={name!r} needs the package sentence-transformers, which is not installed. Install it, or leave "
            "sbert empty: then the model's own embeddings are compared."
        ) from error
    speaker: Any = SentenceTransformer(name)
    return lambda words: torch.as_tensor(speaker.encode(words, normalize_embeddings=True))


class WithoutForbidden(LogitsProcessor):
    """GUARD's beam cost: -log p(c | b) + P_token + P_soft, for each row's own forbidden words.

    P_token is inf for a token that completes a forbidden sequence, else 0. P_soft, of the 2B most likely tokens that
    are left of each beam, is s = the similarity of the word that the token makes, inf from `delta` on; other tokens are
    no candidates. With `delta` None there is no P_soft, and the beams are those of transformers' `bad_words_ids`.
    Where all candidates are blocked the one with the least s is taken, and counted.
    """

    def __init__(
        self,
        model: HookedModel,
        forbidden: Sequence[Forbidden],
        beams: int,
        delta: float | None,
        embed: Embed,
        stat: RuleStat,
    ) -> None:
        self.forbidden, self.beams, self.delta, self.embed, self.stat = forbidden, beams, delta, embed, stat
        self.tokenizer: Any = model.tokenizer
        self.special = set(self.tokenizer.all_special_ids)
        self.start: int | None = None

    def __call__(self, input_ids: Int[Tensor, "rows t"], scores: Float[Tensor, "rows v"]) -> Float[Tensor, "rows v"]:
        """The log-probabilities [rows x beams, vocabulary] less the penalties."""
        self.start = input_ids.shape[1] if self.start is None else self.start
        width = min(2 * self.beams, scores.shape[1])
        usual = scores.topk(width, dim=1).values[:, -1]
        said = input_ids.tolist()
        ends = [self.forbidden[row // self.beams].trie.completing(ids) for row, ids in enumerate(said)]
        at = [row for row, some in enumerate(ends) for _ in some], [token for some in ends for token in some]
        free = scores.index_put(tuple(map(torch.tensor, at)), scores.new_tensor(-torch.inf)) if at[0] else scores
        self.stat.blocked += int(((free != scores) & (scores >= usual[:, None])).sum())
        self.stat.tokens += len(said)
        if self.delta is None:
            return free
        values, tokens = free.topk(width, dim=1)
        alike = self._alike(input_ids[:, self.start :], tokens).to(values)
        left, blocked = values.isfinite(), alike >= self.delta
        cost = (values - alike).masked_fill(blocked, -torch.inf)
        self.stat.blocked += int((blocked & left).sum())
        stuck = ~cost.isfinite().any(1)
        least = alike.masked_fill(~left, torch.inf).argmin(1)
        cost[stuck, least[stuck]] = (values - alike)[stuck, least[stuck]]
        self.stat.forced += int(stuck.sum())
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, cost)

    def _alike(self, said: Int[Tensor, "rows t"], tokens: Int[Tensor, "rows k"]) -> Float[Tensor, "rows k"]:
        """How similar the word that each token makes is to what its row may not say."""
        (rows, width), words = tokens.shape, self._words(said[:, -16:], tokens)
        some = [words[width * row : width * (row + 1)] for row in range(rows)]
        return torch.tensor(
            [self.forbidden[row // self.beams].similarity(some[row], self.embed) for row in range(rows)]
        )

    def _words(self, said: Int[Tensor, "rows t"], tokens: Int[Tensor, "rows k"]) -> list[str]:
        """The last word with each token at its end; empty where the token is no word."""
        ends = torch.cat([said.repeat_interleave(tokens.shape[1], 0), tokens.reshape(-1, 1)], 1)
        texts = self.tokenizer.batch_decode(ends, clean_up_tokenization_spaces=False)
        found = []
        for token, text in zip(tokens.flatten().tolist(), texts, strict=True):
            last = re.search(r"\w+\W*$", text)
            found.append(last.group().strip() if last and token not in self.special else "")
        return found
