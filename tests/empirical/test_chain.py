"""The linearised decoder against autograd of the model itself."""

from __future__ import annotations

import pytest
import torch

from empirical.jacobians.chain import DecoderChain, LinearisationError
from empirical.jacobians.decompositions import NonFiniteError
from tests.empirical import jacobian_models as oracle

TOKENS = [1, 7, 3, 22, 5]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def chain_of(dtype=torch.float64, **sizes) -> tuple[DecoderChain, torch.nn.Module, torch.Tensor]:
    model = oracle.small_whisper(dtype, **sizes)
    states = oracle.encoder_states(model)
    return DecoderChain(model, states, TOKENS), model, states


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.float64, 1e-13)])
def test_recurrence_T2_equals_autograd_of_the_whole_decoder(dtype, tolerance):
    chain, model, states = chain_of(dtype)
    jacobian = torch.zeros((len(TOKENS) * 12, 9 * 12), dtype=dtype)
    for layer in range(1, chain.depth + 1):
        a, b = chain.propagator(layer).materialise().matrix, chain.injection(layer).materialise().matrix
        jacobian = a @ jacobian + b
        whole = oracle.context_jacobian(model, states, TOKENS, layer)
        assert relative(jacobian, whole) < tolerance
        assert relative(chain.context_jacobian(layer).materialise().matrix, whole) < tolerance


@pytest.mark.parametrize("position", [-1, 0, 2])
@pytest.mark.parametrize("layer", [1, 3])
def test_position_operators_equal_dense_autograd(layer, position):
    chain, model, states = chain_of()
    rows = chain.rows(position)
    a, b = oracle.layer_jacobians(model, chain.hidden[layer - 1], states, layer, rows)
    own = a.view(12, len(TOKENS), 12)[:, position]  # all other positions held fixed
    assert relative(chain.propagator(layer, position).materialise().matrix, own) < 1e-12
    assert relative(chain.injection(layer, position).materialise().matrix, b) < 1e-12
    whole = oracle.context_jacobian(model, states, TOKENS, layer, rows)
    assert relative(chain.context_jacobian(layer, position).materialise().matrix, whole) < 1e-12


def test_sequence_layers_equal_dense_autograd_of_the_module():
    chain, model, states = chain_of()
    for layer in (1, 2, 3):
        a, b = oracle.layer_jacobians(model, chain.hidden[layer - 1], states, layer)
        assert relative(chain.propagator(layer).materialise().matrix, a) < 1e-12
        assert relative(chain.injection(layer).materialise().matrix, b) < 1e-12


def test_arrival_is_the_product_of_propagators_and_injection():
    chain, *_ = chain_of()
    product = chain.injection(1)
    for layer in (2, 3):
        product = chain.propagator(layer) @ product
    assert relative(chain.arrival(1).materialise().matrix, product.materialise().matrix) < 1e-13
    last = chain.injection(3).materialise().matrix
    assert torch.equal(chain.arrival(3).materialise().matrix, last)


@pytest.mark.parametrize("position", [None, -1, 1])
@pytest.mark.parametrize("name", ["propagator", "injection", "context_jacobian"])
def test_forward_and_reverse_products_are_adjoint(name, position):
    chain, *_ = chain_of()
    operator = getattr(chain, name)(2, position)
    generator = torch.Generator().manual_seed(3)
    u = torch.randn((operator.shape[0], 19), generator=generator, dtype=torch.float64)
    v = torch.randn((operator.shape[1], 19), generator=generator, dtype=torch.float64)
    forward, reverse = operator.matmat(v), operator.rmatmat(u)
    left, right = (forward * u).sum(0), (reverse * v).sum(0)
    scale = forward.norm(dim=0) * u.norm(dim=0)
    assert float(((left - right).abs() / scale).max()) < 64 * torch.finfo(torch.float64).eps


def test_forward_products_equal_dense_autograd():
    chain, model, states = chain_of()
    x = torch.eye(9 * 12, dtype=torch.float64)
    for position in (None, -1):
        whole = oracle.context_jacobian(model, states, TOKENS, 3, chain.rows(position))
        assert relative(chain.context_jacobian(3, position).matmat(x), whole) < 1e-12


def test_context_gram_is_that_of_the_heads_output():
    chain, *_ = chain_of()
    layer = chain.layers[1]
    for position in (0, 4):
        rows = chain.rows(position)
        matrix = torch.zeros((12, 9, 12), dtype=torch.float64)
        layer.pull_context(torch.eye(12, dtype=torch.float64)[:, None], rows, out=matrix)
        dense = matrix.flatten(1)
        assert relative(layer.context_gram(position), dense @ dense.T) < 1e-13


def test_one_token_and_more_heads_and_frames_than_usual():
    model = oracle.small_whisper(torch.float64, width=16, heads=4, depth=2, frames=33)
    states = oracle.encoder_states(model)
    chain = DecoderChain(model, states[None], [4])
    whole = oracle.context_jacobian(model, states, [4], 2)
    assert relative(chain.context_jacobian(2).materialise().matrix, whole) < 1e-12
    assert relative(chain.context_jacobian(2, -1).materialise().matrix, whole) < 1e-12


def test_long_transcripts_take_the_other_order_of_products_to_the_same_derivative():
    model = oracle.small_whisper(torch.float64, width=8, heads=4, depth=2)
    states, tokens = oracle.encoder_states(model), list(range(1, 13))
    chain = DecoderChain(model, states, tokens)
    assert chain.layers[0].cross._through_keys(12) and not chain.layers[0].cross._through_keys(
        1
    )  # both ways, in one product
    for position in (None, -1, 4):
        whole = oracle.context_jacobian(model, states, tokens, 2, chain.rows(position))
        operator = chain.context_jacobian(2, position)
        assert relative(operator.materialise().matrix, whole) < 1e-12
        assert relative(operator.matmat(torch.eye(9 * 8, dtype=torch.float64)), whole) < 1e-12


def test_products_are_counted_by_layer_and_direction():
    chain, *_ = chain_of()
    chain.context_jacobian(3).rmatmat(torch.ones((60, 4), dtype=torch.float64))
    chain.propagator(1, -1).matmat(torch.ones((12, 5), dtype=torch.float64))
    assert chain.products == 4 * 3 + 5


def test_a_chain_that_is_not_the_model_is_refused():
    model = oracle.small_whisper(torch.float64, seed=5)
    states = oracle.encoder_states(model)
    layer = model.model.decoder.layers[1]
    hook = layer.register_forward_hook(lambda _m, _i, out: out * 1.001)
    try:
        with pytest.raises(LinearisationError, match="hidden state 2"):
            DecoderChain(model, states, TOKENS)
    finally:
        hook.remove()
    DecoderChain(model, states, TOKENS)


def test_bad_arguments_are_named():
    model = oracle.small_whisper(torch.float64)
    states = oracle.encoder_states(model)
    with pytest.raises(ValueError, match="must number 1 to 16; got 0"):
        DecoderChain(model, states, [])
    with pytest.raises(ValueError, match=r"lie in \[0, 30\)"):
        DecoderChain(model, states, [1, 30])
    with pytest.raises(ValueError, match=r"must be \(frames, 12\)"):
        DecoderChain(model, states.T, TOKENS)
    with pytest.raises(ValueError, match="share a dtype"):
        DecoderChain(model, states.float(), TOKENS)
    with pytest.raises(ValueError, match="float32 or float64"):
        DecoderChain(model, states.half(), TOKENS)
    poisoned = states.clone()
    poisoned[3, 4] = float("nan")
    with pytest.raises(NonFiniteError, match="encoder states must be finite"):
        DecoderChain(model, poisoned, TOKENS)
    chain = DecoderChain(model, states, TOKENS)
    with pytest.raises(ValueError, match=r"layer must lie in \[1, 3\]; got 4"):
        chain.context_jacobian(4)
    with pytest.raises(ValueError, match="position must lie"):
        chain.propagator(1, 5)
