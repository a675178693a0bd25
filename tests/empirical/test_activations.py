"""Activations are what the modules put out, and nothing is left on the model afterwards."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from empirical.activations import COMPONENTS, _keep, capture, capture_batch, capture_encoder
from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint
from empirical.recognition.transcribe import encode, encoder_states
from tests.helpers.tiny_whisper import write_tiny_whisper

torch.set_num_threads(1)

TOKENS = [280, 281, 284, 288, 20, 31, 42, 5, 7]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(write_tiny_whisper(tmp_path_factory.mktemp("activations") / "w"), dtype="float64")


@pytest.fixture(scope="module")
def states(checkpoint: Checkpoint) -> torch.Tensor:
    sound = (0.1 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32)
    return encoder_states(checkpoint, encode(checkpoint, sound)[0])


@pytest.fixture(autouse=True)
def nothing_is_left_on_the_model(checkpoint: Checkpoint) -> Iterator[None]:
    yield
    # transformers leaves hooks of its own behind where hidden states were asked for.
    hooks = [hook for module in checkpoint.model.modules() for hook in module._forward_hooks.values()]
    assert not any(getattr(hook, "func", None) is _keep for hook in hooks)


def residual_streams(checkpoint: Checkpoint, states: torch.Tensor) -> list[torch.Tensor]:
    """h_0 .. h_{L-1} of the model itself; the last is reported only behind the final norm."""
    out = checkpoint.model.model.decoder(
        input_ids=torch.tensor([TOKENS]), encoder_hidden_states=states, output_hidden_states=True, use_cache=False
    )
    return [each[0] for each in out.hidden_states]


def test_every_component_of_every_layer_has_one_row_a_token(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    found = capture(checkpoint, states, TOKENS)
    assert set(found) == {(component, layer) for component in COMPONENTS for layer in (1, 2, 3)}
    assert all(x.shape == (len(TOKENS), 16) and x.dtype == np.float32 for x in found.values())
    assert all(np.isfinite(x).all() for x in found.values())


def test_the_three_components_add_up_to_the_residual_stream(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    found = capture(checkpoint, states, TOKENS)
    streams = residual_streams(checkpoint, states)
    for layer in (1, 2):
        step = sum(found[component, layer].astype(np.float64) for component in COMPONENTS)
        expected = (streams[layer] - streams[layer - 1]).numpy()
        # Three float32 roundings of numbers of the size of the components.
        scale = max(np.abs(found[component, layer]).max() for component in COMPONENTS)
        np.testing.assert_allclose(step, expected, atol=3 * 2**-24 * scale)


def test_components_are_not_mixed_up(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    found = capture(checkpoint, states, TOKENS)
    other = capture(checkpoint, states.flip(1) * 2, TOKENS)
    # The first layer's self-attention is all that has not seen the context.
    np.testing.assert_array_equal(found["self-attention", 1], other["self-attention", 1])
    assert not np.allclose(found["cross-attention", 1], other["cross-attention", 1])
    assert not np.allclose(found["feed-forward", 1], other["feed-forward", 1])
    assert not np.allclose(found["self-attention", 2], other["self-attention", 2])


def test_rows_do_not_depend_on_later_tokens(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    whole, part = capture(checkpoint, states, TOKENS), capture(checkpoint, states, TOKENS[:5])
    for key, x in whole.items():
        # A causal model; float64 sums in another order, then one rounding to float32.
        np.testing.assert_allclose(x[:5], part[key], rtol=2**-22, atol=2**-22)


def test_each_row_of_a_batch_is_that_of_its_clip_alone(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    batch = torch.cat([states, states.flip(1), 2 * states])
    tokens = [TOKENS[:4], TOKENS, [*TOKENS, *TOKENS]]
    found = capture_batch(checkpoint, batch, tokens, (*COMPONENTS, "hidden"))
    for row, own, along in zip(found, batch.split(1), tokens, strict=True):
        alone = capture(checkpoint, own, along, (*COMPONENTS, "hidden"))
        assert row.keys() == alone.keys()
        for key, x in alone.items():
            assert row[key].shape == (len(along), 16)
            # float64 sums in another order, then one rounding to float32.
            np.testing.assert_allclose(row[key], x, rtol=2**-22, atol=2**-22)
    whole, each = {}, {}
    assert capture_batch(checkpoint, batch, tokens, into=whole) == [{}, {}, {}]
    for own, along in zip(batch.split(1), tokens, strict=True):
        capture(checkpoint, own, along, into=each)
    for key, sums in whole.items():
        assert sums.n == each[key].n == sum(map(len, tokens))
        scale = np.abs(each[key].covariance()).max()
        assert np.allclose(sums.covariance(), each[key].covariance(), rtol=0, atol=1e-13 * scale)
    assert capture_batch(checkpoint, batch[:0], []) == []


def test_wrong_shapes_and_tokens_are_refused(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    for bad in (states[0], states.expand(2, -1, -1), states[:, :50]):
        with pytest.raises(ValueError, match=r"encoder_states must have shape \(1, 100, 16\); got"):
            capture(checkpoint, bad, TOKENS)
    with pytest.raises(ValueError, match="tokens must number 1 to 48; got 0"):
        capture(checkpoint, states, [])
    with pytest.raises(ValueError, match="tokens must number 1 to 48; got 49"):
        capture(checkpoint, states, [1] * 49)
    with pytest.raises(ValueError, match=r"tokens must lie in \[0, 289\); got 3 to 289"):
        capture(checkpoint, states, [3, 289])


def test_hooks_are_removed_when_the_pass_fails(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    decoder = checkpoint.model.model.decoder
    layer = decoder.layers[1]

    def fail(*_: object) -> None:
        raise RuntimeError("inside the pass")

    handle = layer.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="inside the pass"):
            capture(checkpoint, states, TOKENS)
    finally:
        handle.remove()


def test_another_model_of_the_same_checkpoint_is_the_one_captured(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    before = capture(checkpoint, states, TOKENS)
    changed = copy.deepcopy(checkpoint.model)
    with torch.no_grad():
        changed.model.decoder.layers[2].fc2.weight.zero_()
        changed.model.decoder.layers[2].fc2.bias.fill_(2.0)
    after = capture(checkpoint.with_model(changed, "changed"), states, TOKENS)
    assert (after["feed-forward", 3] == 2).all()
    np.testing.assert_array_equal(before["cross-attention", 3], after["cross-attention", 3])
    assert checkpoint.with_model(changed, "changed").notes == ("changed",)
    assert checkpoint.notes == ()


def test_hidden_is_the_residual_stream_behind_a_layer(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    found = capture(checkpoint, states, TOKENS, ("hidden",))
    streams = residual_streams(checkpoint, states)
    for layer in (1, 2):
        assert np.array_equal(found["hidden", layer], streams[layer].float().numpy())


def test_sums_of_shards_are_those_of_all_rows(checkpoint: Checkpoint, states: torch.Tensor) -> None:
    halves, whole = {}, {}
    longer = [*TOKENS, *TOKENS]
    for tokens in (TOKENS, longer):
        one: dict = {}
        assert capture(checkpoint, states, tokens, into=one) == {}
        halves = {key: halves[key].merge(sums) if halves else sums for key, sums in one.items()}
        capture(checkpoint, states, tokens, into=whole)
    rows = [capture(checkpoint, states, tokens) for tokens in (TOKENS, longer)]
    for key, sums in whole.items():
        assert sums.n == halves[key].n == len(TOKENS) + len(longer)
        expected = np.cov(np.concatenate([each[key] for each in rows]).astype(np.float64), rowvar=False)
        # The rows compared with are rounded to float32: 2**-24 of each factor, and cancellation of the mean.
        scale = np.abs(expected).max()
        assert np.allclose(sums.covariance(), halves[key].covariance(), rtol=0, atol=1e-13 * scale)
        assert np.allclose(sums.covariance(), expected, rtol=0, atol=1e-6 * scale)


def test_encoder_components_add_up_to_its_stream_and_padding_is_left_out(checkpoint: Checkpoint) -> None:
    sound = (0.1 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32)
    features = encode(checkpoint, sound)[0]
    found = capture_encoder(checkpoint, features, ("self-attention", "feed-forward", "hidden"))
    depth, frames = checkpoint.model.config.encoder_layers, checkpoint.model.config.max_source_positions
    for layer in range(2, depth + 1):
        step = found["hidden", layer].astype(np.float64) - found["hidden", layer - 1]
        parts = found["self-attention", layer].astype(np.float64) + found["feed-forward", layer]
        # Three numbers rounded to float32 each, 2**-24 of their size.
        assert np.allclose(step, parts, rtol=0, atol=4 * 2.0**-24 * np.abs(found["hidden", layer]).max())
    few = capture_encoder(checkpoint, features, frames=75)
    assert all(np.array_equal(x, found[key][:75]) for key, x in few.items())
    for arguments, message in (
        ({"frames": 0}, r"frames must lie in"),
        ({"components": ("fc3",)}, "components must be"),
    ):
        with pytest.raises(ValueError, match=message):
            capture_encoder(checkpoint, features, **arguments)
    with pytest.raises(ValueError, match="features must have shape"):
        capture_encoder(checkpoint, features[:, :, :-1])
    assert found["hidden", 1].shape == (frames, checkpoint.model.config.d_model)
