"""The linearised encoder against autograd of the model itself, and the laws of a chain that it must obey."""

from __future__ import annotations

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from empirical.jacobians import krylov, propagators, self_attention
from empirical.jacobians.chain import DecoderChain, LinearisationError
from empirical.jacobians.context import measure_context
from empirical.jacobians.decompositions import NonFiniteError
from empirical.jacobians.encoder_chain import EncoderChain
from empirical.jacobians.propagators import measure_position_layers, measure_sequence_layers
from empirical.jacobians.protocol import Chain
from tests.empirical import jacobian_models as oracle

DEPTH, FRAMES, WIDTH = 3, 7, 8
EPS = torch.finfo(torch.float64).eps
# Sums of a few hundred terms, a few of them one after another, in each of 3 layers: 1e-13 is 450 roundings.
EXACT = 1e-13


def whisper(dtype=torch.float64, **sizes) -> WhisperForConditionalGeneration:
    return oracle.small_whisper(dtype, **{"width": WIDTH, "depth": 1, "frames": FRAMES, "encoder_depth": DEPTH} | sizes)


def chain_of(dtype=torch.float64) -> tuple[EncoderChain, WhisperForConditionalGeneration, torch.Tensor]:
    model = whisper(dtype)
    features = oracle.mel_features(model)
    return EncoderChain(model, features), model, features


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def dense(operator) -> torch.Tensor:
    return operator.materialise().matrix


def test_recurrence_T2_equals_autograd_of_the_whole_encoder():
    chain, model, features = chain_of()
    jacobian = torch.zeros((FRAMES * WIDTH, features.numel()), dtype=torch.float64)
    for layer in range(1, DEPTH + 1):
        jacobian = dense(chain.propagator(layer)) @ jacobian + dense(chain.injection(layer))
        whole = oracle.encoder_jacobian(model, features, layer)
        operator = chain.context_jacobian(layer)
        assert relative(jacobian, whole) < EXACT
        assert relative(dense(operator), whole) < EXACT
        assert relative(operator.matmat(torch.eye(features.numel(), dtype=torch.float64)), whole) < EXACT


def test_every_layer_equals_dense_autograd_of_the_module():
    chain, model, features = chain_of()
    stem = oracle.encoder_jacobian(model, features, 0)
    for layer in range(1, DEPTH + 1):
        own = oracle.encoder_layer_jacobian(model, chain.hidden[layer - 1], layer)
        assert relative(dense(chain.propagator(layer)), own) < EXACT
        assert chain.injects(layer) == (layer == 1)
        injection = dense(chain.injection(layer))
        if layer == 1:
            assert relative(injection, own @ stem) < EXACT
        else:
            assert float(injection.abs().max()) == 0.0
            assert float(chain.injection(layer).matmat(torch.ones((features.numel(), 2))).abs().max()) == 0.0


@pytest.mark.parametrize("frame", [0, 3, -1])
def test_operators_of_one_frame_are_blocks_of_those_of_all(frame):
    chain, model, features = chain_of()
    row = frame % FRAMES
    held = slice(row * WIDTH, (row + 1) * WIDTH)
    by_chain = dense(chain.injection(1))[held]
    for layer in range(1, DEPTH + 1):
        block = oracle.encoder_layer_jacobian(model, chain.hidden[layer - 1], layer)[held, held]
        operator = chain.propagator(layer, frame)
        assert relative(dense(operator), block) < EXACT
        assert relative(operator.matmat(torch.eye(WIDTH, dtype=torch.float64)), block) < EXACT
        if layer > 1:
            by_chain = block @ by_chain
        whole = oracle.encoder_jacobian(model, features, layer)[held]
        for exact, found in ((whole, chain.context_jacobian), (by_chain, chain.position_chain)):
            operator = found(layer, frame)
            assert relative(dense(operator), exact) < EXACT
            assert relative(operator.matmat(torch.eye(features.numel(), dtype=torch.float64)), exact) < EXACT
        propagator, gram = chain.position_blocks(layer, frame)
        injection = dense(chain.injection(layer, frame))
        assert relative(propagator, block) < EXACT
        torch.testing.assert_close(gram, injection @ injection.T, rtol=EXACT, atol=EXACT * float(gram.abs().max()))
    assert relative(by_chain, whole) > 1e-3  # an approximation beyond layer 1, and here visibly one


def test_arrivals_and_blocks_are_products_of_propagators_and_the_one_injection():
    chain, *_ = chain_of()
    propagators = [dense(chain.propagator(layer)) for layer in range(1, DEPTH + 1)]
    injection = dense(chain.injection(1))
    product = propagators[2] @ propagators[1] @ injection
    assert relative(dense(chain.arrival(1)), product) < EXACT
    assert float(dense(chain.arrival(2)).abs().max()) == 0.0
    assert relative(dense(chain.block_propagator(2, 3)), propagators[2] @ propagators[1]) < EXACT
    assert relative(dense(chain.block_injection(1, 3)), product) < EXACT
    assert float(dense(chain.block_injection(2, 3)).abs().max()) == 0.0
    held = slice(4 * WIDTH, 5 * WIDTH)
    local = propagators[1][held, held] @ injection[held]
    assert relative(dense(chain.block_injection(1, 2, 4)), local) < EXACT


@pytest.mark.parametrize("position", [None, 2])
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_every_operator_of_both_chains_is_adjoint_to_its_transpose(half, position):
    chain: Chain
    if half == "encoder":
        chain = chain_of()[0]
    else:
        model = oracle.small_whisper(torch.float64, width=WIDTH)
        chain = DecoderChain(model, oracle.encoder_states(model), [1, 7, 3, 22, 5])
    operators = [
        *(chain.propagator(layer, position) for layer in (1, 3)),
        *(chain.injection(layer, position) for layer in (1, 3)),
        *(chain.context_jacobian(layer, position) for layer in (1, 3)),
        chain.block_propagator(1, 2, position),
        chain.block_injection(1, 2, position),
        chain.arrival(1) if position is None else chain.position_chain(3, position),
    ]
    generator = torch.Generator().manual_seed(3)
    for operator in operators:
        u = torch.randn((operator.shape[0], 5), generator=generator, dtype=torch.float64)
        v = torch.randn((operator.shape[1], 5), generator=generator, dtype=torch.float64)
        forward, reverse = operator.matmat(v), operator.rmatmat(u)
        scale = forward.norm(dim=0) * u.norm(dim=0) + reverse.norm(dim=0) * v.norm(dim=0)
        gap = ((forward * u).sum(0) - (reverse * v).sum(0)).abs()
        assert bool((gap <= 64 * EPS * scale).all())


def test_products_do_not_depend_on_slabs_and_groups(monkeypatch):
    chain, *_ = chain_of()
    generator = torch.Generator().manual_seed(5)
    for name, position in (("context_jacobian", None), ("context_jacobian", 4), ("propagator", None)):
        operator = getattr(chain, name)(3, position)
        y = torch.randn((operator.shape[0], 9), generator=generator, dtype=torch.float64)
        x = torch.randn((operator.shape[1], 9), generator=generator, dtype=torch.float64)
        wanted = operator.matmat(x), operator.rmatmat(y)
        with monkeypatch.context() as patch:
            patch.setattr(self_attention, "_SLAB_BYTES", {"cpu": 1})  # one head
            patch.setattr(self_attention, "_LEAST_ROWS", 3)  # and three rows at a time
            patch.setattr(EncoderChain, "group", 2)
            found = operator.matmat(x), operator.rmatmat(y)
        for ours, theirs in zip(found, wanted, strict=True):
            assert relative(ours, theirs) < EXACT


@pytest.mark.parametrize("frame", [None, 4])
def test_what_is_measured_of_it_equals_dense_autograd(frame):
    chain, model, features = chain_of()
    held = chain.rows(frame)
    rows = torch.arange(FRAMES * WIDTH).view(FRAMES, WIDTH)[held].flatten()
    for layer, context in enumerate(measure_context(chain, 5, frame), start=1):
        s = torch.linalg.svdvals(oracle.encoder_jacobian(model, features, layer)[rows])
        assert bool(context.triplets.converged.all())
        torch.testing.assert_close(context.triplets.s, s[:5], rtol=1e-8, atol=0)
        if frame is None or layer == 1:  # (T2) is exact there
            assert context.chain_error < EXACT
        else:
            assert context.chain_error > 1e-3
    layers = measure_sequence_layers(chain) if frame is None else measure_position_layers(chain, frame)
    stem = oracle.encoder_jacobian(model, features, 0)
    before = None
    arriving = torch.eye(len(rows), dtype=torch.float64)
    for layer in range(DEPTH, 0, -1):
        whole = oracle.encoder_layer_jacobian(model, chain.hidden[layer - 1], layer)
        own = whole[rows][:, rows]
        u, s, vh = torch.linalg.svd(own)
        measured = layers[layer - 1]
        assert measured.sigma == pytest.approx(float(s[0]), rel=1e-8)
        assert measured.gap == pytest.approx(float(s[1] / s[0]), rel=1e-7)
        injection = whole[rows] @ stem if layer == 1 else torch.zeros((len(rows), features.numel())).double()
        assert measured.injection_norm == pytest.approx(float(torch.linalg.matrix_norm(injection, 2)), rel=1e-7)
        assert measured.injection_along == pytest.approx(float((u[:, 0] @ injection).norm()), rel=1e-6)
        assert measured.arrival == pytest.approx(float(torch.linalg.matrix_norm(arriving @ injection, 2)), rel=1e-7)
        if before is not None:
            assert layers[layer].alignment == pytest.approx(abs(float(before @ u[:, 0])), abs=1e-7)
        before, arriving = vh[0], arriving @ own


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, EXACT)])
def test_the_witness_is_autograd_of_the_model_and_runs_no_further_than_asked(dtype, bound):
    chain, model, features = chain_of(dtype)
    generator = torch.Generator().manual_seed(7)
    cotangent = torch.randn(FRAMES * WIDTH, generator=generator, dtype=torch.float64)
    ran: list[int] = []
    hook = model.model.encoder.layers[2].register_forward_hook(lambda *_: ran.append(3))
    try:
        witness = chain.autograd_pull(2, cotangent)
    finally:
        hook.remove()
    assert not ran
    exact = oracle.encoder_jacobian(whisper(), features.double(), 2).T @ cotangent
    assert relative(witness.double(), exact) < bound
    assert relative(chain.context_jacobian(2).rmatmat(cotangent[:, None])[:, 0].double(), exact) < bound


def test_float32_and_many_heads_and_an_odd_number_of_frames():
    model = whisper(torch.float32, width=24, heads=6, frames=33, encoder_depth=2)
    exact = whisper(torch.float64, width=24, heads=6, frames=33, encoder_depth=2)
    features = oracle.mel_features(exact)
    chain = EncoderChain(model, features.float()[None])
    y = torch.randn((33 * 24, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = EncoderChain(exact, features).context_jacobian(2).rmatmat(y)
    # Two layers and a stem, each some twenty roundings deep over sums of sqrt(96) or less in effect.
    assert relative(chain.context_jacobian(2).rmatmat(y).double(), wanted) < 400 * torch.finfo(torch.float32).eps


def test_products_are_counted_by_layer_and_direction_and_zeros_cost_none():
    chain, *_ = chain_of()
    chain.context_jacobian(3).rmatmat(torch.ones((FRAMES * WIDTH, 4), dtype=torch.float64))
    chain.propagator(2, -1).matmat(torch.ones((WIDTH, 5), dtype=torch.float64))
    chain.injection(2).rmatmat(torch.ones((FRAMES * WIDTH, 4), dtype=torch.float64))
    assert chain.products == 4 * 3 + 5


def test_a_model_whose_weights_want_gradients_keeps_no_graph():
    model = whisper(seed=31)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    try:
        features = oracle.mel_features(model)
        chains: list[Chain] = [
            EncoderChain(model, features),
            DecoderChain(model, oracle.encoder_states(model), [1, 7, 3]),
        ]
        for chain in chains:
            assert not any(state.requires_grad for state in chain.hidden)
            operator = chain.context_jacobian(1)
            ones = torch.ones((operator.shape[0], 2), dtype=torch.float64)
            assert not operator.rmatmat(ones).requires_grad
            assert not operator.matmat(operator.rmatmat(ones)).requires_grad
            assert not any(block.requires_grad for block in chain.position_blocks(1, 2))
            assert not chain.autograd_pull(1, ones[:, 0]).requires_grad
        assert all(parameter.grad is None for parameter in model.parameters())
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(False)


def test_a_weight_that_is_not_finite_is_named_with_its_layer():
    name, values = "layers.1.fc2.weight", 2 * WIDTH * WIDTH
    builders = {
        "encoder": lambda m: EncoderChain(m, oracle.mel_features(m)),
        "decoder": lambda m: DecoderChain(m, oracle.encoder_states(m), [1, 2]),
    }
    for part, build in builders.items():
        model = oracle.small_whisper(torch.float64, width=WIDTH, frames=FRAMES, encoder_depth=DEPTH, seed=11)
        weight = dict(getattr(model.model, part).named_parameters())[name].data
        kept = weight[3, 2].clone()
        weight[3, 2] = float("nan")
        try:
            with pytest.raises(NonFiniteError, match=f"{part} layer 2: fc2.weight must be finite; got 1 of {values}"):
                build(model)
        finally:
            weight[3, 2] = kept


def test_a_chain_that_is_not_the_model_is_refused():
    model = whisper(seed=5)
    features = oracle.mel_features(model)
    hook = model.model.encoder.layers[1].register_forward_hook(lambda *args: args[-1] * 1.001)
    try:
        with pytest.raises(LinearisationError, match="encoder must reproduce the model's hidden state 2"):
            EncoderChain(model, features)
    finally:
        hook.remove()
    EncoderChain(model, features)


def test_bad_arguments_are_named():
    model = whisper()
    features = oracle.mel_features(model)
    with pytest.raises(ValueError, match=r"features must be \(8, 14\), mels x frames; got \(14, 8\)"):
        EncoderChain(model, features.T)
    with pytest.raises(ValueError, match=r"got \(2, 8, 14\)"):
        EncoderChain(model, features.expand(2, -1, -1))
    with pytest.raises(ValueError, match="share a dtype"):
        EncoderChain(model, features.float())
    with pytest.raises(ValueError, match="float32 or float64"):
        EncoderChain(model, features.half())
    poisoned = features.clone()
    poisoned[3, 4] = float("inf")
    with pytest.raises(NonFiniteError, match="features must be finite"):
        EncoderChain(model, poisoned)
    chain = EncoderChain(model, features)
    with pytest.raises(ValueError, match=r"layer must lie in \[1, 3\]; got 0"):
        chain.injects(0)
    with pytest.raises(ValueError, match=r"position must lie in \[-7, 7\); got 7"):
        chain.context_jacobian(1, 7)
    with pytest.raises(ValueError, match="1 <= first <= last <= 3"):
        chain.block_injection(3, 2)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_one_injection_of_a_wide_encoder_is_measured_by_iteration_as_by_its_rows(monkeypatch, seed):
    chain, *_ = chain_of()
    by_rows = measure_position_layers(chain, 4)
    spent = chain.products
    monkeypatch.setattr(propagators, "DENSE_ROWS", 0)
    monkeypatch.setattr(krylov, "DENSE_ROWS", 0)
    monkeypatch.setattr(chain, "position_blocks", None)
    found = measure_position_layers(chain, 4, seed=seed)
    assert chain.products > spent
    for ours, exact in zip(found, by_rows, strict=True):
        assert ours.injection_converged
        assert ours.arrival_converged
        # Values are right to the square of the residual's tolerance, 1e-8; norms of products to rounding.
        for name in ("injection_norm", "injection_along", "injection_across", "arrival", "sigma", "gap"):
            assert getattr(ours, name) == pytest.approx(getattr(exact, name), rel=1e-12, abs=0)


def test_a_frame_of_the_stem_sees_five_frames_of_the_log_mel():
    chain, *_ = chain_of()
    length = chain.features.shape[1]
    for frame in (1, 3):
        cotangent = torch.zeros((1, FRAMES, WIDTH), dtype=torch.float64)
        cotangent[0, frame] = 1.0
        seen = chain.stem.pull(cotangent)[0].abs().sum(0).nonzero()[:, 0].tolist()
        assert seen == [at for at in range(2 * frame - 2, 2 * frame + 3) if 0 <= at < length]
