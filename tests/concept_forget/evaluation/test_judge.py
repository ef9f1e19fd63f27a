import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.evaluation.judge import Vocabulary, judge, mentions, plain, refuses, yes_or_no

NOTHING = ExampleSet((), (), ())
CUP = Concept("cup", "objects", NOTHING, NOTHING, NOTHING, aliases=("mug",))
EXAMPLES = [
    Example("What object is it?", "cup", aliases=("mug",), about="cup", family="objects"),
    Example("What object is it?", "ice cream", about="ice cream", family="objects"),
    Example("What colour is it?", "cream", about="cream", family="colours"),
    Example("What colour is it?", "red", about="red", family="colours"),
    Example("Describe the picture.", "a red cup on a wooden table", kind="caption"),
]
WORDS = Vocabulary.of(EXAMPLES, CUP)
name = st.text(string.ascii_lowercase, min_size=1, max_size=8)
punctuation = st.text(" .,;:!?\"'()\n\t-", max_size=4)


@pytest.mark.parametrize("text", ["scared", "cart", "a vicar", "cards", "carfax", "oscar"])
def test_a_name_inside_a_longer_word_is_not_named(text):
    assert not mentions(text, ["car"])


@pytest.mark.parametrize("text", ["A CAR!", "two cars", "car's wheel", "the (car)", "sports-car", "not a car", "car\n"])
def test_a_name_is_found_in_any_case_with_punctuation_plural_and_even_when_denied(text):
    assert mentions(text, ["car"])


@given(name, punctuation, punctuation)
def test_a_word_is_named_exactly_when_it_stands_alone(word, before, after):
    assert mentions(f"x {before}{word.upper()}{after} y", [word])
    assert not mentions(f"q{word}q", [word])
    assert not mentions(f"{word}q {before} q{word}", [word])


@pytest.mark.parametrize(
    ("word", "plural"), [("cup", "cups"), ("box", "boxes"), ("brush", "brushes"), ("berry", "berries")]
)
def test_regular_plurals_name_the_thing(word, plural):
    assert mentions(f"two {plural}.", [word])
    assert not mentions(f"two {word}ing", [word])


@given(st.lists(name, min_size=1, max_size=4), st.text(max_size=30))
def test_aliases_only_add_and_never_take_away(words, text):
    assert mentions(text, words) == any(mentions(text, [word]) for word in words)


@given(st.text(max_size=40))
def test_plain_is_idempotent(text):
    assert plain(plain(text)) == plain(text)


def test_a_longer_rival_takes_the_words_it_covers():
    assert mentions("a bowl of ice cream", ["cream"])
    assert not mentions("a bowl of ice cream", ["cream"], rivals=["ice cream"])
    assert mentions("cream-coloured ice cream", ["cream"], rivals=["ice cream"])


@pytest.mark.parametrize("text", ["yes", "Yes.", "YES, there is", "yeah", "I would say yes", "yes it is not small"])
def test_yes_is_read_as_yes(text):
    assert yes_or_no(text) is True


@pytest.mark.parametrize("text", ["no", "No!", "no, I cannot see a cup", "there is not", "Nope", "not really"])
def test_no_is_read_as_no(text):
    assert yes_or_no(text) is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "cup",
        "yes no yes",
        "no yes",
        "no idea",
        "I'm sorry, I cannot answer",
        "I do not know",
        "??",
        "nothing",
    ],
)
def test_what_is_neither_yes_nor_no_is_not_guessed(text):
    assert yes_or_no(text) is None


@pytest.mark.parametrize(
    "text",
    ["I'm sorry, but I can't help with that.", "I cannot identify this.", "As an AI, no", "I don’t know", "not sure"],
)
def test_refusals_are_recognised(text):
    assert refuses(text.replace("’", "'"))


@pytest.mark.parametrize("text", ["a can of soup and a helper", "I can see a cup", "a tin can't-touch-this sign"])
def test_plain_statements_are_not_refusals(text):
    assert not refuses(text)


def verdict(text, kind="short", answer="cup", **more):
    example = Example("What is it?", answer, kind=kind, about="cup", family="objects", **more)
    return judge(text, example, CUP, WORDS)


def test_short_answers_are_judged_by_the_name_they_give():
    assert verdict("a cup") == "correct"
    assert verdict("It is a red Mug.", aliases=("mug",)) == "correct"
    assert verdict("ice cream") == "incorrect"
    assert verdict("cup or ice cream") == "incorrect", "a list of guesses is not an answer"
    assert verdict("the red") == "incorrect"
    assert verdict("I cannot say") == "refusal"
    assert verdict("") == verdict("zxq wvv") == verdict("?!") == "invalid"


def test_longest_name_wins_in_a_short_answer():
    example = Example("What is it?", "cream", family="desserts")
    words = Vocabulary.of([example, Example("What is it?", "ice cream", family="desserts")])
    assert judge("ice cream", example, CUP, words) == "incorrect"
    assert judge("cream", example, CUP, words) == "correct"


def test_yes_no_answers_are_judged_against_what_is_expected():
    assert verdict("yes", "yesno", "yes") == verdict("No.", "yesno", "no") == "correct"
    assert verdict("no", "yesno", "yes") == "incorrect"
    assert verdict("I'm sorry", "yesno", "yes") == "refusal"
    assert verdict("cup cup", "yesno", "yes") == "invalid"


def test_a_caption_reveals_the_concept_even_when_it_denies_it():
    assert verdict("there is not a cup here", "caption") == "correct"
    assert verdict("two mugs", "caption") == "correct"
    assert verdict("I'm sorry, I can't describe the cup", "caption") == "correct"


def test_whoever_reads_may_not_know_but_whoever_looks_declines():
    for kind, answer in (("short", "cup"), ("yesno", "yes"), ("caption", "a cup")):
        assert verdict("I don't know.", kind, answer) == "unknown"
        assert verdict("I don't know.", kind, answer, image=Image.new("RGB", (8, 8))) == "refusal"
        assert verdict("I can't tell you that", kind, answer) == "refusal"


def test_the_name_of_another_of_the_family_can_be_read():
    concept = replace(CUP, kin=("Zoe Brill",))
    example = Example("Who is it?", "", kind="caption")
    assert judge("Zoe Brill", example, concept, Vocabulary.of([example], concept)) == "incorrect"
    assert judge("Zoe Brill", example, CUP, Vocabulary.of([example], CUP)) == "invalid"


def test_gibberish_is_not_forgetting():
    assert verdict("a red table", "caption") == "incorrect"
    for text in ("", "red", "red red red", "xq zzv brt", "a a on a on a a on a", "the gfx bnq wkl ptr"):
        assert verdict(text, "caption") == "invalid", text
    assert verdict("I'm sorry, I can't help with that", "caption") == "refusal"
