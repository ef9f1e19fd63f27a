"""SAUCE mode is the plain decode."""

import pytest
import torch

from concept_forget.directions import FeatureRows
from concept_forget.edits import RowsDictionary, SauceEdit
from concept_forget.sites import Site

SITE = Site("vision", 1, "resid")


@pytest.fixture
def whole() -> RowsDictionary:
    g = torch.Generator().manual_seed(0)
    rows = FeatureRows(
        torch.randn(30, 8, generator=g), torch.randn(30, generator=g), torch.zeros(30), torch.randn(30, 8, generator=g)
    )
    return RowsDictionary(SITE, rows, torch.randn(8, generator=g))


def test_sauce_decodes_scaled_features_without_the_reconstruction_error(whole: RowsDictionary) -> None:
    x, features = torch.randn(2, 3, 8), torch.tensor([1, 4])
    z = whole.encode(x)
    z[..., 1] *= -0.5
    z[..., 4] *= -0.5
    assert torch.allclose(SauceEdit(SITE, whole, features, -0.5).transform(x), whole.decode(z), atol=1e-5)


def test_sauce_with_gamma_one_is_the_reconstruction_and_not_a_no_op(whole: RowsDictionary) -> None:
    x = torch.randn(2, 3, 8)
    out = SauceEdit(SITE, whole, torch.tensor([1, 4]), 1.0).transform(x)
    assert torch.equal(out, whole.decode(whole.encode(x)))
    assert not torch.allclose(out, x, atol=0.1)


def test_sauce_leaves_the_dictionary_and_the_input_alone(whole: RowsDictionary) -> None:
    x = torch.randn(2, 3, 8)
    before, decoder = x.clone(), whole.all_rows.decoder.clone()
    SauceEdit(SITE, whole, torch.tensor([0]), -2.0).transform(x)
    assert torch.equal(x, before)
    assert torch.equal(whole.all_rows.decoder, decoder)


def test_rows_of_a_dictionary_rebuild_it_through_its_protocol(whole: RowsDictionary) -> None:
    rebuilt, x = RowsDictionary.of(whole), torch.randn(5, 8)
    assert torch.equal(rebuilt.encode(x), whole.encode(x))
    assert torch.equal(rebuilt.decode(whole.encode(x)), whole.decode(whole.encode(x)))


def test_a_feature_outside_the_dictionary_is_refused(whole: RowsDictionary) -> None:
    with pytest.raises(ValueError, match=r"No such feature: \[30\].*0\.\.29"):
        SauceEdit(SITE, whole, torch.tensor([2, 30]))
