"""The model as a pure function: equal to transformers' own by every attention, to `generate`, and differentiable."""

from __future__ import annotations

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from empirical.checkpoints.checkpoint import load_checkpoint
from empirical.organism import list_organisms
from empirical.recognition.forward import ForwardError, WhisperFunction, check_determinism, rounding_bound
from tests.empirical import jacobian_models as oracle

TOKENS = [1, 7, 3, 22, 5]
EPS = torch.finfo(torch.float64).eps


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def bound_of(model: WhisperForConditionalGeneration) -> float:
    config = model.config
    return rounding_bound(model.dtype, config.encoder_layers + config.decoder_layers, config.d_model)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("width", "heads", "encoder_depth", "depth", "frames", "mels", "tokens"),
    [
        (8, 1, 1, 1, 3, 1, 1),
        (12, 2, 3, 1, 9, 8, 5),
        (12, 6, 1, 4, 10, 5, 16),
        (64, 4, 2, 2, 31, 80, 2),
        (40, 5, 2, 3, 50, 128, 9),
    ],
)
def test_logits_equal_the_models_own_by_each_attention(
    attention, dtype, width, heads, encoder_depth, depth, frames, mels, tokens
):
    sizes = {"width": width, "heads": heads, "encoder_depth": encoder_depth, "depth": depth, "frames": frames}
    model = oracle.small_whisper(dtype, **sizes, mels=mels, attention=attention)
    features = oracle.mel_features(model)[None].repeat(3, 1, 1)
    features[1:] *= -0.5
    ids = torch.randint(0, 30, (3, tokens), generator=torch.Generator().manual_seed(tokens))
    own = model(input_features=features, decoder_input_ids=ids, use_cache=False).logits
    assert relative(WhisperFunction(model).logits(features, ids), own) < bound_of(model)


def test_the_last_tokens_do_not_reach_the_first_logits():
    model = oracle.small_whisper(torch.float64)
    function, states = WhisperFunction(model), oracle.encoder_states(model)[None]
    whole, cut = function.decode(states, TOKENS), function.decode(states, TOKENS[:3])
    torch.testing.assert_close(whole[:, :3], cut, rtol=0, atol=64 * EPS * float(cut.abs().max()))
    other = function.decode(states, [*TOKENS[:4], 9])
    assert torch.equal(other[:, :4], whole[:, :4]) and not torch.equal(other[:, 4], whole[:, 4])


def test_a_batch_of_token_rows_is_each_row_by_itself():
    model = oracle.small_whisper(torch.float64)
    function, states = WhisperFunction(model), oracle.encoder_states(model)
    rows = torch.tensor([[1, 7, 3], [4, 4, 4], [9, 2, 0]])
    several = torch.stack([states, 2 * states, -states])
    close = {"rtol": 0, "atol": 512 * EPS * float(function.decode(several, rows).abs().max())}
    for n, row in enumerate(rows):
        alone = function.decode(several[n : n + 1], row)[0]
        torch.testing.assert_close(function.decode(several, rows)[n], alone, **close)
        torch.testing.assert_close(function.decode(several, row)[n], alone, **close)  # one row of tokens for all
        expanded = function.decode(states[None], rows)[n]  # one row of states for all
        torch.testing.assert_close(expanded, function.decode(states[None], row)[0], **close)
    with pytest.raises(ValueError, match="as many rows, or one of them 1; got 3 and 2"):
        function.decode(several, rows[:2])


def test_torch_func_differentiates_it_in_features_and_in_states():
    model = oracle.small_whisper(torch.float64, width=8, depth=2, frames=5, encoder_depth=2)
    function, features = WhisperFunction(model), oracle.mel_features(model)[None]
    states = function.encode(features)
    generator = torch.Generator().manual_seed(4)
    for at, run in (
        (features, lambda c: function.logits(c, TOKENS)[0, -1]),
        (states, lambda e: function.decode(e, TOKENS)[0, -1]),
    ):
        oracle_jacobian = torch.autograd.functional.jacobian(run, at)
        reverse = torch.func.jacrev(run, chunk_size=7)(at)
        assert relative(reverse, oracle_jacobian) < 1e-13
        tangent = torch.randn(at.shape, generator=generator, dtype=torch.float64)
        value, forward = torch.func.jvp(run, (at,), (tangent,))
        flat = oracle_jacobian.flatten(1)
        assert torch.equal(value, run(at))
        assert relative(forward, flat @ tangent.flatten()) < 1e-12
        _, pull = torch.func.vjp(run, at)
        assert relative(pull(value)[0].flatten(), flat.T @ value) < 1e-12


def test_a_call_leaves_nothing_behind():
    model = oracle.small_whisper(torch.float32, seed=21)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    try:
        function = WhisperFunction(model)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        drawn = torch.get_rng_state()
        states = oracle.encoder_states(model)[None].requires_grad_(True)
        (gradient,) = torch.autograd.grad(function.decode(states, TOKENS).sum(), states)
        assert torch.isfinite(gradient).all() and states.grad is None
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert torch.equal(drawn, torch.get_rng_state()) and torch.is_grad_enabled() and not model.training
        assert model.config._attn_implementation == "eager"
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(False)


@pytest.mark.parametrize("name", sorted(info.name for info in list_organisms()))
def test_logits_equal_those_of_generates_greedy_path(name):
    path = next(info.path for info in list_organisms() if info.name == name)
    checkpoint = load_checkpoint(str(path), dtype="float32")
    model, function = checkpoint.model, WhisperFunction(checkpoint.model)
    shape = (1, model.config.num_mel_bins, 2 * model.config.max_source_positions)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = model.generate(
            features,
            max_new_tokens=12,
            return_dict_in_generate=True,
            output_logits=True,
            force_unique_generate_call=True,
        )
        sequence = out.sequences[0]
        prompt = len(sequence) - len(out.logits)
        logits = function.logits(features, sequence[:-1])[0, prompt - 1 :]
    own = torch.cat(out.logits)  # with a cache, one token at a time
    assert len(own) >= 2
    assert relative(logits, own) < bound_of(model)
    assert check_determinism(function) < bound_of(model)


def test_a_model_that_is_no_function_is_found_out(monkeypatch):
    model = oracle.small_whisper(torch.float64, seed=22)
    function = WhisperFunction(model)
    assert check_determinism(function) < bound_of(model)
    layer = model.model.decoder.layers[1]
    hook = layer.fc1.register_forward_hook(lambda _m, _i, out: out + 1e-12 * torch.rand(()))
    try:
        with pytest.raises(ForwardError, match="same bits twice"):
            check_determinism(function)
    finally:
        hook.remove()
    hook = layer.register_forward_hook(lambda _m, _i, out: out * 1.0001)  # seen by the model's own pass alone
    try:
        with pytest.raises(ForwardError, match="reproduce the model's own logits"):
            check_determinism(function)
    finally:
        hook.remove()
    layer.fc2.train()
    try:
        with pytest.raises(ValueError, match=r"eval mode; got training mode in model\.decoder\.layers\.1\.fc2"):
            check_determinism(function)
        with pytest.raises(ValueError, match="eval mode"):
            WhisperFunction(model)
    finally:
        model.eval()
    kept = layer.fc1.weight[0, 0].clone()
    layer.fc1.weight[0, 0] = float("nan")
    try:
        with pytest.raises(ForwardError, match="logits must be finite; got 30 of 30"):
            check_determinism(function)
    finally:
        layer.fc1.weight[0, 0] = kept


def test_bad_arguments_are_named():
    model = oracle.small_whisper(torch.float64)
    function, states = WhisperFunction(model), oracle.encoder_states(model)[None]
    features = oracle.mel_features(model)[None]
    with pytest.raises(ValueError, match=r"features must be \(b, 8, 18\); got \(8, 18\)"):
        function.encode(features[0])
    with pytest.raises(ValueError, match=r"features must have the model's dtype torch.float64; got torch.float32"):
        function.encode(features.float())
    with pytest.raises(ValueError, match=r"states must be \(b, frames, 12\)"):
        function.decode(states[0], TOKENS)
    with pytest.raises(ValueError, match=r"T in \[1, 16\]; got \(1, 0\)"):
        function.decode(states, [])
    with pytest.raises(ValueError, match=r"got \(1, 17\)"):
        function.decode(states, [1] * 17)
    with pytest.raises(ValueError, match=r"lie in \[0, 30\); got -1 to 30"):
        function.decode(states, [-1, 30])
    with pytest.raises(ValueError, match="float32 or float64"):
        WhisperFunction(oracle.small_whisper(torch.float32, seed=23).to(torch.float16))
