import pytest
import torch
from torch.nn.functional import normalize

from concept_forget.sites import Site
from saes.store import ActivationStore, Cancelled, Rows
from saes.train import TrainSettings, geometric_median, l1_coefficient, train

SITE = Site("vision", 1, "resid")
QUICK = TrainSettings(expansion=4, k=2, steps=400, batch=256, lr=3e-3)


@pytest.fixture(scope="module")
def sparse() -> tuple[ActivationStore, torch.Tensor, torch.Tensor]:
    """Sparse sums of 24 planted directions in 16 dimensions, far from the origin: store, rows, directions."""
    g = torch.Generator().manual_seed(0)
    directions = normalize(torch.randn(24, 16, generator=g), dim=1)
    z = (torch.rand(8000, 24, generator=g) < 2 / 24) * (0.5 + torch.rand(8000, 24, generator=g))
    x = 5 * (z @ directions) + 20 + 0.05 * torch.randn(8000, 16, generator=g)
    numbers = torch.zeros(8000, dtype=torch.int32)
    rows = Rows(x, numbers, numbers, numbers.to(torch.uint8))
    return ActivationStore(SITE, ["all"], [frozenset()], [rows]), x, directions


def explained(dictionary, x) -> float:
    x_hat = dictionary.decode(dictionary.encode(x))
    return float(1 - (x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka"])
def test_the_planted_dictionary_is_recovered(sparse, architecture):
    store, x, directions = sparse
    dictionary = train(store, TrainSettings(architecture, expansion=4, k=2, steps=400, batch=256, lr=3e-3))
    best = (directions @ normalize(dictionary.decoder, dim=1).T).amax(1)
    untrained = (directions @ normalize(torch.randn(64, 16), dim=1).T).amax(1)
    assert best.mean() > 0.9 > untrained.mean() + 0.2
    assert explained(dictionary, x) > 0.8
    assert 1 < float((dictionary.encode(x) > 0).float().sum(1).mean()) < 4
    torch.testing.assert_close(dictionary.decoder.norm(dim=1), torch.ones(64))


def test_relu_with_l1_reconstructs_and_a_larger_penalty_is_sparser(sparse):
    store, x, _ = sparse
    low, high = (
        train(store, TrainSettings.sauce(expansion=4, l1=l1, steps=300, batch=256, lr=3e-3)) for l1 in (1e-4, 1e-2)
    )
    counts = [float((dictionary.encode(x) > 0).float().sum(1).mean()) for dictionary in (low, high)]
    assert explained(low, x) > 0.8
    assert counts[1] < counts[0] / 2
    assert not low.rows(torch.arange(64)).threshold.any()


def test_the_same_seed_gives_the_same_dictionary_and_leaves_the_random_state_alone(sparse):
    store, x, _ = sparse
    quick = TrainSettings(expansion=2, k=2, steps=20, batch=64)
    state = torch.random.get_rng_state()
    one = train(store, quick)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(train(store, quick).encode(x), one.encode(x))
    other = train(store, TrainSettings(expansion=2, k=2, steps=20, batch=64, seed=1))
    assert not torch.equal(other.encode(x), one.encode(x))


def test_training_reports_each_step_and_stops_when_asked(sparse):
    seen = []
    with pytest.raises(Cancelled, match="after 3 of 400"):
        train(
            sparse[0], QUICK, progress=lambda done, total: seen.append((done, total)), cancelled=lambda: len(seen) == 3
        )
    assert seen == [(1, 400), (2, 400), (3, 400)]


def test_too_few_rows_and_impossible_settings_are_refused(sparse):
    with pytest.raises(ValueError, match="8000 activations are less than one batch of 9000"):
        train(sparse[0], TrainSettings(batch=9000))
    with pytest.raises(ValueError, match="batchtopk, matryoshka or relu"):
        TrainSettings("topk")
    with pytest.raises(ValueError, match="k=0"):
        TrainSettings(k=0)
    with pytest.raises(ValueError, match="k=99 features of 16"):
        train(sparse[0], TrainSettings(expansion=1, k=99, steps=1, batch=64))


def test_the_geometric_median_ignores_a_far_outlier():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1e4, 1e4]])
    assert geometric_median(points).norm() < 2 < points.mean(0).norm()
    square = points[:4]
    torch.testing.assert_close(geometric_median(square), torch.tensor([0.5, 0.5]))


def test_the_l1_weight_means_what_it_meant_in_the_reproduction():
    g = torch.Generator().manual_seed(0)
    d = 9
    x = normalize(torch.randn(50, d, generator=g), dim=1) * d**0.5
    x_hat, z = x + 0.1 * torch.randn(50, d, generator=g), torch.rand(50, 20, generator=g)
    theirs = ((x - x_hat) ** 2 / x.norm(dim=1, keepdim=True)).mean() + 8e-5 * z.sum(1).mean()
    ours = (x - x_hat).square().sum(1).mean() + l1_coefficient(8e-5, d) * z.sum(1).mean()
    torch.testing.assert_close(ours, theirs * d * d**0.5)
