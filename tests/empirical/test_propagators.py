"""Layer quantities against dense float64 algebra on the Jacobians that autograd gives."""

from __future__ import annotations

import math

import pytest
import torch

from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.context import measure_context
from empirical.jacobians.encoder_chain import EncoderChain
from empirical.jacobians.krylov import leading_triplets
from empirical.jacobians.operators import AdjointError
from empirical.jacobians.pieces import FeedForward
from empirical.jacobians.propagators import measure_position_layers, measure_sequence_layers
from tests.empirical import jacobian_models as oracle

TOKENS = [1, 7, 3, 22, 5]
WIDTH = 12


def dense(state: str, dtype=torch.float64):
    model = oracle.small_whisper(torch.float64)
    states = oracle.encoder_states(model)
    exact = DecoderChain(model, states, TOKENS)
    rows = exact.rows(-1 if state == "position" else None)
    pairs = []
    for layer in range(1, exact.depth + 1):
        a, b = oracle.layer_jacobians(model, exact.hidden[layer - 1], states, layer, rows)
        if state == "position":
            a = a.view(WIDTH, len(TOKENS), WIDTH)[:, -1]
        pairs.append((a, b))
    cast = oracle.small_whisper(dtype)
    return DecoderChain(cast, states.to(dtype), TOKENS), pairs


def norm(matrix: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(matrix)[0])


@pytest.mark.parametrize("state", ["position", "sequence"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 5e-3)])
def test_layer_quantities_equal_their_definitions(state, dtype, tolerance):
    chain, pairs = dense(state, dtype)
    layers = measure_position_layers(chain) if state == "position" else measure_sequence_layers(chain)
    before = None
    for index, (layer, (a, b)) in enumerate(zip(layers, pairs, strict=True)):
        u, s, vh = torch.linalg.svd(a)
        u, v = u[:, 0], vh[0]
        assert layer.propagator_converged and layer.injection_converged and layer.arrival_converged
        assert math.isclose(layer.sigma, float(s[0]), rel_tol=tolerance)
        assert math.isclose(layer.gap, float(s[1] / s[0]), rel_tol=tolerance)
        bulk = float(s[1:].norm() / (s[0] * math.sqrt(len(s) - 1)))
        assert math.isclose(layer.bulk_gap, bulk, rel_tol=tolerance)
        assert layer.bulk_gap_se == 0.0
        if before is None:
            assert math.isnan(layer.alignment) and math.isnan(layer.misalignment) and math.isnan(layer.gain)
        else:
            inner = float(v @ before)
            assert math.isclose(layer.alignment, abs(inner), abs_tol=tolerance)
            assert math.isclose(layer.misalignment, math.sqrt(1 - inner**2), abs_tol=tolerance)
            assert math.isclose(layer.gain, layer.sigma * layer.alignment, rel_tol=1e-12)
        assert math.isclose(layer.injection_along, float((u @ b).norm()), rel_tol=tolerance)
        assert math.isclose(layer.injection_across, norm(b - torch.outer(u, u @ b)), rel_tol=tolerance)
        assert math.isclose(layer.injection_norm, norm(b), rel_tol=tolerance)
        product = b
        for later, _ in pairs[index + 1 :]:
            product = later @ product
        assert math.isclose(layer.arrival, norm(product), rel_tol=tolerance)
        before = u
    # At l = L nothing lies between the injection and the output: the same number, not one near it.
    assert layers[-1].arrival == layers[-1].injection_norm


def test_injection_parts_by_iteration_equal_the_dense_ones():
    """288 rows: past the dense case, so cold, warm-started and shared Krylov problems are all at work."""
    model = oracle.small_whisper(torch.float64, width=24)
    chain = DecoderChain(model, oracle.encoder_states(model), list(range(1, 13)))
    layers = measure_sequence_layers(chain)
    for index, layer in enumerate(layers, start=1):
        b = chain.injection(index).materialise().matrix
        assert layer.injection_converged
        # A Ritz value errs by no more than its residual, here 1e-8 of it.
        assert math.isclose(layer.injection_norm, norm(b), rel_tol=1e-8)
        assert math.isclose(layer.injection_across, norm(b - torch.outer(layer.u, layer.u @ b)), rel_tol=1e-8)
    assert layers[-1].arrival == layers[-1].injection_norm


def test_an_unconverged_norm_of_the_injection_is_nan_and_flagged(monkeypatch):
    chain, _ = dense("sequence")

    def refuse_cold_norms(operator, k, *, start=None, **options):
        """No residual is good enough for a norm that starts cold (||B_l|| and the arrival); the rest as it is."""
        cold = k == 1 and start is None
        return leading_triplets(operator, k, start=start, tolerance=1e-300 if cold else None, **options)

    monkeypatch.setattr("empirical.jacobians.propagators.leading_triplets", refuse_cold_norms)
    for layer in measure_sequence_layers(chain):
        assert math.isnan(layer.injection_norm)
        assert not layer.injection_converged
        assert math.isfinite(layer.injection_across) and math.isfinite(layer.injection_along)


def test_the_split_of_an_injection_along_a_direction_that_did_not_converge_is_nan(monkeypatch):
    chain, _ = dense("sequence")

    def refuse_propagators(operator, k, **options):
        return leading_triplets(operator, k, **options | ({"tolerance": 1e-300} if k > 1 else {}))

    monkeypatch.setattr("empirical.jacobians.propagators.leading_triplets", refuse_propagators)
    for layer in measure_sequence_layers(chain):
        assert not layer.propagator_converged and not layer.injection_converged
        assert math.isnan(layer.injection_along) and math.isnan(layer.injection_across)
        assert math.isfinite(layer.injection_norm)


def test_bulk_gap_by_probes_covers_the_exact_one_where_the_propagator_is_not_made_dense(monkeypatch):
    model = oracle.small_whisper(torch.float64, width=24)
    chain = DecoderChain(model, oracle.encoder_states(model), list(range(1, 13)))
    exact = measure_sequence_layers(chain)
    monkeypatch.setattr("empirical.jacobians.propagators._DENSE_BYTES", 0)
    for known, estimate in zip(exact, measure_sequence_layers(chain), strict=True):
        assert math.isclose(known.sigma, estimate.sigma, rel_tol=1e-8)
        assert math.isclose(known.gap, estimate.gap, rel_tol=1e-6)
        assert estimate.bulk_gap_se > 0.0
        # Eight probes: seven degrees of freedom, whose 99.99 % quantile is below 8.
        assert abs(known.bulk_gap - estimate.bulk_gap) < 8 * estimate.bulk_gap_se


def test_values_stay_in_the_ranges_the_records_demand():
    from observables import ChainParameters

    chain, _ = dense("position", torch.float32)
    layers = measure_position_layers(chain)
    names = ("sigma", "gap", "alignment", "injection_along", "injection_across", "misalignment", "bulk_gap")
    parameters = ChainParameters(**{name: [getattr(layer, name) for layer in layers] for name in names})
    assert parameters.depth == 3


@pytest.mark.parametrize("state", ["position", "sequence"])
def test_without_injections_all_else_is_the_same(state):
    chain, _ = dense(state)
    measure = measure_position_layers if state == "position" else measure_sequence_layers
    whole, alone = measure(chain), measure(chain, injections=False)
    names = ("sigma", "gap", "bulk_gap", "alignment", "misalignment", "gain", "propagator_converged")
    for one, two in zip(whole, alone, strict=True):
        assert [repr(getattr(one, name)) for name in names] == [repr(getattr(two, name)) for name in names]
        assert torch.equal(one.u, two.u)
        unknown = (two.injection_along, two.injection_across, two.injection_norm, two.arrival)
        assert all(math.isnan(value) for value in unknown)
        assert not two.injection_converged and not two.arrival_converged


@pytest.mark.parametrize("state", ["position", "sequence"])
def test_an_injection_that_is_zero_is_0_and_takes_no_product(state):
    model = oracle.small_whisper(torch.float64, encoder_depth=3)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn((8, 18), generator=generator, dtype=torch.float64)
    chain = EncoderChain(model, features)
    layers = measure_position_layers(chain, 4) if state == "position" else measure_sequence_layers(chain)
    assert layers[0].injection_norm > 0.0 and layers[0].arrival > 0.0
    for layer in layers[1:]:
        known = (layer.injection_along, layer.injection_across, layer.injection_norm, layer.arrival)
        assert known == (0.0, 0.0, 0.0, 0.0)
        assert layer.injection_converged and layer.arrival_converged
        assert layer.sigma > 0.0 and 0.0 <= layer.alignment <= 1.0
    if state == "sequence":
        # P_{L:2} B_1 is J_L where nothing else is injected.
        (last,) = measure_context(chain, 1, None, [chain.depth])
        assert math.isclose(layers[0].arrival, float(last.triplets.s[0]), rel_tol=1e-7)


@pytest.mark.parametrize("measure", [measure_sequence_layers, lambda chain: measure_context(chain, 2)])
def test_forward_and_reverse_products_that_do_not_belong_together_are_refused(measure, monkeypatch):
    model = oracle.small_whisper(torch.float64)
    chain = DecoderChain(model, oracle.encoder_states(model), TOKENS)
    pull = FeedForward.pull
    last = chain.layers[-1].feed_forward
    monkeypatch.setattr(FeedForward, "pull", lambda self, *args: (1.0 + 1e-3 * (self is last)) * pull(self, *args))
    with pytest.raises(AdjointError, match=r"layer 3 must be adjoint to .*; got a gap of"):
        measure(chain)
