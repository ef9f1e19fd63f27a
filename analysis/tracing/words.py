"""Where words of a prompt stand among its tokens."""

from __future__ import annotations

import re

import torch
from jaxtyping import Int
from torch import Tensor

from concept_forget.model import HookedModel
from concept_forget.tokens import Batch


class SubjectNotFound(LookupError):
    """The words to be spoilt do not occur in the prompt."""


def occurrence(prompt: str, words: str) -> tuple[int, int]:
    """The first place of whole words in a prompt, case ignored. Raises SubjectNotFound."""
    if not words.strip():
        raise SubjectNotFound(
            f"No subject was given for {prompt!r}. Say which of its words are to be spoilt, or spoil the picture."
        )
    found = re.search(rf"(?<!\w){re.escape(words.strip())}(?!\w)", prompt, re.IGNORECASE)
    if found is None:
        raise SubjectNotFound(f"{words!r} does not occur in the prompt {prompt!r}. Give words that stand in it.")
    return found.span()


def replaced(prompt: str, words: str, others: str) -> str:
    """The prompt with the first occurrence of some words replaced."""
    start, end = occurrence(prompt, words)
    return prompt[:start] + others.strip() + prompt[end:]


def token_positions(model: HookedModel, batch: Batch, prompt: str, words: str) -> Int[Tensor, " n"]:
    """Positions of the tokens that spell the first occurrence of `words` in the user's prompt, in a batch of one.

    Found by decoding longer and longer beginnings of the text, so it holds for any tokenizer and chat template.
    """
    before, _ = occurrence(prompt, words)
    where = batch.tokens.text_mask[0].nonzero()[:, 0]
    ids = batch.inputs["input_ids"][0, where].tolist()
    texts = [
        model.tokenizer.decode(ids[:n], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for n in range(len(ids) + 1)
    ]
    # The template may itself hold the words: count from where the user's own text begins.
    start = max(texts[-1].find(prompt.strip()), 0) + (before if prompt.strip() in texts[-1] else 0)
    start = max(start - (len(prompt) - len(prompt.lstrip())), 0)
    found = re.compile(rf"(?<!\w){re.escape(words.strip())}(?!\w)", re.IGNORECASE).search(texts[-1], start)
    if found is None:
        raise SubjectNotFound(f"The tokenizer of {model.name} does not write {words!r} back as it reads it.")
    inside = [n for n in range(len(ids)) if len(texts[n + 1]) > found.start() and len(texts[n]) < found.end()]
    return where[torch.tensor(inside, device=where.device)]


def first_token(model: HookedModel, answer: str) -> int:
    """The token an answer begins with, written behind a prompt as `HookedModel.prepare` writes it."""
    ids = model.tokenizer(f" {answer.strip()}", add_special_tokens=False)["input_ids"]
    said = [token for token in ids if model.tokenizer.decode([token]).strip()]
    if not said:
        raise ValueError(f"{answer!r} is no answer: the tokenizer of {model.name} makes nothing of it.")
    return said[0]
