"""J_l at every depth against autograd of the whole decoder, and what a measurement reports of it."""

from __future__ import annotations

import math

import pytest
import torch

from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.context import measure_context
from empirical.jacobians.measurement import measure_decoder
from empirical.jacobians.positional import POSITIONAL_FIELDS
from tests.empirical import jacobian_models as oracle

TOKENS = [1, 7, 3, 22, 5]


@pytest.mark.parametrize("position", [None, -1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.float64, 1e-8)])
def test_singular_values_of_every_depth_equal_dense_autograd(position, dtype, tolerance):
    exact = oracle.small_whisper(torch.float64)
    states = oracle.encoder_states(exact)
    chain = DecoderChain(oracle.small_whisper(dtype), states.to(dtype), TOKENS)
    rows = chain.rows(position)
    for layer, context in enumerate(measure_context(chain, 5, position), start=1):
        jacobian = oracle.context_jacobian(exact, states, TOKENS, layer, rows)
        s = torch.linalg.svdvals(jacobian)
        assert bool(context.triplets.converged.all())
        assert torch.allclose(context.triplets.s, s[:5], rtol=tolerance, atol=0)
        assert math.isclose(context.triplets.frobenius, float(s.norm()), rel_tol=tolerance)
        share, _ = context.triplets.share
        assert math.isclose(share, float(s[0] ** 2 / (s**2).sum()), rel_tol=2 * tolerance)


def test_position_chain_error_equals_its_definition():
    model = oracle.small_whisper(torch.float64)
    states = oracle.encoder_states(model)
    chain = DecoderChain(model, states, TOKENS)
    rows = chain.rows(-1)
    by_chain = torch.zeros((12, 9 * 12), dtype=torch.float64)
    for layer, context in enumerate(measure_context(chain, 4, -1), start=1):
        a, b = oracle.layer_jacobians(model, chain.hidden[layer - 1], states, layer, rows)
        by_chain = a.view(12, len(TOKENS), 12)[:, -1] @ by_chain + b
        true = oracle.context_jacobian(model, states, TOKENS, layer, rows)
        u = torch.linalg.svd(true)[0][:, :4]
        expected = float(((true - by_chain).T @ u).norm() / (true.T @ u).norm())
        assert math.isclose(context.chain_error, expected, rel_tol=1e-7, abs_tol=1e-12)
        operator = chain.position_chain(layer, -1)
        assert torch.allclose(operator.materialise().matrix, by_chain, atol=1e-11)
        assert torch.allclose(operator.matmat(torch.eye(108, dtype=torch.float64)), by_chain, atol=1e-11)
    assert context.chain_error > 1e-3  # an approximation, and here visibly one


def test_one_token_makes_the_position_chain_exact():
    model = oracle.small_whisper(torch.float64)
    chain = DecoderChain(model, oracle.encoder_states(model), [4])
    assert max(context.chain_error for context in measure_context(chain, 3, -1)) < 1e-12


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_sequence_chain_error_is_rounding_against_autograd(dtype, bound):
    model = oracle.small_whisper(dtype)
    chain = DecoderChain(model, oracle.encoder_states(model), TOKENS)
    errors = [context.chain_error for context in measure_context(chain, 3)]
    assert 0.0 < max(errors) < bound


def test_sequence_check_sees_a_wrong_derivative(monkeypatch):
    model = oracle.small_whisper(torch.float64)
    chain = DecoderChain(model, oracle.encoder_states(model), TOKENS)
    feed_forward = chain.layers[0].feed_forward
    monkeypatch.setattr(feed_forward, "slope", feed_forward.slope * 1.01)
    assert measure_context(chain, 3)[-1].chain_error > 1e-5


COLUMNS = {
    *("state", "layer", "layers", "d_model", "tokens", "n_tokens", "dtype", "sigma", "gap", "bulk_gap"),
    *("bulk_gap_se", "alignment", "misalignment", "gain", "injection_along", "injection_across", "injection_norm"),
    *("propagator_residual", "propagator_converged", "injection_converged", "context_s", "residual", "converged"),
    *("positions", "position", "block", "refusals", *POSITIONAL_FIELDS),
    *("context_frobenius", "context_frobenius_se", "context_share", "context_share_se", "context_effective_rank"),
    *("chain_error", "arrival", "arrival_converged", "hidden_rms_before", "hidden_rms", "products", "seconds"),
}


@pytest.mark.parametrize("state", ["position", "sequence"])
def test_measurement_rows_are_plain_and_complete(state):
    model = oracle.small_whisper(torch.float32)
    states = oracle.encoder_states(model)
    measured = measure_decoder(model, states, TOKENS, state, k=4)
    rows = measured.rows()
    assert [row["layer"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert set(row) == COLUMNS
        assert all(type(value) in (str, int, float, bool, list) for name, value in row.items() if name != "position")
        assert (row["positions"], row["position"]) == ((1, 4) if state == "position" else (5, None))
        assert len(row["context_s"]) == len(row["residual"]) == len(row["converged"]) == 4
        assert row["context_s"] == sorted(row["context_s"], reverse=True)
        assert row["tokens"] == TOKENS
    streams = [
        (model.model.decoder.embed_tokens.weight[TOKENS] + model.model.decoder.embed_positions.weight[:5]),
        *oracle.residual_streams(model, states, TOKENS),
    ]
    for index, row in enumerate(rows):
        for name, stream in (("hidden_rms_before", streams[index]), ("hidden_rms", streams[index + 1])):
            used = stream[-1:] if state == "position" else stream
            expected = math.sqrt(float((used.double() ** 2).sum()) / len(used))
            assert math.isclose(row[name], expected, rel_tol=1e-5)
    assert sum(row["products"] for row in rows) <= measured.products < sum(row["products"] for row in rows) + 3
    again = measure_decoder(model, states, TOKENS, state, k=4).rows()
    for one, two in zip(rows, again, strict=True):
        assert {key: repr(one[key]) for key in one if key != "seconds"} == {
            key: repr(two[key]) for key in two if key != "seconds"
        }


def test_effective_rank_only_where_the_spectrum_is_known():
    model = oracle.small_whisper(torch.float32, width=24)
    states = oracle.encoder_states(model)
    tokens = list(range(1, 13))
    known = measure_decoder(model, states, tokens, "position", k=3).rows()[-1]
    unknown = measure_decoder(model, states, tokens, "sequence", k=3).rows()[-1]
    assert 1.0 <= known["context_effective_rank"] <= 24.0
    assert math.isnan(unknown["context_effective_rank"])
    assert unknown["context_frobenius_se"] > 0.0


@pytest.mark.parametrize("position", [None, -1])
def test_some_depths_have_the_values_they_have_among_all(position):
    model = oracle.small_whisper(torch.float64)
    chain = DecoderChain(model, oracle.encoder_states(model), TOKENS)
    whole = measure_context(chain, 3, position)
    some = measure_context(chain, 3, position, [1, 3])
    assert len(some) == 2
    for one, two in zip([whole[0], whole[2]], some, strict=True):
        assert torch.allclose(one.triplets.s, two.triplets.s, rtol=1e-8, atol=0)
    assert measure_context(chain, 3, position, []) == []
    for depths in ([0], [4], [2, 1], [2, 2]):
        with pytest.raises(ValueError, match=r"depths must ascend within \[1, 3\]; got \["):
            measure_context(chain, 3, position, depths)


def test_bad_arguments_are_named():
    model = oracle.small_whisper(torch.float64)
    states = oracle.encoder_states(model)
    with pytest.raises(ValueError, match=r"k must lie in \[1, 12\] for the position state"):
        measure_decoder(model, states, TOKENS, k=13)
    with pytest.raises(ValueError, match="state must be one of"):
        measure_decoder(model, states, TOKENS, "token")  # type: ignore[arg-type]
