"""ChainParameters: what it accepts, what it refuses, and what it derives."""

import numpy as np
import pytest

from observables import ChainParameters


def parameters(**changes):
    fields = {
        "sigma": [2.0, 1.5, 1.0],
        "gap": [0.1, 0.2, 1.0],
        "alignment": [np.nan, 0.6, 0.8],
        "injection_along": [1.0, 0.0, 0.5],
        "injection_across": [0.0, 0.1, 0.2],
    }
    return ChainParameters(**(fields | changes))


def test_gain_and_across_are_undefined_at_the_first_layer_and_exact_after_it():
    p = parameters()
    assert np.isnan(p.gain[0]) and np.isnan(p.across[0])
    np.testing.assert_allclose(p.gain[1:], [0.9, 0.8], rtol=4 * np.finfo(float).eps)
    np.testing.assert_allclose(p.across[1:], [0.8, 0.6], rtol=4 * np.finfo(float).eps)


def test_a_known_misalignment_is_not_recomputed_from_the_alignment():
    # sqrt(1 - kappa^2) would read this angle of 1e-9 as exactly 0.
    p = parameters(alignment=[0.0, 1.0, 1.0], misalignment=[0.0, 1e-9, 1e-9])
    assert p.across[1] == 1e-9


def test_rounding_above_one_is_one_and_more_is_refused():
    eps = np.finfo(float).eps
    assert parameters(alignment=[0.0, 1.0 + 8 * eps, 0.5]).alignment[1] == 1.0
    with pytest.raises(ValueError, match=r"alignment must lie in \[0, 1\]; got 1\.0000000001"):
        parameters(alignment=[0.0, 1.0000000001, 0.5])


def test_the_first_alignment_is_never_read():
    assert parameters(alignment=[7.0, 0.5, 0.5]).depth == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": [1.0, -1.0, 1.0]}, "sigma must not be negative; got -1"),
        ({"sigma": [1.0, np.inf, 1.0]}, "sigma must be finite; got inf"),
        ({"gap": [0.1, 0.1, 1.2]}, r"gap must lie in \[0, 1\]; got 1.2"),
        ({"gap": [0.1, 0.1]}, "gap must have the 3 layers of sigma; got 2"),
        ({"alignment": [np.nan, np.nan, 0.5]}, "alignment must be finite; got nan"),
        ({"injection_across": [0.0, 0.0, -0.1]}, "injection_across must not be negative"),
        ({"injection_coherent": [0.0, np.nan, 0.0]}, "injection_coherent must be finite"),
        ({"bulk_gap": [0.1, 0.1, -0.1]}, r"bulk_gap must lie in \[0, 1\]"),
        ({"sigma": 3.0}, "sigma must be one-dimensional"),
    ],
)
def test_a_broken_field_is_named_with_its_rule_and_value(changes, message):
    with pytest.raises(ValueError, match=message):
        parameters(**changes)


def test_no_layers_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        ChainParameters([], [], [], [], [])


def test_arrays_are_copies_and_cannot_be_written():
    sigma = np.array([2.0, 1.5, 1.0])
    p = parameters(sigma=sigma)
    sigma[0] = 9.0
    assert p.sigma[0] == 2.0
    with pytest.raises(ValueError):
        p.sigma[0] = 1.0
