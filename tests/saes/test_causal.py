import pytest
import torch
from PIL import Image
from torch.nn.functional import kl_div

from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.directions import FeatureRows, FeatureSet
from concept_forget.edits.clamp import FeatureClamp
from concept_forget.sites import Site
from concept_forget.teacher import forced, told
from saes.causal import ablate, attribute, causal_rerank, examples_of

PLACES = [
    ("tiny_llava", Site("vision", 2, "resid")),
    ("tiny_llava", Site("text", 1, "resid")),
    ("tiny_mllama", Site("projector", None, "in")),
    ("tiny_llama", Site("text", 2, "mlp")),
    ("tiny_gpt2", Site("text", 1, "resid")),
]


@pytest.fixture(params=PLACES, ids=lambda place: f"{place[0]}-{place[1]}")
def place(request):
    return request.getfixturevalue(request.param[0]), request.param[1]


def examples(pictures: bool, n: int = 3) -> list[Example]:
    pixels = torch.randint(0, 256, (n, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = [Image.fromarray(one.numpy()) if pictures else None for one in pixels]
    answers = ["a red cup", "yes", "no .", "is there a star ?"]
    return [Example(f"question {i} ?", answers[i % 4], image=images[i], group=f"g{i}") for i in range(n)]


def some_rows(d: int, k: int, size: float, seed: int = 0) -> FeatureRows:
    """k features that fire on about half the tokens and write directions of norm `size`."""
    g = torch.Generator().manual_seed(seed)
    decoder = torch.nn.functional.normalize(torch.randn(k, d, generator=g), dim=1) * size
    return FeatureRows(torch.randn(k, d, generator=g) / d**0.5, torch.zeros(k), torch.zeros(k), decoder)


def features(site: Site, rows: FeatureRows) -> FeatureSet:
    k = len(rows.bias)
    return FeatureSet(
        site, torch.arange(100, 100 + k), torch.zeros(k), rows, *(torch.arange(k).float() for _ in range(3))
    )


def test_for_small_features_the_first_order_effect_is_the_exact_one(place):
    model, site = place
    asked, rows = examples(model.has_vision), some_rows(model.width(site), 6, size=1e-2)
    first_order = attribute(model, site, rows, asked, batch_size=2)
    exact, _ = ablate(model, site, rows, asked, batch_size=9)
    assert first_order.abs().max() > 1e-5
    assert torch.corrcoef(torch.stack([first_order.flatten(), exact.flatten()]))[0, 1] > 0.97
    assert (first_order - exact).abs().max() < 0.2 * first_order.abs().max()


@pytest.mark.parametrize("batch_size", [2, 4, 64])
def test_ablating_in_one_batch_equals_clamping_one_feature_at_a_time(place, batch_size):
    model, site = place
    asked, rows = examples(model.has_vision, 2), some_rows(model.width(site), 4, size=2.0)
    fall, kl = ablate(model, site, rows, asked, batch_size)
    for i, example in enumerate(asked):
        batch = forced(model, [example])
        clean = told(model.run(batch, logits="all").logits, batch)
        for k in range(4):
            edit = FeatureClamp(site, FeatureRows(*(part[[k]] for part in rows)))
            edited = told(model.run(batch, edits=[edit], logits="all").logits, batch)
            torch.testing.assert_close(fall[i, k], (clean.total - edited.total)[0], atol=2e-4, rtol=1e-3)
            torch.testing.assert_close(
                kl[i, k],
                kl_div(*(x.logits.log_softmax(-1) for x in (edited, clean)), log_target=True, reduction="sum"),
                atol=2e-4,
                rtol=1e-3,
            )
    assert kl.max() > 2e-3


def test_attribution_does_not_depend_on_the_batch_nor_leave_gradients(tiny_llava):
    site = Site("vision", 2, "resid")
    asked, rows = examples(True), some_rows(24, 5, size=1.0)
    together, apart = (attribute(tiny_llava, site, rows, asked, batch_size=n) for n in (3, 1))
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-3)
    assert all(parameter.grad is None for parameter in tiny_llava.model.parameters())


def test_reranking_puts_first_what_lowers_the_target_and_spares_the_rest(tiny_llava):
    site = Site("vision", 2, "resid")
    asked = examples(True, 4)
    target, keep, rows = asked[:2], asked[2:], some_rows(24, 8, size=1.0)
    found = causal_rerank(tiny_llava, features(site, rows), target, keep)
    fall = attribute(tiny_llava, site, rows, target).mean(0)
    cost = attribute(tiny_llava, site, rows, keep).abs().mean(0)
    expected = fall / (cost + cost.mean())
    order = expected.argsort(descending=True)
    assert found.indices.tolist() == (order + 100).tolist()
    torch.testing.assert_close(found.scores, expected[order])
    assert torch.equal(found.rows.decoder, rows.decoder[order])
    assert found.forget_mean.tolist() == order.tolist()
    bold = causal_rerank(tiny_llava, features(site, rows), target, [], caution=0.0)
    assert bold.indices.tolist() == (fall.argsort(descending=True) + 100).tolist()


def test_verified_candidates_are_ordered_by_exact_effect(tiny_llava):
    site = Site("vision", 2, "resid")
    asked = examples(True, 4)
    rows = some_rows(24, 8, size=3.0)
    seen = []
    found = causal_rerank(
        tiny_llava,
        features(site, rows),
        asked[:2],
        asked[2:],
        verify=4,
        progress=lambda done, total: seen.append((done, total)),
    )
    fall, cost = (
        ablate(tiny_llava, site, rows, asked[:2])[0].mean(0),
        ablate(tiny_llava, site, rows, asked[2:])[1].mean(0),
    )
    chosen = found.indices - 100
    expected = fall[chosen] / (cost[chosen] + cost[chosen].mean())
    torch.testing.assert_close(found.scores, expected, atol=1e-3, rtol=1e-2)
    assert len(chosen) == 4
    assert (found.scores.diff() <= 0).all()
    assert seen[-1] == (4, 4)


def test_a_feature_without_effect_has_none(tiny_llama):
    site = Site("text", 1, "resid")
    rows = some_rows(32, 2, size=1.0)
    rows = rows._replace(decoder=rows.decoder * torch.tensor([[1.0], [0.0]]))
    fall, kl = ablate(tiny_llama, site, rows, examples(False))
    assert (fall[:, 1] == 0).all() and (kl[:, 1] == 0).all()
    assert (kl[:, 0] > 0).all()
    assert (attribute(tiny_llama, site, rows, examples(False))[:, 1] == 0).all()


def test_examples_without_answer_or_none_at_all_are_refused(tiny_llama):
    site = Site("text", 1, "resid")
    with pytest.raises(ValueError, match="1 of 1 examples have no answer"):
        attribute(tiny_llama, site, some_rows(32, 2, 1.0), [Example("?", "")])
    with pytest.raises(ValueError, match="needs target and kept examples"):
        causal_rerank(tiny_llama, features(site, some_rows(32, 2, 1.0)), [], [])


def test_examples_of_a_concept_ask_about_it_and_about_everything_else():
    def asked(group: str, about: str, family: str, shows: set[str], kind="yesno") -> Example:
        return Example("?", "yes", kind=kind, about=about, family=family, shows=frozenset(shows), group=group)

    both = {"star", "red"}
    forget = [
        asked(f"f{i}", about, family, both)
        for i in range(5)
        for about, family in (("star", "shape"), ("red", "colour"))
    ]
    forget += [asked("f0", "", "", both, kind="caption")]
    near = [asked(f"n{i}", "cup", "shape", {"cup"}) for i in range(5)]
    retain = [asked(f"r{i}", "blue", "colour", {"blue"}) for i in range(5)]
    part = ExampleSet(tuple(forget), tuple(near), tuple(retain))
    concept = Concept("star", "shape", part, part, part)
    target, keep = examples_of(concept, count=6, seed=1)
    assert {example.about for example in target} == {"star"}
    assert len({example.group for example in target}) == 5
    assert sorted(example.about for example in keep) == ["blue", "blue", "cup", "cup", "red", "red"]
    captions = ExampleSet((forget[-1],), (), tuple(retain))
    assert examples_of(Concept("star", "shape", captions, part, part))[0] == [forget[-1]]
    with pytest.raises(ValueError, match="'star'"):
        examples_of(Concept("star", "shape", ExampleSet((), (), tuple(retain)), part, part))
