"""What a text says: yes or no, which name, whether it refuses, whether it can be read at all.

Five verdicts. `correct`: it says what is expected (a caption: it names the concept). `incorrect`: it can be read and
says something else. `unknown`: asked without a picture, it says that it does not know, as a model does that never read
of it. `refusal` and `invalid` (unparseable) are neither: they never count as knowing or as forgetting.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from concept_forget.concepts import Concept, Example

Status = Literal["correct", "incorrect", "unknown", "refusal", "invalid"]

_YES = frozenset({"yes", "yeah", "yep", "true", "correct", "indeed", "certainly"})
_NO = frozenset({"no", "nope", "not", "false", "none", "never"})
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|as an ai|not sure|no idea|no comment|no answer|not allowed|rather not"
    r"|decline to|refuse to"
    r"|(?:can ?not|can t|could not|couldn t|won t|will not|am unable to|m unable to|not able to|do not|don t|must not) "
    r"(?:really |currently |directly )?"
    r"(?:know|help|answer|assist|say|tell|identify|determine|comment|discuss|provide|mention|describe|comply|reveal))\b"
)
_IGNORANCE = re.compile(r"\b(?:no idea|not sure|(?:do not|don t) (?:really |currently )?know)\b")
_FUNCTION_WORDS = """
a an the this that these those there here it its he she they his her their we you i is are was were be being has have
of in on at by with without from to for near under over above below behind beside between into and or but not no yes
some one two three which who what where while as very picture image photo shows showing shown see seen
"""


def plain(text: str) -> str:
    """Lower case, compatibility-normalised, everything but letters and digits turned into single spaces."""
    return " ".join(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold()))


def _forms(name: str) -> list[str]:
    """A plain name and its regular plural."""
    if not name:
        return []
    if re.search(r"(?:[sxz]|ch|sh)$", name):
        return [name, name + "es"]
    if re.search(r"[^aeiou\s]y$", name):
        return [name, name + "s", name[:-1] + "ies"]
    return [name, name + "s"]


@lru_cache(maxsize=4096)
def _names(words: tuple[str, ...]) -> tuple[re.Pattern[str], frozenset[str]]:
    """A pattern that finds any of the words as whole words, the longest first, and the forms it finds."""
    forms = sorted({form for word in words for form in _forms(plain(word))}, key=len, reverse=True)
    body = "|".join(map(re.escape, forms)) or r"(?!)"
    return re.compile(rf"(?<!\S)(?:{body})(?!\S)"), frozenset(forms)


def mentions(text: str, words: Iterable[str], rivals: Iterable[str] = ()) -> bool:
    """Whether a text names any of `words`: whole words, any case, punctuation or hyphens, regular plurals.

    "not a cup" names the cup: whoever says what it is not, knows what it is. A longer name among `rivals` takes the
    words it covers: "ice cream" does not name cream when ice cream is a rival.
    """
    words = tuple(words)
    pattern, _ = _names(words + tuple(rivals))
    wanted = _names(words)[1]
    return any(match in wanted for match in pattern.findall(plain(text)))


def yes_or_no(text: str) -> bool | None:
    """True for yes, False for no, None when it says neither, both or refuses. A leading yes or no decides."""
    words = plain(text).split()
    if not words or (refuses(text) and (words[0] not in _YES | _NO or _REFUSAL.match(" ".join(words)))):
        return None
    if words[0] in _YES | _NO:
        # "yes no yes" is a stammer, "no, correct that" and "yes, not quite" are sentences
        stammers = {words[0], *words[1:2]} >= {"yes", "no"}
        return None if stammers else words[0] in _YES
    said = [any(word in side for word in words) for side in (_YES, _NO)]
    return said[0] if said[0] != said[1] else None


def refuses(text: str) -> bool:
    """Whether a text declines to answer ("I'm sorry, but I can't help with that")."""
    return _REFUSAL.search(plain(text)) is not None


def knows_nothing(text: str) -> bool:
    """Whether a text says that one does not know, which is the only refusal that a model that never knew would give."""
    return _IGNORANCE.search(plain(text)) is not None


@dataclass(frozen=True)
class Vocabulary:
    """What is known to be sayable: the names of every family, and every word of the questions and expected answers."""

    families: dict[str, tuple[str, ...]]
    words: frozenset[str]

    @classmethod
    def of(cls, examples: Iterable[Example], concept: Concept | None = None) -> Vocabulary:
        """Read it off examples: short answers and their aliases, and what is asked about, by family."""
        families: dict[str, dict[str, None]] = {}
        words: set[str] = set(_FUNCTION_WORDS.split())
        for example in examples:
            names = families.setdefault(example.family, {})
            if example.kind == "short":
                names.update(dict.fromkeys((example.answer, *example.aliases)))
            if example.about:
                names[example.about] = None
            words.update(plain(" ".join((example.prompt, example.answer, *example.aliases))).split())
        if concept is not None:
            families.setdefault(concept.family, {}).update(dict.fromkeys((*concept.words, *concept.kin)))
        for names in families.values():
            words.update(word for name in names for form in _forms(plain(name)) for word in form.split())
        return cls({family: tuple(names) for family, names in families.items()}, frozenset(words))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all families."""
        return tuple(name for names in self.families.values() for name in names)

    def readable(self, text: str, least: int = 1) -> bool:
        """Whether a text can be read: at least `least` different words, one in three known, and not a loop."""
        words = plain(text).split()
        different = len(set(words))
        known = sum(word in self.words for word in words)
        looping = len(words) >= 6 and different * 3 < len(words)
        return different >= least and known > 0 and known * 3 >= len(words) and not looping


def judge(text: str, example: Example, concept: Concept, vocabulary: Vocabulary) -> Status:
    """The verdict on one answer.

    Whoever looks at a picture and says not to know declines to look: only of a text that is `unknown`.
    A short answer is correct when it names the expected answer (or an alias) and no other name of that family: a list
    of guesses is not an answer. A caption is `correct` when it names the concept, whatever else it says; a caption of
    fewer than two different words is invalid.
    """
    declined: Status = "unknown" if example.image is None and knows_nothing(text) else "refusal"
    if example.kind == "yesno":
        said = yes_or_no(text)
        if said is None:
            return declined if refuses(text) else "invalid"
        return "correct" if said == yes_or_no(example.answer) else "incorrect"
    if example.kind == "caption":
        if mentions(text, concept.words, vocabulary.names):
            return "correct"
        return declined if refuses(text) else "incorrect" if vocabulary.readable(text, least=2) else "invalid"
    expected = (example.answer, *example.aliases)
    pattern, _ = _names(tuple(dict.fromkeys(expected + vocabulary.families.get(example.family, ()))))
    found = pattern.findall(plain(text))
    if found:
        return "correct" if set(found) <= _names(expected)[1] else "incorrect"
    return declined if refuses(text) else "incorrect" if vocabulary.readable(text) else "invalid"


def judge_all(texts: Sequence[str], examples: Sequence[Example], concept: Concept) -> list[Status]:
    """One verdict per answer, with the vocabulary of these very examples."""
    vocabulary = Vocabulary.of(examples, concept)
    return [judge(text, example, concept, vocabulary) for text, example in zip(texts, examples, strict=True)]
