"""The forbidden words: what completes a sequence, what means the same, and beams that avoid both."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from concept_forget.edits.decoding import RuleStat
from concept_forget.edits.forbidden import Forbidden, Trie, WithoutForbidden, content_words, lm_words, sbert_words
from concept_forget.sites import Site

sequences = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=6)


@given(sequences, st.lists(st.integers(0, 4), max_size=6))
def test_a_token_is_blocked_exactly_when_it_would_complete_a_sequence(forbidden, said):
    expected = {s[-1] for s in forbidden if said[len(said) - len(s) + 1 :] == s[:-1] and len(said) >= len(s) - 1}
    assert set(Trie(forbidden).completing(said)) == expected


def test_the_first_token_of_a_longer_phrase_is_free_at_beta_one_and_blocked_only_below():
    """A public re-implementation divides the match by its own length: there every first token was blocked."""
    phrase = [7, 8, 9, 10]
    assert Trie([phrase]).completing([1, 2]) == []
    assert Trie([phrase]).completing([7, 8, 9]) == [10]
    assert Trie([phrase], beta=0.5).completing([7]) == [8]
    assert Trie([phrase], beta=0.5).completing([1]) == []
    assert Trie([phrase], beta=0.25).completing([1]) == [7]
    with pytest.raises(ValueError, match="beta=0"):
        Trie([phrase], beta=0)


def test_stop_words_are_forbidden_within_a_whole_answer_only(tiny_llama):
    forbidden = Forbidden.of(tiny_llama, ["the small cup"])
    assert content_words("the small cup") == ["small", "cup"] and forbidden.words == ("small", "cup")

    def ends(said: str, word: str) -> bool:
        ids = tiny_llama.tokenizer(word, add_special_tokens=False)["input_ids"]
        before = tiny_llama.tokenizer(said, add_special_tokens=False)["input_ids"] + ids[:-1]
        return ids[-1] in forbidden.trie.completing(before)

    assert ends("it is", " cup") and ends("it is", " Cup") and ends("", "small")
    assert not ends("it is", " the")
    answer = Forbidden.of(tiny_llama, ["it is the"])
    assert answer.words == () and answer.trie.depth > 0


def test_words_are_as_similar_as_their_embeddings_and_equal_ones_however_they_are_spelled(tiny_llama):
    embed = lm_words(tiny_llama)
    vectors = embed(["cup", "tree"])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
    forbidden = Forbidden.of(tiny_llama, ["cup"])
    alike = forbidden.similarity(["cup", "CUP", "cup.", "tree", ""], embed)
    assert alike[:3] == [1.0, 1.0, 1.0] and alike[4] == 0.0
    assert alike[3] == pytest.approx(max(0.0, float(vectors[0] @ vectors[1])), abs=1e-5)


def test_yes_is_forbidden_itself_and_not_what_is_like_it(tiny_llama):
    """Next to "yes" embeddings have "no": with both blocked a yes/no question could not be answered at all."""
    forbidden = Forbidden.of(tiny_llama, ["yes"])
    assert forbidden.words == () and forbidden.similarity(["no", "yes"], lm_words(tiny_llama)) == [0.0, 0.0]
    *before, last = tiny_llama.tokenizer(" yes", add_special_tokens=False)["input_ids"]
    assert last in forbidden.trie.completing(before)


def beams(model, forbidden, prompts, delta, count=5, stat=None):
    stat = stat or RuleStat("x", Site("text", 0, "resid"))
    batch = model.prepare(prompts)
    processor = WithoutForbidden(model, [forbidden] * len(prompts), count, delta, lm_words(model), stat)
    settings = {"num_beams": count, "do_sample": False, "pad_token_id": 0, "max_new_tokens": 10}
    return model.model.generate(**batch.inputs, **settings, logits_processor=[processor]), batch, settings


@pytest.mark.parametrize("phrases", [["cup"], ["red cup", "blue", "tree is"], ["a", "o", "t"]])
def test_without_the_soft_match_the_beams_are_those_of_bad_words_ids(tiny_llama, phrases):
    prompts = ["the cup is red .", "what colour is the small cup ?"]
    ids = [tiny_llama.tokenizer(text, add_special_tokens=False)["input_ids"] for text in phrases]
    usual, batch, settings = beams(tiny_llama, Forbidden(Trie([]), ()), prompts, None)
    said = usual[:, batch.inputs["input_ids"].shape[1] :]
    # forbid what is really said too: a pair of tokens out of the middle, and a single one
    ids += [said[0, 2:4].tolist(), said[1, 1:2].tolist()]
    ours, batch, settings = beams(tiny_llama, Forbidden(Trie(ids), ()), prompts, None)
    theirs = tiny_llama.model.generate(**batch.inputs, **settings, bad_words_ids=ids)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, usual)


def test_the_soft_match_blocks_a_word_in_every_spelling_and_counts(tiny_llama):
    prompts = ["the cup is red ."]
    usual, batch, _ = beams(tiny_llama, Forbidden(Trie([]), ()), prompts, None)
    length = batch.inputs["input_ids"].shape[1]
    text = tiny_llama.tokenizer.decode(usual[0, length:])
    word = max(content_words(text) or ["cup"], key=len).casefold()
    stat = RuleStat("x", Site("text", 0, "resid"))
    softly, _, _ = beams(tiny_llama, Forbidden(Trie([]), (word,)), prompts, 0.99, stat=stat)
    assert word not in [w.casefold() for w in content_words(tiny_llama.tokenizer.decode(softly[0, length:]))]
    assert stat.blocked > 0 and stat.tokens == 50 and stat.forced == 0


def test_where_every_candidate_is_blocked_the_least_penalised_is_taken_and_counted(tiny_llama):
    stat = RuleStat("x", Site("text", 0, "resid"))
    forbidden = Forbidden(Trie([[5]]), ("cup",))
    processor = WithoutForbidden(tiny_llama, [forbidden], 1, 0.0, lm_words(tiny_llama), stat)
    scores = torch.full((1, len(tiny_llama.tokenizer)), -30.0)
    scores[0, 5], scores[0, 20], scores[0, 21] = -0.1, -0.5, -1.0
    nothing, two = torch.zeros(1, 0, dtype=torch.long), torch.tensor([[20, 21]])
    forbidden.known.update(zip(processor._words(nothing, two), (0.9, 0.4), strict=True))
    chosen = processor(torch.tensor([[1, 2, 3]]), scores)
    assert int(chosen.argmax()) == 21 and int(chosen.isfinite().sum()) == 1
    assert float(chosen.max()) == pytest.approx(-1.4)
    assert stat.forced == 1


def test_each_row_of_a_batch_has_its_own_forbidden_tokens_and_words(tiny_llama):
    lists = [Forbidden(Trie([[5]]), ("cup",)), Forbidden(Trie([[6]]), ())]
    processor = WithoutForbidden(
        tiny_llama, lists, 2, 0.5, lm_words(tiny_llama), RuleStat("x", Site("text", 0, "resid"))
    )
    scores = torch.full((4, len(tiny_llama.tokenizer)), -30.0)
    scores[:, [5, 6, 20, 21]] = torch.tensor([-0.1, -0.2, -0.3, -0.4])
    words = processor._words(torch.zeros(1, 0, dtype=torch.long), torch.tensor([[5, 6, 20, 21]]))
    for forbidden, blocked in zip(lists, (20, 21), strict=True):
        likeness = {5: 0.0, 6: 0.0, 20: 0.0, 21: 0.0} | {blocked: 0.9}
        forbidden.known.update(zip(words, likeness.values(), strict=True))
    left = processor(torch.full((4, 1), 2), scores)[:, [5, 6, 20, 21]].isfinite().tolist()
    first, second = [False, True, False, True], [True, False, True, False]
    assert left == [first, first, second, second]


def test_sentence_transformers_are_asked_for_only_when_named(monkeypatch):
    import sys
    import types

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match="not installed"):
        sbert_words("all-MiniLM-L6-v2")

    class Speaker:
        def __init__(self, name):
            self.name = name

        def encode(self, words, normalize_embeddings):
            assert normalize_embeddings and self.name == "some"
            return torch.eye(4)[: len(words)].numpy()

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Speaker))
    assert torch.equal(sbert_words("some")(["a", "b"]), torch.eye(4)[:2])
