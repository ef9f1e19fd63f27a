"""Many gates judged together decide as each does alone, and many edits behind them do what each does alone."""

from __future__ import annotations

import pytest
import torch

from concept_forget.directions import FeatureRows
from concept_forget.edits import Action, FeatureClamp, ImageGate, ShareGate, Shift, Sum
from concept_forget.edits.gate_bank import GateBank, merged
from concept_forget.sites import Site

SITE, D = Site("vision", 2, "resid"), 24


def rows_of(features):
    g = torch.Generator().manual_seed(0)
    encoder, bias, decoder = (
        torch.randn(40, D, generator=g),
        torch.randn(40, generator=g),
        torch.randn(40, D, generator=g),
    )
    some = torch.tensor(features)
    return FeatureRows(encoder[some], bias[some], torch.zeros(len(some)), decoder[some])


def gate(number, threshold=0.0):
    g = torch.Generator().manual_seed(number)
    features = torch.randperm(40, generator=g)[:5].tolist()
    return ImageGate(rows_of(features), torch.randn(10, generator=g), threshold, 1.0, 0.0)


def activations(n=7):
    return torch.randn(n, 9, D, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("padded", [False, True])
def test_a_bank_decides_what_its_gates_decide(padded):
    gates, x = [gate(number, 0.3 * number - 1) for number in range(8)], activations()
    eligible = torch.rand(7, 9, generator=torch.Generator().manual_seed(4)) > 0.4 if padded else None
    alone = torch.stack([one.decide(x, eligible)[:, 0] for one in gates], 1)
    assert 5 < alone.sum() < alone.numel() - 5
    bank = GateBank.among(gates)
    assert bank is not None and bank.numbers == tuple(range(8))
    assert torch.equal(bank.decide(x, eligible), alone)


def test_features_that_several_look_at_are_read_once():
    rows, places = merged([rows_of([1, 2, 3]), rows_of([3, 7]), rows_of([7, 7])])
    assert len(rows.bias) == 4
    assert [place.tolist() for place in places] == [[0, 1, 2], [2, 3], [3, 3]]
    twice = ImageGate(rows_of([7, 7]), torch.tensor([0.5, 1.0, 2.0, -1.0]), 0.1, 1.0, 0.0)
    x = activations()
    assert torch.equal(GateBank.among([twice, gate(1)]).decide(x)[:, 0], twice.decide(x)[:, 0])


def test_only_gates_that_judge_a_picture_by_means_and_maxima_are_banked():
    plain = gate(0)
    parts = (plain.rows, plain.weights, 0.0, 1.0, 0.0, torch.zeros(5))
    found = GateBank.among([None, plain, ImageGate(*parts), ShareGate(*parts), plain])
    assert found is not None and found.numbers == (1, 4)
    assert GateBank.among([plain, ImageGate(*parts), None]) is None


def test_many_gated_edits_at_once_do_what_each_does_by_itself(tiny_llava, picture):
    """A clamp of features of its own, multiplied, limited, another kind of edit and one without a gate."""
    site = tiny_llava.reading_site
    gates = [gate(number) for number in range(4)]
    edits = [
        FeatureClamp(site, rows_of([0, 1, 2]), Action.scale(-1.0), gates[0]),
        FeatureClamp(site, rows_of([3, 4]), Action(), gates[1]),
        FeatureClamp(site, rows_of([5, 6]), Action.limit(torch.tensor([0.1, 0.2])), gates[2]),
        Shift(site, torch.randn(D, generator=torch.Generator().manual_seed(1)), gates[3]),
        FeatureClamp(site, rows_of([8]), Action.scale(-2.0)),
    ]
    pictures = [picture(number) for number in range(6)]
    batch = tiny_llava.prepare(["what is shown here ?"] * 6, pictures)

    def read(some):
        return tiny_llava.run(batch, read=[site], edits=some).activations[site]

    bare = read([])
    opened = torch.stack([one.decide(bare)[:, 0] for one in gates])
    assert opened.any() and not opened.all()
    alone = sum(read([edit]) - bare for edit in edits)
    together = read([Sum(tuple(edits))])
    assert torch.allclose(together - bare, alone, atol=1e-4)
    assert torch.equal(read([Sum(tuple(reversed(edits)))]), together)


def test_of_a_shared_feature_the_larger_multiple_counts_only_where_its_gate_is_open():
    opened = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    edits = [FeatureClamp(SITE, rows_of([1, 2]), Action.scale(gamma)) for gamma in (0.5, -3.0)]
    both, x = Sum(tuple(edits)), activations(4)
    inside = {i: opened[:, [edits.index(edit)]].expand(4, 9) for i, edit in enumerate(both.edits)}
    new = both.summed(x, inside)
    mild, strong = (edit.transform(x) for edit in edits)
    wanted = torch.stack([strong[0], mild[1], strong[2], x[3]])
    assert torch.allclose(new, wanted, atol=1e-4)
    assert torch.equal(new[3], x[3])
