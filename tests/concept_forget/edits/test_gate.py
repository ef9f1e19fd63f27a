"""The image gate opens for the concept, rarely otherwise, and looks only where it may."""

import pytest
import torch

from concept_forget.directions import FeatureRows
from concept_forget.edits import ImageGate, fit_gate


def planted(n: int, shift: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3 == 0
    x = torch.randn(n, 6, generator=g) * torch.tensor([1.0, 100.0, 0.01, 1.0, 1.0, 0.0])
    x[:, 2] += labels * shift * 0.01
    return x, labels


def test_the_threshold_keeps_false_fires_at_the_stated_share_when_classes_overlap() -> None:
    train, validation = planted(600, 2.0, 0), planted(900, 2.0, 1)
    fit = fit_gate(*train, *validation, false_fire=0.05)
    assert 0.03 < fit.false_fire <= 0.05
    assert 0.5 < fit.recall < 1
    scores = validation[0] @ fit.weights
    assert float((scores[~validation[1]] > fit.threshold).float().mean()) == pytest.approx(fit.false_fire)
    assert float((scores[validation[1]] > fit.threshold).float().mean()) == pytest.approx(fit.recall)


def test_the_threshold_of_separate_classes_is_in_the_middle_of_the_margin() -> None:
    validation, labels = planted(300, 30.0, 1)
    fit = fit_gate(*planted(300, 30.0, 0), validation, labels)
    assert (fit.recall, fit.false_fire) == (1.0, 0.0)
    scores = validation @ fit.weights
    assert fit.threshold == pytest.approx(float(scores[labels].min() + scores[~labels].max()) / 2, rel=1e-4)


def test_labels_that_mean_nothing_give_no_recall() -> None:
    x, labels = planted(600, 0.0, 0)
    fit = fit_gate(x, labels, *planted(900, 0.0, 1), false_fire=0.01)
    assert fit.recall < 0.06


def test_a_split_with_one_class_only_is_refused() -> None:
    x, labels = planted(30, 1.0, 0)
    with pytest.raises(ValueError, match="validation pictures.*0 with and 30 without"):
        fit_gate(x, labels, x, torch.zeros(30, dtype=torch.bool))
    with pytest.raises(ValueError, match="training pictures.*30 with and 0 without"):
        fit_gate(x, torch.ones(30, dtype=torch.bool), x, labels)


def gate(token_threshold: torch.Tensor | None = None) -> ImageGate:
    """Open when the maximum of the first coordinate exceeds 1."""
    rows = FeatureRows(torch.eye(4)[:2], torch.zeros(2), torch.zeros(2), torch.eye(4)[:2])
    return ImageGate(rows, torch.tensor([0.0, 0.0, 1.0, 0.0]), 1.0, 1.0, 0.0, token_threshold)


def picture(*firsts: float) -> torch.Tensor:
    x = torch.zeros(1, len(firsts), 4)
    x[0, :, 0] = torch.tensor(firsts)
    return x


def test_the_gate_decides_each_row_alone_and_whole() -> None:
    x = torch.cat([picture(0, 0.5, 0.9), picture(0, 1.5, 0), picture(0, 0, 0)])
    assert gate().decide(x).tolist() == [[False] * 3, [True] * 3, [False] * 3]
    for row in range(3):
        assert torch.equal(gate().decide(x[row : row + 1])[0], gate().decide(x)[row])


def test_positions_that_may_not_be_edited_do_not_open_the_gate() -> None:
    x, eligible = picture(9, 0.5), torch.tensor([[False, True]])
    assert gate().decide(x).all()
    assert not gate().decide(x, eligible).any()
    assert torch.equal(ImageGate.features(gate().rows, x, eligible), ImageGate.features(gate().rows, x[:, 1:]))
    nothing = ImageGate.features(gate().rows, x, torch.zeros(1, 2, dtype=torch.bool))
    assert torch.equal(nothing, torch.zeros(1, 4))


def test_a_token_threshold_opens_only_the_firing_tokens_of_an_open_picture() -> None:
    x = torch.cat([picture(0.4, 2.0), picture(0.4, 0.9)])
    assert gate(torch.tensor([0.3, 5.0])).decide(x).tolist() == [[True, True], [False, False]]
    assert gate(torch.tensor([0.5, 5.0])).decide(x).tolist() == [[False, True], [False, False]]


def test_a_gate_on_plain_directions_sees_negative_projections() -> None:
    rows = ImageGate.directions(torch.eye(4)[:1])
    x = picture(-3.0, -1.0)
    assert ImageGate.features(rows, x).tolist() == [[-2.0, -1.0]]


def test_half_precision_decides_as_float32() -> None:
    x = picture(0.5, 1.5).bfloat16()
    assert torch.equal(gate().decide(x), gate().decide(x.float()))
