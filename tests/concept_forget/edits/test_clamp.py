"""The algebra of the feature clamp."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concept_forget.directions import FeatureRows
from concept_forget.edits import Action, FeatureClamp, RowsDictionary
from concept_forget.sites import Site

SITE = Site("vision", 1, "resid")
quick = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 10_000)


def dictionary(seed: int, d: int = 12, f: int = 40, jump: bool = False) -> RowsDictionary:
    g = torch.Generator().manual_seed(seed)
    threshold = torch.rand(f, generator=g) if jump else torch.zeros(f)
    rows = FeatureRows(
        torch.randn(f, d, generator=g), torch.randn(f, generator=g), threshold, torch.randn(f, d, generator=g)
    )
    return RowsDictionary(SITE, rows, torch.randn(d, generator=g))


def activations(seed: int, d: int = 12, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 5, d, generator=torch.Generator().manual_seed(seed + 1)).to(dtype)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}.get(a.dtype, torch.int16)
    return a.dtype == b.dtype and torch.equal(a.view(whole), b.view(whole))


actions = st.sampled_from(
    [
        Action.zero(),
        Action.scale(-1.5),
        Action.scale(0.3),
        Action.set(torch.tensor([2.0, 0.0, -1.0])),
        Action.limit(torch.tensor([0.1, 0.0, 5.0])),
    ]
)


@quick
@given(seeds, actions, st.booleans())
def test_clamp_equals_the_full_error_preserving_splice(seed: int, action: Action, jump: bool) -> None:
    whole, x, features = dictionary(seed, jump=jump), activations(seed), torch.tensor([3, 17, 29])
    z = whole.encode(x)
    edited = z.clone()
    edited[..., features] = action(z[..., features])
    expected = whole.decode(edited) + (x - whole.decode(z))
    out = FeatureClamp(SITE, whole.rows(features), action).transform(x)
    assert torch.allclose(out, expected, atol=1e-5 * max(1.0, float(expected.abs().max())))


@quick
@given(seeds, st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
def test_scaling_by_one_keeps_every_bit_also_of_negative_zeros(seed: int, dtype: torch.dtype) -> None:
    x = activations(seed, dtype=dtype)
    x[0, 0] = -0.0
    clamp = FeatureClamp(SITE, dictionary(seed).rows(torch.arange(40)), Action.scale(1.0))
    assert same_bits(clamp.transform(x), x)


def test_tokens_without_a_firing_feature_keep_every_bit_and_the_others_change() -> None:
    rows = FeatureRows(torch.eye(4)[:1], torch.zeros(1), torch.zeros(1), torch.ones(1, 4))
    x = torch.tensor([[[-1.0, -0.0, 2.0, 3.0], [1.0, -0.0, 2.0, 3.0]]])
    out = FeatureClamp(SITE, rows).transform(x)
    assert same_bits(out[:, :1], x[:, :1])
    assert torch.equal(out[:, 1], x[:, 1] - 1)


def test_a_limit_above_every_activation_changes_nothing() -> None:
    x = activations(0)
    clamp = FeatureClamp(SITE, dictionary(0).rows(torch.arange(3)), Action.limit(torch.full((3,), 1e9)))
    assert same_bits(clamp.transform(x), x)


def orthogonal(features: int, d: int = 12) -> FeatureRows:
    """Unit features that read and write the same orthogonal directions."""
    basis = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(3)))[0][:features]
    return FeatureRows(basis, torch.zeros(features), torch.zeros(features), basis)


@quick
@given(seeds)
def test_zeroing_orthogonal_features_twice_is_zeroing_them_once(seed: int) -> None:
    clamp = FeatureClamp(SITE, orthogonal(5))
    once = clamp.transform(activations(seed))
    assert torch.allclose(clamp.transform(once), once, atol=1e-5)
    assert not torch.allclose(once, activations(seed), atol=1e-2)


@quick
@given(seeds, actions)
def test_clamps_of_orthogonal_features_commute_and_their_changes_add(seed: int, action: Action) -> None:
    rows, x = orthogonal(6), activations(seed)
    a = FeatureClamp(SITE, FeatureRows(*(part[:3] for part in rows)), action)
    b = FeatureClamp(SITE, FeatureRows(*(part[3:] for part in rows)), action)
    ab, ba = b.transform(a.transform(x)), a.transform(b.transform(x))
    assert torch.allclose(ab, ba, atol=1e-5)
    assert torch.allclose(ab - x, (a.transform(x) - x) + (b.transform(x) - x), atol=1e-5)


@quick
@given(seeds, st.floats(-3, 3))
def test_strength_scales_the_change(seed: int, strength: float) -> None:
    rows, x = dictionary(seed).rows(torch.arange(4)), activations(seed)
    full = FeatureClamp(SITE, rows, Action.zero()).transform(x) - x
    part = FeatureClamp(SITE, rows, Action.zero(), strength=strength).transform(x) - x
    assert torch.allclose(part, strength * full, atol=1e-4)


def test_half_precision_computes_features_in_float32() -> None:
    x, rows = activations(5).bfloat16(), dictionary(5).rows(torch.arange(8))
    out = FeatureClamp(SITE, rows).transform(x)
    exact = FeatureClamp(SITE, rows).transform(x.float())
    assert out.dtype == torch.bfloat16
    # One rounding of the change and one of the sum: two units in the last place of bfloat16.
    assert torch.allclose(out.float(), exact, rtol=2**-6, atol=2**-6 * float(exact.abs().max()))


def test_clamp_never_allocates_the_width_of_the_dictionary() -> None:
    rows = dictionary(1, f=4000).rows(torch.tensor([5, 6]))
    assert {part.shape[0] for part in rows} == {2}
    x, biggest = activations(1), 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
            nonlocal biggest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple) else (out,):
                if isinstance(tensor, torch.Tensor):
                    biggest = max(biggest, tensor.numel())
            return out

    with Watch():
        FeatureClamp(SITE, rows).transform(x)
    assert 0 < biggest <= x.numel()


def test_values_must_be_one_per_feature_and_belong_to_the_action() -> None:
    rows = dictionary(0).rows(torch.arange(4))
    with pytest.raises(ValueError, match="4 features but"):
        FeatureClamp(SITE, rows, Action.set(torch.zeros(3)))
    with pytest.raises(ValueError, match="belongs to 'set' and 'limit'"):
        Action("zero", value=torch.zeros(4))
    # A run that checks types at run time is faster than our own check.
    with pytest.raises((ValueError, TypeError), match="(?s)zero.*scale.*set.*limit"):
        Action("erase")  # type: ignore[arg-type]
